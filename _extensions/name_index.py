"""The directive `name-index`: terms, PyTorch's names and messages, with the sections about them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby

from docutils import nodes
from search_index import CLOSING
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode
from torch_names import Mention

MESSAGES = "reference/messages"


class Placeholder(nodes.General, nodes.Element):
    """Where the index goes, once all pages have been read."""


class NameIndex(SphinxDirective):
    """Leave a place for the index."""

    def run(self) -> list[nodes.Node]:
        return [Placeholder()]


def fill_index(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Write the index: a list for each first letter."""
    for place in list(doctree.findall(Placeholder)):
        entries = sorted(_entries(app, docname), key=lambda entry: _sorted_by(entry[0]))
        sections = []
        for letter, members in groupby(entries, key=lambda entry: _sorted_by(entry[0])[:1]):
            section = nodes.section(ids=[f"index-{letter}"])
            section += nodes.title("", letter.upper())
            section += nodes.bullet_list("", *(_item(*entry) for entry in members))
            sections.append(section)
        place.replace_self(sections)


def _sorted_by(text: str) -> str:
    """Where a reader looks: a name by its last part, a message by its first letter."""
    plain = re.sub(r"[^a-z0-9 .]", "", text.lower())
    return plain.rpartition(".")[2] if " " not in plain else plain.lstrip(" .")


def _item(text: str, is_code: bool, links: list[nodes.Node]) -> nodes.list_item:
    paragraph = nodes.paragraph()
    paragraph += nodes.literal(text=text) if is_code else nodes.Text(text)
    paragraph += nodes.Text(": ")
    for number, link in enumerate(links):
        paragraph += [nodes.Text("; "), link] if number else [link]
    return nodes.list_item("", paragraph)


def _entries(app: Sphinx, docname: str) -> Iterator[tuple[str, bool, list[nodes.Node]]]:
    builder, env = app.builder, app.env
    for (kind, name), (page, anchor) in env.domaindata["std"]["objects"].items():
        if kind == "term":
            link = make_refnode(builder, docname, page, anchor, nodes.Text("glossary"))
            yield name, False, [link]
    order = env.toctree_includes[env.config.root_doc]
    for name, places in getattr(env, "torch_mentions", {}).items():
        told = [place for place in places if place.page != docname and place.anchor not in CLOSING]
        told.sort(key=lambda place: order.index(place.page) if place.page in order else -1)
        links = [
            make_refnode(builder, docname, place.page, place.anchor, nodes.Text(_titled(place)))
            for place in told[:8]
        ]
        if links:
            yield name, True, links
    for message in _messages(env.get_doctree(MESSAGES)):
        link = make_refnode(builder, docname, MESSAGES, "", nodes.Text("messages"))
        yield message, True, [link]


def _messages(doctree: nodes.document) -> Iterator[str]:
    for row in doctree.findall(nodes.row):
        if (literal := next(row[0].findall(nodes.literal), None)) is not None:
            yield literal.astext()


def _titled(place: Mention) -> str:
    """The title of a section, with its chapter's number, which the chapter's own has already."""
    chapter = re.search(r"/(\d\d)_", place.page)
    if chapter is None or place.title.startswith(f"{int(chapter[1])}. "):
        return place.title
    return f"{int(chapter[1])}. {place.title}"


def setup(app: Sphinx) -> dict[str, bool]:
    """Before the glossary's links are set, so that the index gets none."""
    app.add_node(Placeholder)
    app.add_directive("name-index", NameIndex)
    app.connect("doctree-resolved", fill_index, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
