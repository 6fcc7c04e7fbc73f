"""The built pages, in a real Chromium: weight, speed, access, predictions, explorers, search."""

import html
import re
import statistics
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin

import numpy as np
import pytest
import torch
from axe import newest
from axe_playwright_python.sync_playwright import Axe
from chromium import launch
from matplotlib.colors import to_rgb
from playwright.sync_api import sync_playwright
from search_queries import QUERIES
from site_server import serve
from subset_math_font import missing_characters
from torch import nn
from torch.nn import functional as F
from torchmetrics.functional.classification import multiclass_calibration_error

from utils.plotting import EVAL, OTHER, TRAIN, TRUTH

SITE = Path(__file__).parent.parent / "_build" / "html"
PAGES = sorted(str(p.relative_to(SITE)) for p in SITE.rglob("*.html") if "_static" not in p.parts)
CHAPTERS = [page for page in PAGES if page.startswith("chapters/")]
OBSERVE = """
window.shift = 0; window.painted = 0;
new PerformanceObserver(list => list.getEntries().forEach(e => { if (!e.hadRecentInput) shift += e.value }))
  .observe({type: "layout-shift", buffered: true});
new PerformanceObserver(list => list.getEntries().forEach(e => { painted = e.startTime }))
  .observe({type: "largest-contentful-paint", buffered: true});
"""

each_page = pytest.mark.parametrize("name", PAGES)
each_chapter = pytest.mark.parametrize("name", CHAPTERS)


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        yield launch(playwright)


@pytest.fixture(scope="module")
def base():
    return serve(SITE)


@pytest.fixture
def visit(browser, base):
    """Open a page in a context of its own; `seen` collects what it asked for and what failed."""
    contexts = []

    def open_page(
        name, *, width=1400, theme="light", predictions="asked", cpu=1, slow=False, **options
    ):
        context = options.pop("context", None)
        if context is None:
            context = browser.new_context(
                viewport={"width": width, "height": 900}, reduced_motion="reduce", **options
            )
            stored = {"mode": theme, "theme": theme, "predictions": predictions}
            context.add_init_script(
                OBSERVE
                + "".join(
                    f'try {{ localStorage.setItem("{k}", "{v}") }} catch {{}}\n'
                    for k, v in stored.items()
                )
            )
            contexts.append(context)
        page = context.new_page()
        seen = page.seen = {"bytes": {}, "outside": [], "errors": []}
        session = context.new_cdp_session(page)
        session.send("Network.enable")
        session.send("Emulation.setCPUThrottlingRate", {"rate": cpu})
        if slow:
            rate = 1.6e6 / 8
            session.send(
                "Network.emulateNetworkConditions",
                {
                    "offline": False,
                    "latency": 150,
                    "downloadThroughput": rate,
                    "uploadThroughput": rate,
                },
            )
        urls = {}

        def requested(event):
            url = urls[event["requestId"]] = event["request"]["url"]
            if not url.startswith((base, "data:", "blob:", "file:")):
                seen["outside"].append(url)

        def finished(event):
            url = urls.get(event["requestId"], "")
            if event["encodedDataLength"] and not url.startswith("data:"):
                seen["bytes"][url] = event["encodedDataLength"]

        session.on("Network.requestWillBeSent", requested)
        session.on("Network.loadingFinished", finished)
        page.on("pageerror", lambda error: seen["errors"].append(str(error)))
        page.on("requestfailed", lambda request: seen["errors"].append(request.url))
        page.on("console", lambda m: seen["errors"].append(m.text) if m.type == "error" else None)
        page.goto(name if "://" in name else f"{base}/{name}", wait_until="load")
        page.wait_for_timeout(150)
        return page

    yield open_page
    for context in contexts:
        context.close()


# Weight and speed


