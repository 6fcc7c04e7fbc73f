"""Sentences and properties belong together: none without the other."""

import json
import re
from pathlib import Path

import pytest

import properties.test_adaptation
import properties.test_layers
import properties.test_modes_and_gradients
import properties.test_processes
import properties.test_programs
import properties.test_scores  # noqa: F401
from properties.registry import PROPERTIES

CHAPTERS = sorted((Path(__file__).parents[2] / "chapters").glob("[0-9]*.ipynb"))
MARK = re.compile(r" ?\[∀\]\(#([a-z0-9-]+)(?: \"[^\"]*\")?\)")


def marked(path):
    """The text in front of each mark of a chapter, by the name that the mark links to."""
    text = "\n".join(
        "".join(cell["source"])
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
        if cell["cell_type"] == "markdown"
    )
    return {found[1]: text[: found.start()] for found in MARK.finditer(text)}


def test_each_mark_has_a_property_and_each_property_a_mark():
    names = [name for path in CHAPTERS for name in marked(path)]
    assert sorted(names) == sorted(PROPERTIES)


@pytest.mark.parametrize("name", sorted(PROPERTIES))
def test_the_sentence_stands_in_front_of_its_mark(name):
    prop = PROPERTIES[name]
    path = next(path for path in CHAPTERS if path.stem == prop.chapter)
    assert marked(path)[name].rstrip(".:,;* ").endswith(prop.sentence.rstrip(".:,;* "))
