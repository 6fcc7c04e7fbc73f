"""Link the first use of each of the glossary's terms on a page to its entry."""

from __future__ import annotations

import re

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.nodes import make_refnode
from torch_names import around

GLOSSARY = "reference/glossary"
NOT_INSIDE = (nodes.reference, nodes.title, nodes.literal, nodes.caption, nodes.term, nodes.raw)


def link_first_uses(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Longer terms first: the first use of "batch statistics" is not one of "batch"."""
    if docname == GLOSSARY:
        return
    terms = {
        name.lower(): anchor
        for (kind, name), (_, anchor) in app.env.domaindata["std"]["objects"].items()
        if kind == "term"
    }
    longest_first = sorted(map(re.escape, terms), key=len, reverse=True)
    pattern = re.compile(rf"\b({'|'.join(longest_first)})s?\b", re.IGNORECASE)
    for text in list(doctree.findall(nodes.Text)):
        if around(text, *NOT_INSIDE) or not around(text, nodes.paragraph) or not terms:
            continue
        pieces: list[nodes.Node] = []
        rest = 0
        for match in pattern.finditer(text):
            anchor = terms.pop(match[1].lower(), None)
            if anchor is None:
                continue
            pieces.append(nodes.Text(text[rest : match.start()]))
            pieces.append(
                make_refnode(app.builder, docname, GLOSSARY, anchor, nodes.Text(match[0]))
            )
            pieces[-1]["classes"] += ["term-link"]
            rest = match.end()
        if pieces:
            text.parent.replace(text, [*pieces, nodes.Text(text[rest:])])


def setup(app: Sphinx) -> dict[str, bool]:
    """When all pages have been read and the glossary's terms are known."""
    app.connect("doctree-resolved", link_first_uses)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
