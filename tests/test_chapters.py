"""The notebooks themselves: nothing stale, nothing of this machine, nothing unreadable."""

import ast
import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
from exercises import BEGIN, END, stub

ROOT = Path(__file__).parent.parent
CHAPTERS = sorted((ROOT / "chapters").glob("*.ipynb"))
REFERENCE = sorted((ROOT / "reference").glob("*.ipynb"))
NUMBERED = [path for path in CHAPTERS if path.stem[0].isdigit()]
CLOSING = ["What you can say now", "Check yourself", "Exercises", "Where to go next", "Sources"]


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


def source(cell):
    return "".join(cell["source"])


def cells(path, kind):
    return [cell for cell in load(path)["cells"] if cell["cell_type"] == kind]


def tags(cell):
    return cell["metadata"].get("tags", [])


def headings(path):
    found = []
    for cell in cells(path, "markdown"):
        text = re.sub(r"```.*?```", "", source(cell), flags=re.DOTALL)
        found += [
            (len(h), title) for h, title in re.findall(r"^(#+) (.+)$", text, flags=re.MULTILINE)
        ]
    return found


def printed(cell):
    for output in cell["outputs"]:
        yield "".join(output.get("text", []))
        yield "".join(output.get("data", {}).get("text/plain", []))


each_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
each_notebook = pytest.mark.parametrize("path", [*CHAPTERS, *REFERENCE], ids=lambda path: path.stem)
each_numbered = pytest.mark.parametrize("path", NUMBERED, ids=lambda path: path.stem)


def test_the_table_of_contents_has_every_chapter_in_order():
    listed = re.findall(r"file: (chapters/\S+)", (ROOT / "_toc.yml").read_text())
    assert listed == [f"chapters/{path.stem}" for path in NUMBERED]


@each_notebook
def test_outputs_are_stored_and_counts_are_in_order(path):
    counts = [cell["execution_count"] for cell in cells(path, "code")]
    assert counts == list(range(1, len(counts) + 1))


@each_notebook
def test_no_error_no_warning_and_nothing_on_stderr(path):
    for cell in cells(path, "code"):
        for output in cell["outputs"]:
            assert output["output_type"] != "error", source(cell)
            assert output.get("name") != "stderr", output
        if "UserWarning" not in source(cell):  # an expected one is named in its cell
            assert not any("Warning" in text for text in printed(cell)), source(cell)


@each_notebook
def test_nothing_of_this_machine_is_stored(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.])/(?:home|root|tmp|work|usr|Users|opt)/", text)
    assert not re.search(r"0x[0-9a-f]{6,}", text)
    assert "it/s" not in text and "\\r" not in text
    assert set(load(path)["metadata"]) == {"kernelspec", "language_info"}


@each_chapter
def test_every_figure_has_an_alt_text_a_caption_and_a_name_of_its_own(path):
    names = []
    for cell in cells(path, "code"):
        figures = [
            o for o in cell["outputs"] if any(k.startswith("image/") for k in o.get("data", {}))
        ]
        if not figures:
            continue
        assert len(figures) == 1 and "image/svg+xml" in figures[0]["data"]
        meta = cell["metadata"]["mystnb"]
        assert len(meta["image"]["alt"].split()) >= 8, meta
        assert len(meta["figure"]["caption"].split()) >= 8, meta
        assert meta["image"]["alt"] != meta["figure"]["caption"]
        names.append(meta["figure"]["name"])
    assert len(names) == len(set(names)) > 0


def test_figure_names_are_not_used_twice_in_the_book():
    names = re.findall(
        r'"figure": \{[^}]*"name": "([^"]+)"', "".join(p.read_text() for p in CHAPTERS)
    )
    assert len(names) == len(set(names))