@each_page
def test_a_page_is_light_whole_and_asks_nobody_else(visit, name):
    page = visit(name)
    seen = page.seen
    figures = sum(size for url, size in seen["bytes"].items() if "/_images/" in url)
    total = sum(seen["bytes"].values())
    print(
        f"{name}: {(total - figures) / 1000:.0f} kB + figures {figures / 1000:.0f} kB, {len(seen['bytes'])} requests"
    )
    assert seen["outside"] == [] and seen["errors"] == []
    assert total - figures <= 250_000 and total <= 400_000
    assert len(seen["bytes"]) <= 30
    assert page.evaluate("shift") < 0.02


def test_a_second_page_costs_little(visit):
    first = visit(CHAPTERS[1])
    second = visit(CHAPTERS[2], context=first.context)
    figures = sum(size for url, size in second.seen["bytes"].items() if "/_images/" in url)
    assert sum(second.seen["bytes"].values()) - figures <= 60_000
    again = visit(CHAPTERS[2], context=first.context)
    assert sum(again.seen["bytes"].values()) <= 60_000


@each_page
def test_nothing_but_one_style_sheet_blocks_the_first_paint(visit, name):
    page = visit(name)
    scripts = "script[src]:not([defer]):not([async]):not([type=module])"
    assert page.locator(scripts).count() == 0
    assert page.locator("link[rel=stylesheet]").count() == 1
    assert page.locator("img:not([loading=lazy])").count() <= 2  # the logo


def test_the_site_is_small_and_ships_nothing_unused():
    files = [path for path in SITE.rglob("*") if path.is_file()]
    pages, paper = (
        [p for p in files if p.suffix == ".html"],
        [p for p in files if p.suffix == ".pdf"],
    )
    size = sum(path.stat().st_size for path in files if path not in paper)
    assert size < 1e6 * len(pages)
    assert sum(path.stat().st_size for path in paper) < 6e6
    used = "".join(path.read_text() for path in files if path.suffix in {".html", ".css", ".js"})
    static = [path for path in files if "_static" in path.parts]
    assert [
        path.name for path in static if path.name not in used and path.name != "preview.png"
    ] == []


# Access


ONE_TOKEN_OF_A_KIND = """
const seen = new Set();
const alike = [...document.querySelectorAll("pre span:not(:has(*))")].filter(e => {
  const kind = [e.className, e.closest("pre").parentElement.className, e.checkVisibility()].join();
  return seen.has(kind) || !seen.add(kind);
});
alike.forEach(e => e.replaceWith(e.textContent));
document.querySelectorAll("pre").forEach(e => e.normalize());
"""


SCRIPT = newest()
AXE = Axe.from_file(SCRIPT) if SCRIPT else Axe()


def violations(page):
    # Three in four elements of a chapter are tokens of code, of some thirty kinds. One of each is
    # enough, and four times as fast.
    page.evaluate(f"(() => {{{ONE_TOKEN_OF_A_KIND}}})()")
    found = AXE.run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [(v["id"], [node["html"][:120] for node in v["nodes"][:3]]) for v in found]


def violations_in_both_themes(page):
    found = []
    for theme in ("light", "dark"):
        page.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
        found += [(theme, *violation) for violation in violations(page)]
    return found


@pytest.mark.parametrize("width", [390, 1400])
@each_page
def test_axe_finds_nothing_with_everything_open(visit, name, width):
    page = visit(name, width=width, predictions="shown")
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    page.wait_for_timeout(200)
    assert violations_in_both_themes(page) == []


@each_chapter
def test_axe_finds_nothing_before_and_after_a_guess(visit, name):
    page = visit(name, width=390)
    assert violations_in_both_themes(page) == []
    answer(page)
    assert violations_in_both_themes(page) == []


@each_chapter
def test_guesses_survive_a_reload_and_are_counted_at_the_end(visit, name):
    page = visit(name)
    forms = page.locator(".prediction-form").count()
    answer(page)
    said = page.locator(".prediction-verdict").first.text_content()
    page.reload()
    page.wait_for_timeout(100)
    assert page.locator(".prediction-verdict").first.text_content() == said
    assert page.locator(".prediction-form").count() == forms - 1
    tally = page.locator(".prediction-tally")
    assert re.match(rf"Of your 1 guess in this chapter, [01] .+ {forms - 1} ", tally.text_content())
    tally.locator("button").click()
    page.wait_for_function(f"document.querySelectorAll('.prediction-form').length === {forms}")


