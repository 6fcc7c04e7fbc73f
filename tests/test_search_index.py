"""The search index that is built with the site."""

import json
from pathlib import Path

import pytest

SITE = Path(__file__).parent.parent / "_build" / "html"


@pytest.mark.skipif(not SITE.exists(), reason="the book is not built")
def test_the_index_is_beside_the_pages_and_names_its_files():
    entry = json.loads((SITE / "pagefind/pagefind-entry.json").read_text())
    (language,) = entry["languages"].values()
    assert language["page_count"] >= len(list(SITE.glob("chapters/[0-9]*.html")))
    assert list(SITE.glob("pagefind/index/*.pf_index")) and list(SITE.glob("pagefind/fragment/*"))
    assert all(path.stat().st_size for path in SITE.glob("pagefind/**/*"))
