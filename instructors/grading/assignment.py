"""An assignment: one source notebook with solutions and hidden tests, and what is made of it.

The format is nbgrader's. A cell with points has public asserts, and between the marks of hidden
tests two tables: `given`, what is asked of a submission's functions, and `marks`, what the answers
are worth. Names that start with `expected` belong to the second and never leave this process.
"""

from __future__ import annotations

import ast
import copy
import hashlib
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import nbformat
from exercises import stub
from nbformat import NotebookNode

ASSIGNMENTS = Path(__file__).parent.parent / "assignments"
HIDDEN = re.compile(r"^### BEGIN HIDDEN TESTS\n(.*?)^### END HIDDEN TESTS\n?", re.DOTALL | re.M)


@dataclass(frozen=True)
class Task:
    """A cell with points: its name, its points, and the code of its hidden tests."""

    name: str
    points: float
    code: str

    @cached_property
    def questions(self) -> str:
        """The part of the hidden tests that a submission's process may see."""
        return self._without(_is_for_nbgrader, _is_judgement)

    @cached_property
    def judgements(self) -> str:
        """All of them but what is for nbgrader alone: run where nothing of a submission runs."""
        return self._without(_is_for_nbgrader)

    def _without(self, *kinds: Callable[[ast.stmt], bool]) -> str:
        kept = [s for s in ast.parse(self.code).body if not any(kind(s) for kind in kinds)]
        return "\n".join(map(ast.unparse, kept))


def _is_for_nbgrader(statement: ast.stmt) -> bool:
    """The import of `points_for`, and its call."""
    return "points_for" in ast.unparse(statement)


def _is_judgement(statement: ast.stmt) -> bool:
    """Whether a statement makes `marks`, or a name that starts with `expected`."""
    made = [
        node.id
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    ]
    if isinstance(statement, ast.FunctionDef):
        made = [statement.name]
    return any(name == "marks" or name.startswith("expected") for name in made)


@dataclass(frozen=True)
class Assignment:
    """One assignment in one variant."""

    name: str
    variant: int
    notebook: NotebookNode
    about: dict[str, Any]

    @classmethod
    def load(cls, name: str, variant: int = 1) -> Assignment:
        """Read the source, with the numbers of a variant.

        Raises
        ------
        ValueError
            If there is no assignment of that name, or no such variant of it.
        """
        folder = ASSIGNMENTS / name
        if not (folder / f"{name}.ipynb").exists():
            known = sorted(path.name for path in ASSIGNMENTS.iterdir() if path.is_dir())
            raise ValueError(f"assignment: no {name!r}; there are {', '.join(known)}")
        about = tomllib.loads((folder / "about.toml").read_text(encoding="utf-8"))
        numbers = about["variants"].get(str(variant))
        if numbers is None:
            raise ValueError(f"variant: {name} has {', '.join(about['variants'])}, not {variant}")
        notebook = nbformat.read(folder / f"{name}.ipynb", as_version=4)
        for cell in notebook.cells:
            if "parameters" in cell.metadata.get("tags", []):
                cell.source = "\n".join(f"{key} = {value!r}" for key, value in numbers.items())
        notebook.metadata["assignment"] = {"name": name, "variant": variant}
        return cls(name, variant, notebook, about)

    @property
    def tasks(self) -> list[Task]:
        """The cells with points, in order."""
        return [
            Task(_id(cell), _grader(cell)["points"], "".join(HIDDEN.findall(cell.source)))
            for cell in self.notebook.cells
            if _grader(cell).get("grade")
        ]

    @property
    def points(self) -> float:
        """Of the whole assignment."""
        return sum(task.points for task in self.tasks)

    @property
    def shortcuts(self) -> list[str]:
        """Words in the names of what an answer may not be made of, PyTorch's own layer for one."""
        return list(self.about.get("shortcuts", []))

    @property
    def set_up(self) -> str:
        """The locked cells without points: imports, numbers, data."""
        return "\n".join(
            cell.source
            for cell in self.notebook.cells
            if cell.cell_type == "code"
            and _grader(cell).get("locked")
            and not _grader(cell).get("grade")
        )

    @property
    def fingerprint(self) -> str:
        """Another one if anything that grading depends on is another."""
        text = nbformat.writes(self.notebook) + repr(self.about)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def for_students(self) -> NotebookNode:
        """The notebook without solutions and hidden tests."""
        notebook = copy.deepcopy(self.notebook)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.source = stub(HIDDEN.sub("", cell.source)).rstrip() + "\n"
                cell.outputs, cell.execution_count = [], None
        return notebook

    def submitted_cells(self, submission: NotebookNode) -> list[str]:
        """Our set-up, and the cells that are the submission's own: never its test cells."""
        ours = {
            _id(cell)
            for cell in self.notebook.cells
            if cell.cell_type == "code" and not _grader(cell).get("solution")
        }
        own = [
            cell.source
            for cell in submission.cells
            if cell.cell_type == "code" and _id(cell) not in ours
        ]
        return [self.set_up, *own]

    def answered(self, answers: dict[str, str]) -> NotebookNode:
        """A submission with these sources in its solution cells; tests are made of it."""
        notebook = self.for_students()
        for cell in notebook.cells:
            if _grader(cell).get("solution") and _id(cell) in answers:
                cell.source = answers[_id(cell)]
        return notebook


def all_names() -> list[str]:
    """The assignments, in the order of the chapters that they belong to."""
    folders = [path for path in ASSIGNMENTS.iterdir() if (path / "about.toml").exists()]
    order = {
        path.name: tomllib.loads((path / "about.toml").read_text())["order"] for path in folders
    }
    return sorted(order, key=lambda name: order[name])


def _grader(cell: NotebookNode) -> dict[str, Any]:
    held = cell.metadata.get("nbgrader") if isinstance(cell.metadata, dict) else None
    return held if isinstance(held, dict) else {}


def _id(cell: NotebookNode) -> str:
    return str(_grader(cell).get("grade_id", ""))