@pytest.mark.parametrize("predictions", ["asked", "shown"])
@each_page
def test_no_page_scrolls_sideways_on_the_smallest_screen(visit, name, predictions):
    page = visit(name, width=320, predictions=predictions)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= 320


def test_the_contents_beside_a_page_are_not_cut_off(visit):
    page = visit("reference/what_is_going_wrong.html", width=1280)
    wide, shown = page.evaluate(
        "[e => e.scrollWidth, e => e.clientWidth].map("
        "f => f(document.querySelector('.bd-sidebar-secondary')))"
    )
    assert wide <= shown


@each_chapter
def test_scrolling_boxes_can_be_reached_from_the_keyboard(visit, name):
    page = visit(name, width=390, predictions="shown")
    page.wait_for_timeout(200)
    assert (
        page.evaluate("""[...document.querySelectorAll(".bd-article *")].filter(e =>
        e.scrollWidth > e.clientWidth + 1 && ["auto", "scroll"].includes(getComputedStyle(e).overflowX)
        && e.clientWidth && e.tabIndex < 0 && !e.querySelector("a, button, input")).map(e => e.outerHTML.slice(0, 90))""")
        == []
    )


def test_focus_is_visible_and_moves_through_the_page(visit):
    page = visit("index.html")
    stops = []
    for _ in range(25):
        page.keyboard.press("Tab")
        stops.append(
            page.evaluate("""(() => { const e = document.activeElement, s = getComputedStyle(e);
            return [e.outerHTML.slice(0, 60), s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2] })()""")
        )
    assert len({stop for stop, _ in stops}) > 15
    assert [stop for stop, visible in stops if not visible] == []


def luminance(rgb):
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("color", [TRAIN, EVAL, TRUTH, OTHER, "black"])
def test_figures_are_legible_on_a_dark_page(visit, color):
    page = visit("chapters/03_batch_norm.html", theme="dark", predictions="shown")
    style = page.evaluate("getComputedStyle(document.querySelector('figure img')).filter")
    amount, turn = (
        float(n) for n in re.fullmatch(r"invert\(([\d.]+)\) hue-rotate\((\d+)deg\)", style).groups()
    )
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    background = np.array([int(n) / 255 for n in re.findall(r"\d+", ground)[:3]])
    rgb = np.array(to_rgb(color))
    rgb = amount * (1 - rgb) + (1 - amount) * rgb
    cos, sin = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    weights = np.array([0.213, 0.715, 0.072])
    turned = np.array([[0, -0.283, 0.928], [0.143, 0.140, -0.283], [-0.787, 0.715, 0.072]])
    matrix = (
        np.outer(np.ones(3), weights)
        + cos * (np.eye(3) - np.outer(np.ones(3), weights))
        + sin * turned
    )
    shown = luminance(np.clip(matrix @ rgb, 0, 1))
    assert (shown + 0.05) / (luminance(background) + 0.05) >= 4.5


@each_page
def test_pictures_say_what_they_show(visit, name):
    page = visit(name)
    for alt in page.eval_on_selector_all("article img", "all => all.map(i => i.alt)"):
        assert len(alt.split()) >= 8 and ".svg" not in alt


# Without a script, on paper, from a folder


@each_chapter
def test_without_javascript_everything_shows(visit, name):
    page = visit(name, java_script_enabled=False, predictions="asked")
    article = page.locator("article").first
    assert article.locator(".tag_prediction").first.is_visible()
    hidden = [
        p for p in article.locator("section p").all() if not p.is_visible() and not in_details(p)
    ]
    assert hidden == []
    assert all(image.is_visible() for image in article.locator("figure img").all())
    assert all(table.is_visible() for table in article.locator(".explorer table").all())
    article.locator("details.choice summary").first.click()
    assert article.locator("details.choice[open]").count() == 1


