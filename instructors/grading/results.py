"""What an instructor and a student get: CSV files that platforms import, and feedback pages."""

from __future__ import annotations

import csv
import unicodedata
import zipfile
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, select_autoescape

from .assignment import Assignment
from .marking import Graded
from .submissions import Submission

PAGES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=select_autoescape(default=True, default_for_string=True),
    trim_blocks=True,
    lstrip_blocks=True,
)
BOOK = "https://example.org/book/"
"""Where the book is published; `make grade BOOK=...` says another."""


def write_page(
    path: Path, submission: Submission, assignment: Assignment, graded: Graded, book: str = BOOK
) -> None:
    """Write the feedback page: no text of the submission in it is anything but text."""
    titles = {name: task["title"] for name, task in assignment.about["tasks"].items()}
    page = PAGES.get_template("feedback.html").render(
        student=submission.student,
        title=assignment.about["title"],
        graded=graded,
        titles=titles,
        book=book.rstrip("/") + "/",
    )
    path.write_text(page, encoding="utf-8")


def write_tables(
    folder: Path, assignment: Assignment, graded: list[tuple[Submission, Graded]]
) -> list[Path]:
    """Write one CSV for each platform that was seen, and one with every mark."""
    title = assignment.about["title"]
    written = []
    rows: dict[str, list[dict[str, Any]]] = {}
    for submission, result in graded:
        remarks = " ".join(result.remarks)
        if submission.platform == "Moodle":
            row = {
                "Identifier": f"Participant {submission.number}",
                "Full name": submission.student,
                "Grade": f"{result.points:g}",
                "Maximum Grade": f"{result.out_of:g}",
                # Moodle refuses a file without this column.
                "Last modified (grade)": "",
                "Feedback comments": remarks,
            }
            rows.setdefault("moodle.csv", []).append(row)
        if submission.platform == "Canvas":
            row = {"Student": submission.student, "ID": submission.number, "Section": ""}
            rows.setdefault("canvas.csv", []).append(row | {title: f"{result.points:g}"})
        parts = {
            name: f"{sum(mark.points for mark in marks if mark.right):g}"
            for name, marks in result.tasks.items()
        }
        row = {"student": submission.student, "number": submission.number, **parts}
        total = {"points": f"{result.points:g}", "out of": f"{result.out_of:g}"}
        rows.setdefault("all.csv", []).append(
            row | total | {"remarks": remarks, "look at": ", ".join(result.look_at)}
        )
    for name, lines in rows.items():
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            # Quoted, since a semicolon is a separator in many countries.
            table = csv.DictWriter(file, list(lines[0]), quoting=csv.QUOTE_ALL)
            table.writeheader()
            table.writerows({key: _harmless(value) for key, value in row.items()} for row in lines)
        written.append(folder / name)
    return written


def pack_for_moodle(folder: Path, submissions: list[Submission]) -> list[Path]:
    """Pack the pages as Moodle takes feedback files back: in folders named as those that it gave.

    Parameters
    ----------
    folder
        Where the pages lie, below ``feedback``.
    submissions
        Those of other platforms are left out.
    """
    theirs = [submission for submission in submissions if submission.platform == "Moodle"]
    if not theirs:
        return []
    packed = folder / "moodle-feedback.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for submission in theirs:
            # What stands before the first underscore is not read.
            name = submission.student.replace("_", " ")
            inside = f"{name}_{submission.number}_assignsubmission_file/feedback.html"
            archive.write(folder / "feedback" / f"{submission.key}.html", inside)
    return [packed]


def _harmless(value: str) -> str:
    """A spreadsheet runs a cell that starts like a formula, in wide letters too."""
    start = unicodedata.normalize("NFKC", value).lstrip()[:1]
    return f"'{value}" if start in ("=", "+", "-", "@") or value[:1] == "\t" else value
