"""The directive `prediction-list`: what each chapter asks, the common guess, what comes out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

CHAPTERS = Path(__file__).parent.parent / "chapters"


class Prediction(NamedTuple):
    """A question of a chapter, its stored guess, what was measured, and what is said of it."""

    question: str
    guess: str
    measured: str
    meaning: str


class PredictionList(SphinxDirective):
    """List what the chapters ask, chapter by chapter."""

    def run(self) -> list[nodes.Node]:
        lines: list[str] = []
        for path in sorted(CHAPTERS.glob("[0-9]*.ipynb")):
            self.env.note_dependency(str(path))
            cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
            title, goal, minutes = opening(cells)
            lines += [f"### [{title}](../chapters/{path.name})", ""]
            lines += [f"*After it:* {goal} *Time:* {minutes} minutes.", ""]
            for found in predictions(cells):
                lines += [
                    f"- {found.question} Common guess: `{found.guess}`; measured: "
                    f"`{found.measured}`. {found.meaning}"
                ]
            lines.append("")
        container = nodes.container(classes=["prediction-list"])
        self.state.nested_parse(
            StringList(lines, source="prediction-list"), 0, container, match_titles=True
        )
        return container.children


def opening(cells: list[dict[str, Any]]) -> tuple[str, str, str]:
    """The title of a chapter, what it makes one able to do, and its minutes."""
    text = "".join(cells[0]["source"])
    title = re.search(r"^# (.+)$", text, re.MULTILINE)
    goal = re.search(r"\*\*You will be able to\*\* (.+?)\s*\*\*You need", text, re.DOTALL)
    minutes = re.search(r"\*\*It takes\*\* (\d+) minutes", text)
    assert title and goal and minutes
    return title[1], _plain(goal[1]), minutes[1]


def predictions(cells: list[dict[str, Any]]) -> Iterator[Prediction]:
    """The questions of a chapter, in order."""
    asked = ""
    for place, cell in enumerate(cells):
        source = "".join(cell["source"])
        if "**Predict.**" in source:
            asked = source.rpartition("**Predict.**")[2].split("\n\n")[0].strip()
        if "prediction" not in cell["metadata"].get("tags", []):
            continue
        guess = source.partition("guess = ")[2].partition("  #")[0].strip('"')
        for later, verdict in enumerate(cells[place:], start=place):
            printed = "".join("".join(o.get("text", "")) for o in verdict.get("outputs", []))
            if found := re.search(r"^measured:\s+(.+?)(?: \(give or take .+\))?$", printed, re.M):
                yield Prediction(_plain(asked), guess, found[1], _first_sentence(cells[later:]))
                break


def _first_sentence(cells: list[dict[str, Any]]) -> str:
    """What the chapter says first about what came out."""
    text = next(("".join(c["source"]) for c in cells if c["cell_type"] == "markdown"), "")
    paragraph = text.split("\n\n")[0]
    if paragraph.startswith(("#", "|", "<", "**")):
        return ""
    return re.sub(r":$", ".", _plain(re.split(r"(?<=[.?!]) ", paragraph)[0]))


def _plain(text: str) -> str:
    """Without links, which lead from the chapter's folder, and without marks of properties."""
    text = re.sub(r" ?\[∀\]\(.*?\)(?=[\s.,:;]|$)", "", text)
    return re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", " ".join(text.split()))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("prediction-list", PredictionList)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