def in_details(locator):
    return locator.evaluate("e => !!e.closest('details')")


@each_chapter
def test_on_paper_everything_shows(visit, name):
    page = visit(name)
    page.emulate_media(media="print")
    assert (
        page.evaluate("""[...document.querySelectorAll("article section > *, article .cell pre")]
        .filter(e => !e.closest(".explorer") && !e.matches(".prediction-form")
            && !e.checkVisibility({ contentVisibilityAuto: true })).map(e => e.outerHTML.slice(0, 90))""")
        == []
    )
    assert not page.locator(".bd-sidebar-primary").is_visible()
    wide = page.evaluate(
        "[...document.querySelectorAll('article pre')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
    )
    assert wide == 0


@pytest.mark.parametrize("name", ["index.html", "chapters/02_dropout.html", "search.html"])
def test_a_folder_opened_without_a_server_works(visit, name):
    page = visit((SITE / name).as_uri())
    assert page.seen["errors"] == [] and page.seen["outside"] == []


def test_search_in_a_folder(visit):
    page = visit((SITE / "search.html").as_uri() + "?q=validation+loss+lower+than+training")
    page.wait_for_selector(".book-search-results li mark")
    found = page.locator(".book-search-results li a").first
    assert found.get_attribute("href").endswith(
        "#validation-loss-is-lower-than-training-loss-is-something-leaking"
    )
    found.click()
    page.wait_for_selector("h1:has-text('What is going wrong')")
    assert page.seen["errors"] == [] and page.seen["outside"] == []


# Links and what previews show


def test_every_internal_link_leads_somewhere():
    ids = {page: set(re.findall(r'\bid="([^"]+)"', (SITE / page).read_text())) for page in PAGES}
    broken = []
    for name in PAGES:
        text = (SITE / name).read_text()
        for link in re.findall(r'(?:href|src)="([^"#?][^"]*|#[^"]+)"', text):
            if re.match(r"(https?|data|mailto):", link):
                continue
            target, anchor = urldefrag(urljoin(f"/{name}", html.unescape(link)))
            target = unquote(target.split("?")[0]).lstrip("/") or "index.html"
            missing = not (SITE / target).exists()
            if missing or (anchor and target in ids and unquote(anchor) not in ids[target]):
                broken.append((name, link))
    assert broken == []


@each_chapter
def test_titles_descriptions_and_neighbours(visit, name):
    page = visit(name)
    heading = page.locator("h1").first.inner_text().replace("#", "").strip()
    assert heading in page.title()
    assert len(page.locator("meta[name=description]").get_attribute("content").split()) > 10
    assert page.locator("meta[property='og:title']").get_attribute("content")
    assert page.locator(".prev-next-footer a").count() >= 1
    assert page.locator(".bd-sidebar-secondary a, .page-toc a").count() > 5
    assert page.locator("button.copybtn").count() > 5


def test_the_404_page_is_useful_at_any_depth(visit):
    page = visit("chapters/deep/nowhere.html")
    page.seen["errors"].clear()  # the status itself
    assert "not found" in page.locator("h1").first.inner_text().lower()
    assert page.evaluate("getComputedStyle(document.body).fontFamily") != '"Times New Roman"'
    assert page.locator("article a[href]").count() >= 2


def test_the_maths_font_has_every_character_in_use():
    assert missing_characters(SITE) == set()


# Predictions


def answer(page, guess=None):
    form = page.locator(".prediction-form").first
    radios = form.locator("input[type=radio]")
    if radios.count():
        (form.get_by_label(guess, exact=True) if guess else radios.first).check()
    else:
        form.locator("input[type=text]").fill(guess or "1")
    form.locator("button[type=submit]").click()


