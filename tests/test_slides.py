"""Slides show a section's question and what decides it, and ask no other host."""

import re
from pathlib import Path

import nbformat
import pytest
from make_slides import cells_of, make_slides

ROOT = Path(__file__).parent.parent
CHAPTERS = sorted((ROOT / "chapters").glob("[0-9]*.ipynb"))


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_each_section_is_a_slide_and_nothing_of_the_closing_is_one(path):
    notebook = nbformat.read(path, as_version=4)
    text = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    asked = re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
    cells = cells_of(notebook)
    slides = [c.source for c in cells if c.metadata["slideshow"]["slide_type"] == "slide"]
    shown = [re.search(r"^##? (.+)$", slide, flags=re.MULTILINE)[1] for slide in slides]
    wanted = [title for title in asked if title.split()[0] not in ("Check", "Exercises", "Sources")]
    wanted = [title for title in wanted if not title.startswith("Where to go")]
    assert [title for title in shown[1:] if "<math" not in title] == [
        title for title in wanted if "$" not in title
    ]
    code = "\n".join(c.source for c in cells if c.cell_type == "code")
    assert "check_answer(" not in code and "BEGIN SOLUTION" not in code


def test_a_page_asks_no_other_host_and_has_maths_without_a_script(tmp_path):
    page = make_slides(ROOT / "chapters" / "03_batch_norm.ipynb", tmp_path).read_text()
    loaded = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="([^"]+)"', page)
    assert not [address for address in loaded if address.startswith(("http", "//"))]
    assert "<math" in page and "No description has been provided" not in page
    for address in loaded:
        if not address.startswith("data:"):
            assert (ROOT / "instructors" / "slides" / address).exists(), address
