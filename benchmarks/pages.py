"""How soon a chapter's text is painted on a slow machine, beside a page of one paragraph."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks.interleaved import report

ROOT = Path(__file__).parent.parent
SITE = ROOT / "_build" / "html"
EMPTY = "one paragraph and no style sheet"
PAINTED = (
    "window.painted = 0; new PerformanceObserver(list => list.getEntries().forEach("
    "e => { painted = e.startTime })).observe({type: 'largest-contentful-paint', buffered: true})"
)


def run(rounds: int = 5) -> list[str]:
    """Compare the longest chapter and the landing page with a page of one paragraph.

    The processor is slowed down four times. Without a built book nothing is compared.
    """
    chapters = sorted(SITE.glob("chapters/[0-9]*.html"), key=lambda path: path.stat().st_size)
    if not chapters:
        print("\nPages: build the book first (make book).")
        return []
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tools")]
    from chromium import launch
    from playwright.sync_api import sync_playwright
    from site_server import serve

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        Path(folder, "index.html").write_text("<title>Empty</title><p>One paragraph of text.</p>")
        browser = launch(playwright)

        def visit(address: str) -> float:
            context = browser.new_context(viewport={"width": 390, "height": 900})
            context.add_init_script(PAINTED)
            page = context.new_page()
            context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": 4})
            page.goto(address, wait_until="load")
            page.wait_for_function("painted > 0")
            painted: float = page.evaluate("painted")
            context.close()
            return painted

        site, empty = serve(SITE), serve(Path(folder))
        pages: dict[str, Callable[[], float]] = {
            EMPTY: lambda: visit(f"{empty}/index.html"),
            "the landing page": lambda: visit(f"{site}/index.html"),
            f"the longest chapter ({chapters[-1].stem})": lambda: visit(
                f"{site}/chapters/{chapters[-1].name}"
            ),
        }
        times: dict[str, list[float]] = {name: [] for name in pages}
        for _ in range(rounds):
            for name, timed in pages.items():
                times[name].append(timed())
        browser.close()
    base = median(times[EMPTY])
    measured = {name: median(taken) / base for name, taken in times.items()}
    limits = {name: 12.0 for name in pages if name != EMPTY}
    return report("Painting a page", EMPTY, measured, limits)
