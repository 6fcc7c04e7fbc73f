"""On a page, an exercise shows its stub, its solution folded, and its check behind a button."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))

from exercises import is_exercise, split


def unfold(app: Sphinx, docname: str, source: list[str]) -> None:
    """Make two cells of each exercise, and fold the code of each check."""
    if not docname.startswith("chapters/"):
        return
    notebook = json.loads(source[0])
    cells: list[Any] = []
    for cell in notebook["cells"]:
        tags = cell["metadata"].get("tags", [])
        if is_exercise(cell):
            asks, answers = split(cell)
            _name(answers, "solution")
            cells += [asks, answers]
            continue
        if "check" in tags:
            tags.append("hide-input")
            _name(cell, "check")
        cells.append(cell)
    notebook["cells"] = cells
    source[0] = json.dumps(notebook)


def _name(cell: Any, what: str) -> None:
    """Say what a folded cell holds."""
    prompts = {"code_prompt_show": f"Show the {what}", "code_prompt_hide": f"Hide the {what}"}
    cell["metadata"]["mystnb"] = prompts


def setup(app: Sphinx) -> dict[str, bool]:
    """Read notebooks as readers shall see them."""
    app.connect("source-read", unfold)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
