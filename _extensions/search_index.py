"""Index each section of the built pages with Pagefind, so that a search leads to the section."""

from __future__ import annotations

import asyncio
import base64
import html
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from bs4 import BeautifulSoup, Tag
from pagefind.service import PagefindService
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)

UNUSED = ("pagefind-ui", "pagefind-modular-ui", "pagefind-component-ui", "pagefind-highlight")
NOT_IN_A_FOLDER = {"wasm.unknown.pagefind", "pagefind-worker.js"}
SYMPTOMS = "what_is_going_wrong"
NOT_INDEXED = {"errata", "name_index", "bibliography"}
"""Pages that repeat the words of others: a search leads to those."""
CLOSING = ("what-you-can-say-now", "check-yourself", "exercises", "where-to-go-next", "sources")
LEFT_OUT = ".headerlink, annotation, script, style, svg, [data-pagefind-ignore]"


def write_index(app: Sphinx, error: Exception | None) -> None:
    """Index the finished site; the part of Pagefind's files that no page uses is removed."""
    if error or app.builder.name != "html":
        return
    site = Path(app.outdir)
    shutil.rmtree(site / "pagefind", ignore_errors=True)
    try:
        asyncio.run(_index(site))
    except Exception as problem:
        logger.warning("pagefind failed: %s", problem, type="search_index")
    for name in UNUSED:
        for unused in (site / "pagefind").glob(f"{name}.*"):
            unused.unlink()
    _pack_for_a_folder(site / "pagefind")


def _pack_for_a_folder(index: Path) -> None:
    """Write all files of the index into one script, which a page may read from a folder."""
    files = {
        path.relative_to(index).as_posix(): base64.b64encode(path.read_bytes()).decode()
        for path in sorted(index.rglob("*"))
        if path.is_file() and path.name not in NOT_IN_A_FOLDER
    }
    script = f"globalThis.bookSearchFiles = {json.dumps(files)};\n"
    (index / "folder.js").write_text(script, encoding="ascii")


async def _index(site: Path) -> None:
    async with PagefindService() as service:
        index = await service.create_index()
        for path in sorted(site.rglob("*.html")):
            if path.stem in NOT_INDEXED:
                continue
            page = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
            article = page.select_one("[data-pagefind-body]")
            # The headings of the page of symptoms are in the words of those who ask.
            weight = 10 if path.stem == SYMPTOMS else 7
            for url, content in _sections(article, weight) if article else ():
                await index.add_html_file(
                    content=content, url=f"{path.relative_to(site).as_posix()}{url}"
                )
        await index.write_files(str(site / "pagefind"))
        # Pagefind answers before its last writes are done, and on leaving it is ended.
        await asyncio.wait_for(_until_no_file_is_empty(site / "pagefind"), timeout=30)


async def _until_no_file_is_empty(folder: Path) -> None:
    while any(path.is_file() and path.stat().st_size == 0 for path in folder.rglob("*")):
        await asyncio.sleep(0.1)


def _sections(article: Tag, heading_weight: int) -> Iterator[tuple[str, str]]:
    """The address and the text of each section of a page, without the sections inside it."""
    for left_out in article.select(LEFT_OUT):
        left_out.decompose()
    title = _text(article.find("h1"))
    for section in article.select("section[id]"):
        heading = section.find(["h1", "h2", "h3"], recursive=False)
        if heading is None:
            continue
        own = [part for part in section.find_all(recursive=False) if part.name != "section"]
        body = "".join(str(part) for part in own if part is not heading)
        first = heading.name == "h1"
        weight = 0.3 if section["id"] in CLOSING else 1
        yield (
            "" if first else f"#{section['id']}",
            f'<html lang="en"><body data-pagefind-body>'
            f'<h1 data-pagefind-weight="{heading_weight}">{html.escape(_text(heading))}</h1>'
            f'<p data-pagefind-meta="page" data-pagefind-weight="2">{html.escape(title)}</p>'
            f'<div data-pagefind-weight="{weight}">{body}</div></body></html>',
        )


def _text(tag: Tag | None) -> str:
    return " ".join(tag.get_text().split()) if tag else ""


def setup(app: Sphinx) -> dict[str, bool]:
    """Come last: the pages must be finished."""
    app.connect("build-finished", write_index, priority=950)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
