"""The directive `name-index`: terms, PyTorch's names and messages, with the sections about them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby

from docutils import nodes
from search_index import CLOSING
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode

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
        places = [place for place in places if place[0] != docname and place[1] not in CLOSING]
        places.sort(key=lambda place: order.index(place[0]) if place[0] in order else -1)
        links = [
            make_refnode(builder, docname, page, anchor, nodes.Text(_title(env, page, anchor)))
            for page, anchor in places[:8]
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


def _title(env: BuildEnvironment, page: str, anchor: str) -> str:
    """The title of a section, with its chapter's number."""
    chapter = re.search(r"/(\d\d)_", page)
    for section in env.get_doctree(page).findall(nodes.section):
        if anchor in section["ids"]:
            title = section.next_node(nodes.title).astext()
            return f"{int(chapter[1])}. {title}" if chapter and section.parent.parent else title
    return env.titles[page].astext()


def setup(app: Sphinx) -> dict[str, bool]:
    """Before the glossary's links are set, so that the index gets none."""
    app.add_node(Placeholder)
    app.add_directive("name-index", NameIndex)
    app.connect("doctree-resolved", fill_index, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
