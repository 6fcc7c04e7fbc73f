"""The whole book as one Markdown file, and `llms.txt`, for people who ask a machine."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

HEAD = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)
NOT_READ = {"remove-cell", "check"}
"""Cells that a reader of the text has no use for."""


def write_files(app: Sphinx, error: Exception | None) -> None:
    """Write `book.md` and `llms.txt` beside the pages."""
    if error or app.builder.name != "html":
        return
    root, site = Path(app.srcdir), Path(app.outdir)
    names = re.findall(r"(?:file|root): (\S+)", (root / "_toc.yml").read_text(encoding="utf-8"))
    address = app.config.html_baseurl
    book, listed = [], ["# The book on PyTorch's evaluation mode", ""]
    for name in names:
        source = next(
            path for ending in (".ipynb", ".md") if (path := root / f"{name}{ending}").exists()
        )
        text = source.read_text(encoding="utf-8")
        body = _notebook(json.loads(text)) if source.suffix == ".ipynb" else HEAD.sub("", text)
        book.append(f"<!-- {name} -->\n\n{body.strip()}\n")
        title = re.search(r"^# (.+)$", body, re.MULTILINE)
        listed.append(f"- [{title[1] if title else name}]({address}{name}.html)")
    listed += ["", f"The whole book as one Markdown file: {address}book.md", ""]
    (site / "book.md").write_text("\n".join(book), encoding="utf-8")
    (site / "llms.txt").write_text("\n".join(listed), encoding="utf-8")


def _notebook(notebook: dict[str, Any]) -> str:
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        elif not NOT_READ & set(cell["metadata"].get("tags", [])):
            parts += [f"```python\n{source}\n```", *map(_output, cell["outputs"])]
            figure = cell["metadata"].get("mystnb", {}).get("figure", {})
            parts += [f"*Figure: {figure['caption']}*"] if figure else []
    return "\n\n".join(part for part in parts if part)


def _output(output: dict[str, Any]) -> str:
    text = "".join(output.get("text", [])).rstrip()
    return f"```text\n{text}\n```" if text else ""


def setup(app: Sphinx) -> dict[str, bool]:
    """Come after the pages."""
    app.connect("build-finished", write_files, priority=940)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
