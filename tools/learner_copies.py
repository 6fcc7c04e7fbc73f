"""Chapters as a learner runs them: outputs cleared, solutions folded, own work kept.

    python tools/learner_copies.py lab

Called again, after an update of the book for instance, it brings what is new and leaves every
cell that the learner has changed or added. `make lab` calls it; the branch that Colab opens is
made with it too.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import nbformat
from exercises import is_exercise, split
from nbformat import NotebookNode

CHAPTERS = Path(__file__).parent.parent / "chapters"
HANDED_OUT = ".handed-out"
"""Where the copies lie as the book made them, to tell what a learner has changed since."""
FOLDED = {"hide-cell", "hide-input", "remove-cell"}


def learner_copy(chapter: NotebookNode) -> NotebookNode:
    r"""Clear the outputs of a chapter, and fold what a reader unfolds.

    An exercise becomes its stub. The solution stands below the check, as text: a cell that ran it
    would put it in the place of the learner's own.

    Examples
    --------
    >>> source = "### BEGIN SOLUTION\nanswer = 1\n### END SOLUTION"
    >>> cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["exercise"]})
    >>> made = learner_copy(nbformat.v4.new_notebook(cells=[cell]))
    >>> [cell.cell_type for cell in made.cells], made.cells[0].source
    (['code', 'markdown'], '...  # your code here')
    """
    made = copy.deepcopy(chapter)
    cells: list[NotebookNode] = []
    answer: NotebookNode | None = None
    for cell in made.cells:
        tags = set(cell.metadata.get("tags", []))
        if answer is not None and "check" not in tags:
            cells.append(answer)
            answer = None
        cells.append(cell)
        if cell.cell_type != "code":
            continue
        cell.outputs, cell.execution_count = [], None
        if is_exercise(cell):
            asks, answers = split(cell)
            cell.source, answer = asks.source, _folded(answers)
        if tags & FOLDED:
            cell.metadata["jupyter"] = {"source_hidden": True}
            cell.metadata["cellView"] = "form"  # how Colab folds
    made.cells = [*cells, answer] if answer is not None else cells
    return made


def _folded(solution: NotebookNode) -> NotebookNode:
    """A cell with a solution, as text that a learner unfolds."""
    code = f"```python\n{solution.source}\n```"
    text = f"<details><summary>Solution</summary>\n\n{code}\n\n</details>"
    return nbformat.v4.new_markdown_cell(text, id=solution.id)


def merged(book: NotebookNode, before: NotebookNode, learner: NotebookNode) -> NotebookNode:
    """Bring what is new in the book into a learner's copy.

    Parameters
    ----------
    book
        The copy as the book makes it now.
    before
        As it was handed out the last time.
    learner
        What the learner has made of it.
    """
    handed_out = {cell.id: cell.source for cell in before.cells}
    current = {cell.id for cell in book.cells}
    mine = {cell.id: cell for cell in learner.cells}
    made = copy.deepcopy(book)
    cells = []
    for cell in made.cells:
        own = mine.get(cell.id)
        if own is not None and own.source != handed_out.get(cell.id):
            cell = own  # changed by the learner
        elif own is not None and own.source == cell.source:
            cell = own  # with the output that it has by now
        cells.append(cell)
    made.cells = cells
    previous: str | None = None
    for cell in learner.cells:
        changed = cell.source != handed_out.get(cell.id)
        if cell.id not in current and changed:  # added, or taken out of the book since
            places = [i for i, other in enumerate(made.cells) if other.id == previous]
            made.cells.insert(places[0] + 1 if places else len(made.cells), cell)
        if any(other.id == cell.id for other in made.cells):
            previous = cell.id
    return made


def write_copies(folder: Path) -> list[Path]:
    """Write or update the copies of all chapters; return their paths."""
    kept = folder / HANDED_OUT
    kept.mkdir(parents=True, exist_ok=True)
    written = []
    for path in sorted(CHAPTERS.glob("[0-9]*.ipynb")):
        book = learner_copy(nbformat.read(path, as_version=4))
        target, original = folder / path.name, kept / path.name
        if target.exists() and original.exists():
            before, learner = (nbformat.read(p, as_version=4) for p in (original, target))
            made = merged(book, before, learner)
        else:
            made = book
        nbformat.write(made, target)
        nbformat.write(book, original)
        written.append(target)
    return written


def main() -> None:
    """Write the copies into the folder that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    print(f"{len(write_copies(folder))} chapters in {folder}")


if __name__ == "__main__":
    main()
