"""Set everything that depends on where the book is published, from two variables.

A book does not know its address. The publishing workflow gives `BOOK_URL` (for example
https://someone.github.io/book) and `BOOK_REPOSITORY` (someone/book); without them the book
builds clean, and has no sitemap, no canonical links and no launch buttons.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from sphinx.application import Sphinx
from sphinx.config import Config

PDF = "evaluation-mode.pdf"


def set_address(app: Sphinx, config: Config) -> None:
    """Hand the address to the 404 page, the link previews and the canonical links."""
    url = os.environ.get("BOOK_URL", "").rstrip("/")
    config.html_baseurl = f"{url}/" if url else ""
    config.ogp_site_url = config.html_baseurl
    config.ogp_image = f"{url}/_static/preview.png" if url else None
    config.notfound_urls_prefix = f"{urlparse(url).path}/"


def add_links(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    """Tell the templates where a chapter can be launched and whether there is a PDF."""
    repository = os.environ.get("BOOK_REPOSITORY")
    context["launch"] = {}
    if repository and page.startswith("chapters/"):
        context["launch"] = {
            # The branch `colab` holds the chapters with the repository's address filled in.
            "Colab": f"https://colab.research.google.com/github/{repository}/blob/colab/{page}.ipynb",
            "Binder": f"https://mybinder.org/v2/gh/{repository}/main?urlpath=lab/tree/{page}.ipynb",
        }
    context["pdf"] = PDF if _printed(app).exists() else None


def write_site_files(app: Sphinx, error: Exception | None) -> None:
    """Copy the printed book; write sitemap.xml and robots.txt when the address is known."""
    if error or app.builder.name != "html":
        return
    out = Path(app.outdir)
    if _printed(app).exists():
        shutil.copy(_printed(app), out / PDF)
    base = app.config.html_baseurl
    if not base:
        return
    pages = sorted(app.env.found_docs - {app.config.notfound_pagename})
    urls = "".join(f"<url><loc>{base}{app.builder.get_target_uri(p)}</loc></url>" for p in pages)
    schema = "http://www.sitemaps.org/schemas/sitemap/0.9"
    out.joinpath("sitemap.xml").write_text(
        f'<?xml version="1.0" encoding="utf-8"?>\n<urlset xmlns="{schema}">{urls}</urlset>\n'
    )
    out.joinpath("robots.txt").write_text(f"User-agent: *\nAllow: /\nSitemap: {base}sitemap.xml\n")


def _printed(app: Sphinx) -> Path:
    """Where `make pdf` leaves the book."""
    return Path(app.srcdir) / "_build" / PDF


def setup(app: Sphinx) -> dict[str, bool]:
    """Run before the extensions that read these values."""
    app.connect("config-inited", set_address, priority=100)
    app.connect("html-page-context", add_links)
    app.connect("build-finished", write_site_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