@each_notebook
def test_headings_are_in_order(path):
    levels = [level for level, _ in headings(path)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(deeper - level <= 1 for level, deeper in pairwise(levels))


@each_chapter
def test_the_opening_says_what_for_whom_and_how_long(path):
    opening = source(cells(path, "markdown")[0])
    for promise in ("**You will be able to**", "**You need**", "**It takes**", "minutes"):
        assert promise in opening


@each_chapter
def test_the_closing_is_complete_and_in_order(path):
    assert [title for level, title in headings(path) if level == 2][-len(CLOSING) :] == CLOSING


@each_numbered
def test_the_title_has_the_number_of_the_file(path):
    assert headings(path)[0][1].startswith(f"{int(path.stem[:2])}. ")


@each_chapter
def test_each_self_check_question_has_one_right_answer_and_explains_each(path):
    text = "\n".join(source(cell) for cell in cells(path, "markdown"))
    questions = re.split(
        r"^\*\*\d+\.\*\*", text.partition("## Check yourself")[2], flags=re.MULTILINE
    )[1:]
    assert questions
    for question in questions:
        choices = re.findall(
            r'<details class="choice( right)?"><summary>(.+?)</summary>(.+?)</details>', question
        )
        assert len(choices) >= 3
        assert sum(bool(right) for right, _, _ in choices) == 1
        assert all(len(why.split()) >= 5 for _, _, why in choices)


@pytest.mark.parametrize("path", NUMBERED[2:], ids=lambda path: path.stem)
def test_a_question_goes_two_chapters_back(path):
    number = int(path.stem[:2])
    earlier = next(p.name for p in NUMBERED if p.name.startswith(f"{number - 2:02}"))
    text = "\n".join(source(cell) for cell in cells(path, "markdown"))
    assert f"**4.** From [chapter {number - 2}]({earlier}): " in text


@each_chapter
def test_each_exercise_has_a_marked_solution_and_a_check_of_what_the_reader_writes(path):
    code = cells(path, "code")
    exercises = [i for i, cell in enumerate(code) if "exercise" in tags(cell)]
    assert exercises
    for i in exercises:
        text = source(code[i])
        assert stub(text) != text and BEGIN not in stub(text) and END not in stub(text)
        check = code[i + 1]
        assert tags(check) == ["check"] and "check_answer(" in source(check)
        said = "".join(printed(check))
        held, asked = re.search(r"^(\d+) of (\d+)$", said, flags=re.MULTILINE).groups()
        assert held == asked and "not yet" not in said  # of the book's own solution


@each_chapter
def test_each_prediction_is_a_guess_that_a_later_cell_judges(path):
    code = cells(path, "code")
    for i, cell in enumerate(code):
        if "prediction" not in tags(cell):
            continue
        assert re.fullmatch(r'guess = (-?[\d.]+|"[^"]+")  # .+', source(cell)), source(cell)
        # The page reads the choices from the comment; the stored guess must be one of them.
        stored, comment = re.fullmatch(r"guess = (.+?)  # (.+)", source(cell)).groups()
        choices = re.findall(r'"[^"]+"', comment)
        assert not choices or stored in choices
        judged = "".join(text for later in code[i + 1 : i + 4] for text in printed(later))
        found = re.search(r"your guess: (.+)\nmeasured:   (.+?)(?: \(give.+)?\n(.+)", judged)
        assert found and found[1] == stored.strip('"')
        assert not choices or f'"{found[2]}"' in choices
        assert found[3] == "not this time"  # the stored guess is the common wrong answer


def statements(cell):
    """How many statements a cell holds, those inside others counted too."""
    return sum(isinstance(node, ast.stmt) for node in ast.walk(ast.parse(source(cell))))


@each_notebook
def test_cells_read_like_sentences(path):
    code = [cell for cell in cells(path, "code") if "remove-cell" not in tags(cell)]
    counts = sorted(
        statements(cell)
        for cell in code
        if not {"hide-input", "prediction", "exercise", "check"} & set(tags(cell))
    )
    assert counts[len(counts) // 2] <= 5
    assert counts[int(0.9 * len(counts))] < 10
    for line in "\n".join(source(cell) for cell in code).splitlines():
        assert len(line) <= 86, line
        assert not re.match(r"\s*[)\]}].*\s#\s", line), f"a comment behind a bracket: {line}"


@each_notebook
def test_no_value_is_shown_by_accident(path):
    for cell in cells(path, "code"):
        for output in cell["outputs"]:
            if output["output_type"] == "execute_result":
                assert "mode_table" in source(cell).splitlines()[-1], source(cell)


@each_notebook
def test_what_is_defined_is_called(path):
    code = "\n".join(source(cell) for cell in cells(path, "code"))
    for name in re.findall(r"^(?:def|class) (\w+)", code, flags=re.MULTILINE):
        assert len(re.findall(rf"\b{name}\b", code)) > len(
            re.findall(rf"^(?:def|class) {name}\b", code, flags=re.MULTILINE)
        ), name


@each_chapter
def test_the_chapter_runs_in_colab_and_unchanged_here(path):
    first = cells(path, "code")[0]
    assert "remove-cell" in tags(first) and "OWNER/REPOSITORY" in source(first)


@each_numbered
def test_the_landing_page_says_how_long_the_chapter_takes(path):
    minutes = re.search(r"\*\*It takes\*\* (\d+) minutes", source(cells(path, "markdown")[0]))[1]
    row = re.escape(f"](chapters/{path.name}) |")
    assert re.findall(rf"{row} .+ \| (\d+) \|", (ROOT / "index.md").read_text()) == [minutes]


def test_the_landing_page_shows_the_numbers_of_the_first_chapter():
    output = "".join(text for cell in cells(CHAPTERS[0], "code") for text in printed(cell))
    in_eval = re.search(r"eval mode: (\d+) % right", output)[1]
    in_train = re.search(r"measured:   (\d+) ", output)[1]
    page = (ROOT / "index.md").read_text()
    shown = re.findall(r'class="bar (\w+)" style="width: (\d+)%"></div></div><span>(\d+) %', page)
    assert shown == [("train", in_train, in_train), ("eval", in_eval, in_eval)]


@each_chapter
def test_a_page_can_tell_its_guesses_apart(path):
    """A page keeps a guess under the heading above it and the guess's comment."""
    heading, kept = "", []
    for cell in load(path)["cells"]:
        if cell["cell_type"] == "markdown":
            heading = (re.findall(r"^#+ (.+)$", source(cell), flags=re.MULTILINE) or [heading])[-1]
        elif "prediction" in tags(cell):
            kept.append((heading, source(cell).partition("#")[2].strip()))
    assert kept and len(set(kept)) == len(kept)
