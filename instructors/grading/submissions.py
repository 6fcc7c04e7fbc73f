"""Notebooks in a folder as a learning platform exports it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from .assignment import Assignment

MOODLE = re.compile(
    r"(?P<name>.+?)_(?P<id>\d+)_assignsubmission_(?:file|onlinetext)_?(?P<file>.*)$"
)
CANVAS = re.compile(r"(?P<name>[^_]+)(?:_LATE)?_(?P<id>\d+)_(?P<submission>\d+)_(?P<file>.+)$")
LARGEST = 20_000_000
"""Most bytes of a submission's notebooks that are opened."""
JUNK = {".DS_Store", "__MACOSX", ".ipynb_checkpoints"}
"""What operating systems and Jupyter leave in a folder."""


@dataclass(frozen=True)
class Submission:
    """One student's files.

    Attributes
    ----------
    student
        As the platform writes the name.
    platform
        "Moodle", "Canvas" or "folder".
    number
        The platform's number of the student, or "".
    files
        All files that were handed in.
    """

    student: str
    platform: str
    number: str
    files: tuple[Path, ...]

    @property
    def key(self) -> str:
        """A name for files that no other student's have, however alike the students' names."""
        plain = re.sub(r"[^\w]+", "-", self.student)[:40].strip("-").lower() or "student"
        whose = repr((self.student, self.platform, self.number)).encode()
        return "-".join(filter(None, (plain, self.number, hashlib.sha256(whose).hexdigest()[:6])))


class Unreadable(ValueError):
    """A submission that holds no notebook to run; the message says why."""


def find(folder: Path) -> list[Submission]:
    """The submissions in a folder, by student.

    Parameters
    ----------
    folder
        As unpacked from Moodle (``First Last_123_assignsubmission_file_/work.ipynb``, or the same
        without a folder for each), from Canvas (``lastfirst_123_456_work.ipynb``), or with a
        folder or a notebook for each student.

    Raises
    ------
    NotADirectoryError
        If `folder` is not a folder.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"submissions: {folder} is not a folder")
    found: dict[tuple[str, str, str], list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.name in JUNK or path.is_symlink() or not (path.is_dir() or path.is_file()):
            continue
        student, platform, number = _whose(path)
        # Without a platform's numbers each of alike names is graded: a person says which counts.
        again, name = 2, student
        while platform == "folder" and (name, platform, number) in found:
            again, name = again + 1, f"{student} ({again})"
        files = sorted(_ordinary(path)) if path.is_dir() else [path]
        found.setdefault((name, platform, number), []).extend(files)
    return [Submission(*whose, tuple(files)) for whose, files in found.items()]


def read(submission: Submission, assignment: Assignment) -> NotebookNode:
    """The notebook of a submission, whatever its name.

    Raises
    ------
    Unreadable
        If there is none, or it is too large, or it is no notebook.
    """
    notebooks = [path for path in submission.files if path.suffix.lower() == ".ipynb"]
    if not notebooks:
        names = ", ".join(printable(path.name) for path in submission.files[:5]) or "nothing"
        raise Unreadable(f"No notebook was handed in, but {names}.")
    problems, readable, left = [], [], LARGEST
    for path in notebooks:
        name = printable(path.name)
        size = path.stat().st_size
        if size > left:
            problems.append(f"with {name} there are more than {LARGEST // 1_000_000} MB")
            continue
        left -= size
        try:
            # Without validation, which takes minutes for a notebook of many megabytes.
            held = nbformat.reader.reads(path.read_text(encoding="utf-8"))
            notebook = nbformat.convert(held, 4)
            sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
        except Exception as error:  # a stranger's file may be wrong in any way
            problems.append(f"{name} is not a notebook ({type(error).__name__})")
            continue
        if all(isinstance(source, str) for source in sources):
            readable.append(notebook)
    if not readable:
        raise Unreadable(f"{'; '.join(problems) or 'No cell can be read'}.")
    return max(readable, key=lambda notebook: _likeness(notebook, assignment))


def printable(text: str) -> str:
    """A stranger's words, for a console and a page: short, and without control characters."""
    known = text[:300].encode("utf-8", "backslashreplace").decode()
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in known
    )


def _likeness(notebook: NotebookNode, assignment: Assignment) -> int:
    """How many of its cells are those of the assignment."""
    ids = {cell.metadata.get("nbgrader", {}).get("grade_id") for cell in assignment.notebook.cells}
    theirs = [cell.get("metadata", {}).get("nbgrader") for cell in notebook.cells]
    named = [one.get("grade_id") for one in theirs if isinstance(one, dict)]
    return len({name for name in named if isinstance(name, str)} & ids)


def _whose(path: Path) -> tuple[str, str, str]:
    """The student, as far as the name can be written, the platform and the number."""
    # What a student chose stands last in a name: the first that fits decides, Canvas before
    # Moodle, whose pattern fits further to the right.
    if match := CANVAS.match(path.name):
        return printable(match["name"]), "Canvas", match["id"]
    if match := MOODLE.match(path.name):
        return printable(match["name"]), "Moodle", match["id"]
    return printable(path.name if path.is_dir() else path.stem), "folder", ""


def _ordinary(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            yield path