def test_a_guess_comes_before_the_result_and_is_set_beside_it(visit):
    page = visit("chapters/02_dropout.html")
    section = page.locator("section#which-values-come-out")
    assert not section.get_by_text("Two values only").is_visible()
    assert not section.locator("pre", has_text="measured:").is_visible()
    form = section.locator("form")
    form.locator("input[type=text]").press_sequentially("1.3333")
    page.keyboard.press("Enter")
    assert (
        section.locator(".prediction-verdict").inner_text()
        == "You said 1.3333. Measured: 1.3333. As you said."
    )
    assert section.get_by_text("Two values only").is_visible()
    output = section.locator("pre", has_text="measured:").inner_text()
    assert output.startswith("your guess: 1.3333\nmeasured:   1.3333\nas you said")


def test_a_wrong_guess_is_told_and_a_tolerance_is_honoured(visit):
    page = visit("chapters/01_two_modes.html")
    answer(page, "18")  # give or take 5
    assert "As you said" in page.locator(".prediction-verdict").first.inner_text()
    answer(page, "4")
    assert (
        page.locator(".prediction-verdict").nth(1).inner_text()
        == "You said 4. Measured: 7. Not this time."
    )


def test_choices_come_from_the_cell(visit):
    page = visit("chapters/01_two_modes.html")
    labels = page.locator("section#in-which-mode-is-a-module-born label").all_inner_texts()
    assert [label.strip() for label in labels] == ["train", "eval", "mixed"]


@each_chapter
def test_every_prediction_of_a_chapter_can_be_answered(visit, name):
    page = visit(name)
    count = page.locator(".tag_prediction").count()
    assert count >= 4
    for _ in range(count):
        answer(page)
    assert page.locator(".prediction-form").count() == 0
    assert page.locator(".prediction-verdict").count() == count
    assert page.locator("article section > [hidden]").count() == 0
    assert page.seen["errors"] == []


def test_skipping_and_showing_everything(visit):
    page = visit("chapters/03_batch_norm.html")
    count = page.locator(".prediction-form").count()
    page.locator(".prediction-form .skip").first.click()
    assert page.locator(".prediction-form").count() == count - 1
    page.locator(".prediction-form .all").first.click()
    assert page.locator(".prediction-form").count() == 0
    assert page.locator("article section > [hidden]").count() == 0


def test_the_switch_at_the_top_is_kept_for_all_pages(browser, visit):
    page = visit("chapters/03_batch_norm.html", context=browser.new_context())
    ask, show = (page.get_by_role("button", name=n) for n in ("Ask me first", "Just show me"))
    assert ask.get_attribute("aria-pressed") == "true"
    show.click()
    assert page.locator(".prediction-form").count() == 0
    page.goto(page.url.replace("03_batch_norm", "02_dropout"))
    assert show.get_attribute("aria-pressed") == "true"
    assert page.locator(".prediction-form").count() == 0
    ask.click()
    page.wait_for_selector(".prediction-form")


def test_who_arrives_at_a_section_sees_its_answer_and_who_reads_on_is_asked(visit):
    page = visit("chapters/03_batch_norm.html#do-the-statistics-move-under-no-grad")
    section = page.locator("section#do-the-statistics-move-under-no-grad")
    assert section.locator(".prediction-form").count() == 0
    assert section.locator("pre", has_text="measured:").first.is_visible()
    assert page.locator(".prediction-form").count() > 3


def test_a_link_into_a_concealed_part_opens_it(visit):
    page = visit("chapters/03_batch_norm.html#running-mean-lag")
    assert page.locator("#running-mean-lag").is_visible()


# Explorers


def formula(page, call):
    return page.evaluate(f"bookFormulas.{call}")


