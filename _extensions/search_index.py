"""Index the built pages with Pagefind, so that a search finds words anywhere in the book."""

from __future__ import annotations

import subprocess
import sys

from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)


def write_index(app: Sphinx, error: Exception | None) -> None:
    """Run Pagefind on the finished site; the part of its output that no page uses is removed."""
    if error or app.builder.name != "html":
        return
    command = [
        sys.executable,
        "-m",
        "pagefind",
        "--site",
        str(app.outdir),
        "--exclude-selectors",
        ".headerlink, annotation",
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        logger.warning("pagefind failed: %s", result.stderr or result.stdout, type="search_index")
    for name in (
        "pagefind-ui",
        "pagefind-modular-ui",
        "pagefind-component-ui",
        "pagefind-highlight",
    ):
        for unused in (app.outdir / "pagefind").glob(f"{name}.*"):
            unused.unlink()


def setup(app: Sphinx) -> dict[str, bool]:
    """Come last: the pages must be finished."""
    app.connect("build-finished", write_index, priority=950)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
