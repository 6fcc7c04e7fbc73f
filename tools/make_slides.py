"""Slides of the chapters: what `make slides` calls.

A section is a slide: its question, its tables and lists, and below it the cells that decide, each
with what it printed or drew. What else the chapter says about them is in the speaker's notes (press
S). Guesses, exercises and sources stay in the chapter.
"""

from __future__ import annotations

import argparse
import copy
import re
import shutil
from html import escape
from pathlib import Path

import nbformat
from math_core import LatexToMathML
from nbconvert import SlidesExporter
from nbformat import NotebookNode
from traitlets.config import Config

ROOT = Path(__file__).parent.parent
SLIDES = ROOT / "instructors" / "slides"
LEFT_OUT = {"remove-cell", "prediction", "exercise", "check"}
CLOSING = ("## Check yourself", "## Exercises", "## Where to go next", "## Sources")
WORDS_ON_A_SLIDE = 60
UNDESCRIBED = 'alt="No description has been provided for this image"'
MATHS = re.compile(r"\$\$(.+?)\$\$(?: \([\w-]+\))?|(?<![\\$\w])\$([^$\n]+?)\$(?!\w)", re.DOTALL)
_mathml = LatexToMathML(fancy_error=False)


def cells_of(notebook: NotebookNode) -> list[NotebookNode]:
    """The cells of a chapter's slides, each with its place in them."""
    placed, closing = [], False
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for part in re.split(r"(?m)^(?=##? )", cell.source):
                if part.startswith("#"):
                    closing = part.startswith(CLOSING)
                if part.strip() and not closing:
                    placed += _of_text(part.strip())
        elif not closing and not LEFT_OUT & set(cell.metadata.get("tags", [])):
            placed += _of_code(cell)
    return placed


def _of_text(text: str) -> list[NotebookNode]:
    """A heading and its first paragraph on a slide, the rest in the notes."""
    paragraphs = text.split("\n\n")
    shown = [paragraphs.pop(0)]
    if shown[0].startswith("#"):
        while paragraphs and len(f"{shown} {paragraphs[0]}".split()) < WORDS_ON_A_SLIDE:
            shown.append(paragraphs.pop(0))
        kind = "slide"
    elif "**Predict.**" in text or text.startswith(("|", "$$", "- ")):
        kind = "subslide"
    else:
        shown, kind = [], "skip"
    shown += [p for p in paragraphs if p.startswith(("**Predict.**", "|", "- "))]
    notes = [p for p in text.split("\n\n") if p not in shown]
    cells = [_markdown("\n\n".join(shown), kind)] if shown else []
    return [*cells, _markdown("\n\n".join(notes), "notes")] if notes else cells


def _of_code(cell: NotebookNode) -> list[NotebookNode]:
    """A cell with what it printed; a figure without the code that drew it."""
    placed = copy.deepcopy(cell)
    placed.metadata["slideshow"] = {"slide_type": "subslide"}
    figure = cell.metadata.get("mystnb", {}).get("figure")
    if figure:
        placed.metadata["tags"] = ["drawn"]
        return [placed, _markdown(f"*{figure['caption']}*", "-")]
    if "hide-input" in cell.metadata.get("tags", []) and not cell.outputs:
        return []
    return [placed]


def _markdown(text: str, kind: str) -> NotebookNode:
    text = re.sub(r"\(((?:\.\./)?[\w/]*)(\d\d_\w+)\.ipynb", r"(../html/chapters/\2.html", text)
    text = re.sub(r"\(\.\./reference/(\w+)\.(?:md|ipynb)", r"(../html/reference/\1.html", text)
    text = re.sub(r" ?\[∀\]\(#[^)]*\)", "", text)
    text = MATHS.sub(_maths, text)
    return nbformat.v4.new_markdown_cell(text, metadata={"slideshow": {"slide_type": kind}})


def _maths(found: re.Match[str]) -> str:
    block = found[1] is not None
    mathml = _mathml.convert_with_local_state(found[1] or found[2], displaystyle=block)
    return mathml.replace("\n", " ")


def make_slides(path: Path, to: Path) -> Path:
    """Write the slides of one chapter."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells = cells_of(notebook)
    config = Config()
    config.TagRemovePreprocessor.enabled = True
    config.TagRemovePreprocessor.remove_input_tags = {"drawn"}
    exporter = SlidesExporter(
        config=config,
        template_name="template",
        extra_template_basedirs=[str(SLIDES)],
        reveal_url_prefix="reveal.js",
        reveal_theme="book",
        reveal_number="c/t",
        reveal_width="1240",
        reveal_height="760",
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    exporter.log.setLevel("ERROR")
    page, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": path.stem}})
    for cell in notebook.cells:  # nbconvert knows no description of a figure
        if "drawn" in cell.metadata.get("tags", []):
            described = escape(cell.metadata["mystnb"]["image"]["alt"])
            page = page.replace(UNDESCRIBED, f'alt="{described}"', 1)
    made = to / f"{path.stem}.html"
    made.write_text(page, encoding="utf-8")
    return made


def main() -> None:
    """Make the slides of the chapters named on the command line, or of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("chapters", nargs="*", type=Path)
    chapters = parser.parse_args().chapters or sorted((ROOT / "chapters").glob("[0-9]*.ipynb"))
    to = ROOT / "_build" / "slides"
    to.mkdir(parents=True, exist_ok=True)
    shutil.copytree(SLIDES / "reveal.js", to / "reveal.js", dirs_exist_ok=True)
    for path in chapters:
        print(f"Wrote {make_slides(path, to)}")


if __name__ == "__main__":
    main()
