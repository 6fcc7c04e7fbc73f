"""Give `model.eval()` and `model.train()` their colours wherever the prose names them."""

from __future__ import annotations

import re

from docutils import nodes
from sphinx.application import Sphinx

CALL = re.compile(r"(?:\w+\.)*(?P<mode>eval|train)\(\)")


def mark_modes(app: Sphinx, doctree: nodes.document) -> None:
    """Add a class to inline code that is a call of one of the two; style sheets do the rest."""
    for literal in doctree.findall(nodes.literal):
        if match := CALL.fullmatch(literal.astext()):
            literal["classes"] += ["mode", match["mode"]]


def setup(app: Sphinx) -> dict[str, bool]:
    """Read the source as it is; notebooks stay plain Markdown."""
    app.connect("doctree-read", mark_modes)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