def test_the_explorers_formulas_are_pytorchs(visit):
    page = visit("chapters/03_batch_norm.html")
    values = [1.0, 3.0, 4.0, 5.0]
    layer = nn.BatchNorm1d(1).double()
    x = torch.tensor(values, dtype=torch.float64).view(-1, 1)
    assert formula(page, f"normalise({values})") == pytest.approx(layer(x).flatten().tolist())

    means = [2.0, 4.0, 9.0]
    layer = nn.BatchNorm1d(1, momentum=0.3).double()
    running = []
    for mean in means:
        layer(torch.tensor([[mean - 1], [mean + 1]], dtype=torch.float64))
        running.append(layer.running_mean.item())
    assert formula(page, f"runningMean({means}, 0.3)") == pytest.approx(running)

    torch.manual_seed(0)
    out = nn.Dropout(0.8)(torch.ones(1_000_000))
    dropout = formula(page, "dropout(0.8, 1)")
    assert dropout["survivor"] == pytest.approx(out.max().item())
    assert dropout["deviation"] == pytest.approx(out.std().item(), rel=0.01)

    for momentum in (0.01, 0.1, 0.5, 1):
        steps, mean = 0, 0.0
        while mean < 0.9:
            mean, steps = mean + momentum * (1 - mean), steps + 1
        assert formula(page, f"batchesToCover(0.9, {momentum})") == steps

    noise = torch.randn(200_000, dtype=torch.float64)
    trace, running = [], 0.0
    for value in noise.tolist():
        running += 0.1 * (value - running)
        trace.append(running)
    assert formula(page, "tremble(1, 0.1)") == pytest.approx(statistics.pstdev(trace), rel=0.03)

    losses, sizes = [0.1, 0.1, 0.7], [100, 100, 10]
    each = torch.cat([torch.full((size,), loss) for loss, size in zip(losses, sizes)])
    means = formula(page, f"means({losses}, {sizes})")
    assert means == {
        "ofMeans": pytest.approx(0.3),
        "overSamples": pytest.approx(each.mean().item()),
    }


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.4])
def test_the_explorers_calibration_is_torchmetrics(visit, temperature):
    page = visit("chapters/12_how_sure.html")
    torch.manual_seed(0)
    scores, labels = 3 * torch.randn(500, 3, dtype=torch.float64), torch.randint(3, (500,))
    found = formula(page, f"calibration({scores.tolist()}, {labels.tolist()}, {temperature})")
    cooled = scores / temperature
    expected = multiclass_calibration_error(cooled.softmax(1), labels, 3, n_bins=10).item()
    assert found["ece"] == pytest.approx(expected, abs=1e-6)
    assert found["loss"] == pytest.approx(F.cross_entropy(cooled, labels).item())
    assert found["right"] == (scores.argmax(1) == labels).double().mean().item()


@pytest.mark.parametrize("gradients", ["grad", "no_grad", "inference"])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_the_switchboard_says_what_pytorch_does(visit, mode, gradients):
    context = {
        "grad": torch.enable_grad,
        "no_grad": torch.no_grad,
        "inference": torch.inference_mode,
    }
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout()).train(mode == "train")
    x, before = torch.randn(8, 4), net[1].running_mean.clone()
    with context[gradients]():
        one, two = net(x), net(x)
    measured = {
        "noisy": not torch.equal(one, two),
        "moves": not torch.equal(before, net[1].running_mean),
        "graph": one.requires_grad,
        "memory": one.grad_fn is not None,
        "barred": one.is_inference(),
    }
    page = visit("chapters/05_three_switches.html")
    assert formula(page, f"switches('{mode}', '{gradients}')") == measured


EXPLORERS = {
    "chapters/02_dropout.html": ["dropout"],
    "chapters/03_batch_norm.html": ["running-mean", "neighbours"],
    "chapters/05_three_switches.html": ["switchboard"],
    "chapters/10_evaluation_loop.html": ["batch-means"],
    "chapters/12_how_sure.html": ["temperature"],
}


