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
        if is_exercise(cell):
            cells += split(cell)
            continue
        tags = cell["metadata"].get("tags", [])
        if "check" in tags:
            tags.append("hide-input")
        cells.append(cell)
    notebook["cells"] = cells
    source[0] = json.dumps(notebook)


def setup(app: Sphinx) -> dict[str, bool]:
    """Read notebooks as readers shall see them."""
    app.connect("source-read", unfold)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
