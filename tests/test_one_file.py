"""The whole book as one Markdown file, against the notebooks it is made of."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SITE = ROOT / "_build" / "html"
pytestmark = pytest.mark.skipif(not SITE.exists(), reason="the book is not built")


def test_every_page_is_in_it_with_its_words_its_code_and_what_was_printed():
    book = (SITE / "book.md").read_text(encoding="utf-8")
    pages = re.findall(r"file: (\S+)", (ROOT / "_toc.yml").read_text())
    assert re.findall(r"^<!-- (\S+) -->$", book, re.MULTILINE) == ["index", *pages]
    for path in (ROOT / "chapters").glob("[0-9]*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        assert "".join(cells[-1]["source"]) in book
        printed = [
            "".join(output["text"]).rstrip()
            for cell in cells
            for output in cell.get("outputs", [])
            if output.get("text") and "check" not in cell["metadata"].get("tags", [])
        ]
        assert printed and all(text in book for text in printed)


def test_llms_txt_lists_every_page_that_was_built():
    listed = re.findall(r"\]\((\S+\.html)\)", (SITE / "llms.txt").read_text(encoding="utf-8"))
    assert len(listed) > 20 and all((SITE / page).exists() for page in listed)