@pytest.mark.parametrize(("name", "kinds"), EXPLORERS.items())
def test_explorers_work_from_the_keyboard_and_keep_their_table(visit, name, kinds):
    page = visit(name, width=390, predictions="shown")
    boxes = page.locator(".explorer")
    assert boxes.evaluate_all("all => all.map(e => e.dataset.explorer)") == kinds
    for box in boxes.all():
        assert box.locator("details table").count() == 1
        control = box.locator("input").first
        control.focus()
        before = box.locator(".drawing").inner_html() + box.locator(".says").inner_html()
        for _ in range(3):
            page.keyboard.press("ArrowRight")
        assert box.locator(".drawing").inner_html() + box.locator(".says").inner_html() != before
        assert box.locator(".says").get_attribute("role") == "status"
    assert page.seen["errors"] == []


# The table of every layer


def test_the_table_of_layers_is_the_survey(visit, records):
    page = visit("reference/every_layer.html", java_script_enabled=False)
    rows = page.locator("table.survey tbody tr").evaluate_all(
        "all => all.map(row => [...row.cells].map(cell => cell.textContent.trim()))"
    )
    expected = dict(records)
    assert [row[0] for row in rows] == list(expected)
    for name, differs, decides, random, moves, mixes, rounds in rows:
        record = expected[name]
        assert differs == (record.differs or "not measured") and decides == record.reason
        if record.differs == "inherits":
            assert {random, moves, mixes, rounds} == {"as inside"}
            continue
        for text, modes in (
            (random, record.random_in),
            (moves, record.moves_in),
            (mixes, record.mixes_rows_in),
        ):
            assert tuple(part.split()[0] for part in text.split("; ") if part) == modes
        assert bool(rounds) == (record.differs_by_rounding or record.rounds_without_gradients)


def test_the_table_of_layers_can_be_filtered_and_sorted_from_the_keyboard(visit):
    page = visit("reference/every_layer.html")
    visible = page.locator("table.survey tbody tr:visible")
    assert visible.count() > 160
    page.locator(".table-filter input").press_sequentially("batchnorm sync")
    assert visible.locator("td").first.inner_text() == "SyncBatchNorm" and visible.count() == 1
    assert page.locator(".table-filter [role=status]").inner_text().startswith("1 of ")
    page.locator(".table-filter input").fill("")
    page.locator("table.survey th button", has_text="Output differs").focus()
    page.keyboard.press("Enter")
    column = visible.locator("td:nth-child(2)").all_inner_texts()
    assert column == sorted(column) and column[0] == "always"


# Search


def test_a_search_leads_to_the_section_in_a_dialog(visit):
    page = visit("index.html")
    loaded = dict(page.seen["bytes"])
    page.keyboard.press("Control+k")
    page.keyboard.type("Expected more than 1 value per channel when training")
    page.wait_for_selector("dialog .book-search-results li a", timeout=8000)
    page.wait_for_timeout(500)
    links = page.locator("dialog .book-search-results li a").evaluate_all(
        "all => all.map(a => a.href)"
    )
    assert any("#expected-more-than-1-value" in link for link in links[:3]), links
    fetched = {k: v for k, v in page.seen["bytes"].items() if k not in loaded}
    assert page.seen["outside"] == [] and 0 < sum(fetched.values()) < 200_000


def test_the_right_section_is_among_the_first_three_for_95_of_100_questions(visit):
    page = visit("search.html")
    found = page.evaluate(
        """async (questions) => {
            const found = {};
            for (const question of questions) {
                found[question] = (await bookSearch(question)).map((section) => section.url);
            }
            return found;
        }""",
        list(QUERIES),
    )
    missed = [
        question
        for question, right in QUERIES.items()
        if not any(part in url for url in found[question][:3] for part in right)
    ]
    assert len(QUERIES) >= 120 and len(missed) <= 0.05 * len(QUERIES), missed


def test_a_search_for_nothing_on_earth_says_so(visit):
    page = visit("search.html?q=quokka")
    page.wait_for_function(
        "document.querySelector('.bd-search-container .book-search-results').textContent.includes('Nothing found')"
    )
