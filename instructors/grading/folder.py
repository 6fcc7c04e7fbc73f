"""Grade all submissions in a folder: one that cannot be graded stops no other."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .apart import Lost, apart
from .assignment import Assignment
from .box import Limits, isolation
from .marking import Graded, grade, not_graded
from .results import BOOK, pack_for_moodle, write_page, write_tables
from .submissions import LARGEST, Submission, Unreadable, find, read

READING_AND_MARKING = 120
"""Seconds, beside those that the submission itself may take."""


@dataclass(frozen=True)
class Folder:
    """A folder of submissions to one assignment.

    Attributes
    ----------
    name, variant
        Of the assignment.
    submitted
        The folder, as a platform exported it.
    limits
        For each submission.
    book
        Address of the book, for links in the feedback.
    """

    name: str
    variant: int
    submitted: Path
    limits: Limits
    book: str = BOOK

    @property
    def output(self) -> Path:
        """Where pages and tables go."""
        submitted = self.submitted.resolve()  # "." has no name
        return submitted.parent / f"{submitted.name}-graded"

    def grade(self) -> Path:
        """Grade it; what was graded before, in the same way, is not graded again."""
        assignment, submissions = self._assignment, find(self.submitted)
        for folder in ("feedback", "results"):
            (self.output / folder).mkdir(parents=True, exist_ok=True)
        print(
            f"{assignment.about['title']}, variant {self.variant}: {len(submissions)} submissions"
        )
        print(f"Isolation: {isolation()}")
        with ThreadPoolExecutor(os.cpu_count()) as workers:
            results = list(workers.map(self._one, submissions))
        # Slow because of its neighbours, perhaps: once more, without them.
        for place, graded in enumerate(results):
            if graded.once_more and len(results) > 1:
                results[place] = self._one(submissions[place], alone=True)
        if results:
            tables = write_tables(self.output, assignment, list(zip(submissions, results)))
            for path in tables + pack_for_moodle(self.output, submissions):
                print(f"Wrote {path}")
        return self.output

    @cached_property
    def _assignment(self) -> Assignment:
        return Assignment.load(self.name, self.variant)

    def _one(self, submission: Submission, alone: bool = False) -> Graded:
        """Grade one, write its page, and say so in a line."""
        try:
            kept = self._kept(submission)
            known = kept.exists()
            if known:
                graded = Graded.from_json(kept.read_text(encoding="utf-8"))
            else:
                graded = apart(
                    _read_and_grade,
                    *(self.name, self.variant, submission, self.limits),
                    seconds=self.limits.seconds + READING_AND_MARKING,
                )
                if alone or not graded.once_more:
                    unfinished = kept.with_suffix(".part")
                    unfinished.write_text(graded.to_json(), encoding="utf-8")
                    unfinished.replace(kept)
            write_page(self._page(submission), submission, self._assignment, graded, self.book)
        except Exception as error:  # one of them must not stop the others; it is not kept
            lost = isinstance(error, Lost)
            why = str(error) if lost else type(error).__name__
            reason = f"It could not be graded, look at it by hand: {why}."
            graded, known = not_graded(self._assignment, reason, once_more=lost), False
            write_page(self._page(submission), submission, self._assignment, graded, self.book)
        note = "as before" if known else "; ".join(graded.remarks)[:90]
        if graded.once_more and not alone:
            note += " (once more at the end)"
        print(f"  {submission.student}: {graded.points:g} of {graded.out_of:g}  {note}", flush=True)
        return graded

    def _page(self, submission: Submission) -> Path:
        return self.output / "feedback" / f"{submission.key}.html"

    def _kept(self, submission: Submission) -> Path:
        """Where the result is kept, under a name of all that it depends on."""
        held = self._how.copy()
        _add(held, submission.files)
        return self.output / "results" / f"{submission.key}-{held.hexdigest()[:12]}.json"

    @cached_property
    def _how(self) -> Any:
        """A hash of the assignment, the limits and the code that grades."""
        held = hashlib.sha256(repr((self._assignment.fingerprint, self.limits)).encode())
        _add(held, sorted(Path(__file__).parent.parent.glob("*/*.py")))
        return held


def _add(held: Any, paths: Iterable[Path]) -> None:
    """Put files into a hash, with their names."""
    for path in paths:
        size = path.stat().st_size
        held.update(os.fsencode(f"{path.name} {size}"))
        if size > LARGEST:  # it is not opened
            continue
        with path.open("rb") as file:
            held.update(hashlib.file_digest(file, "sha256").digest())


def _read_and_grade(name: str, variant: int, submission: Submission, limits: Limits) -> Graded:
    """What is done apart: a stranger's notebook is opened here, and what it answers is marked."""
    assignment = Assignment.load(name, variant)
    try:
        return grade(assignment, read(submission, assignment), limits)
    except Unreadable as problem:
        return not_graded(assignment, str(problem))
