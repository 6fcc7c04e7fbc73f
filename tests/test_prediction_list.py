"""The instructors' list of questions, against the notebooks that it is made from."""

import json
from pathlib import Path

import pytest
from prediction_list import opening, predictions

CHAPTERS = sorted((Path(__file__).parent.parent / "chapters").glob("[0-9]*.ipynb"))


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_every_question_is_listed_with_what_its_chapter_printed(path):
    text = path.read_text(encoding="utf-8")
    cells = json.loads(text)["cells"]
    found = list(predictions(cells))
    asked = [cell for cell in cells if "prediction" in cell["metadata"].get("tags", [])]
    printed = "".join("".join(o.get("text", "")) for c in cells for o in c.get("outputs", []))
    assert len(found) == len(asked) >= 4
    for question, guess, measured, meaning in found:
        assert question and f"your guess: {guess}\nmeasured:   {measured}" in printed
        assert "](" not in question + meaning and "∀" not in meaning


def test_a_chapter_opens_with_what_it_is_for():
    title, goal, minutes = opening(json.loads(CHAPTERS[0].read_text(encoding="utf-8"))["cells"])
    assert title == "1. Two modes" and goal.endswith(".") and int(minutes) > 10
