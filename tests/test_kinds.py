"""One table of the kinds of finding: what the tools say, what the book explains."""

import json
import re
from pathlib import Path

import pytest

from utils.kinds import KINDS

ROOT = Path(__file__).parent.parent
SOURCES = "".join(p.read_text() for p in (ROOT / "utils").rglob("*.py") if p.name != "kinds.py")


def test_every_kind_in_the_code_is_in_the_table_and_the_reverse():
    said = set(re.findall(r'(?:add|report|_finding)\(\s*"([a-z-]+)"', SOURCES))
    said |= {f"{call}-not-followed" for call in ("eval", "train")}
    assert said == set(KINDS)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_kind_is_explained_in_a_chapter_that_exists(kind):
    assert list((ROOT / "chapters").glob(f"{kind.chapter}.ipynb"))
    assert len(kind.meaning.split()) >= 5 and len(kind.cure.split()) >= 5
    assert (kind.drawn_at != "") == (kind.found_by == "record")


def test_chapter_6_lists_every_kind_of_the_audit():
    notebook = json.loads((ROOT / "chapters/06_mode_bugs.ipynb").read_text())
    text = "".join("".join(cell["source"]) for cell in notebook["cells"])
    for kind in KINDS.values():
        if kind.found_by == "audit" and not kind.name.startswith("statistics-"):
            assert f"`{kind.name}`" in text, kind.name


def test_cures_name_functions_that_exist():
    import importlib

    for kind in KINDS.values():
        for module, name in re.findall(r"utils\.(\w+)\.(\w+)", kind.cure):
            assert hasattr(importlib.import_module(f"utils.{module}"), name)
