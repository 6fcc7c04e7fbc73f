"""Lines whose mode is meant: declared by a comment or an argument, and checked for use."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from .comments import declared_lines
from .report import LoopFinding, Place
from .segments import Segment
from .situations import Situation


class Declarations:
    """What a program declares: by comments in the files of its calls, and by arguments.

    Parameters
    ----------
    segments
        What was recorded.
    on_purpose
        ``"file.py:30"``, or names of functions.
    """

    def __init__(self, segments: Iterable[Segment[Situation]], on_purpose: Sequence[str]) -> None:
        situations = [segment.situation for segment in segments]
        self._on_purpose = on_purpose
        self._by_comment = {s.where for s in situations if s.on_purpose}
        self._files = {s.where.file for s in situations}
        self.used: set[str | tuple[str, int]] = set()

    def __call__(self, finding: LoopFinding) -> bool:
        """Whether a finding is about a declared line."""
        where = finding.where
        names = {f"{os.path.basename(where.file)}:{where.line}", where.function}
        used: set[str | tuple[str, int]] = {
            given for given in self._on_purpose if given in names or _ends(where, given)
        }
        if where in self._by_comment:
            used.add((where.file, where.line))
        self.used |= used
        return bool(used)

    def made(self) -> list[str | tuple[str, int]]:
        """Every declaration: file and line of a comment, or an argument."""
        lines = {(where.file, where.line) for where in self._by_comment}
        lines |= {(file, line) for file in self._files for line in declared_lines(file)}
        return [*sorted(lines), *self._on_purpose]


def unused(declarations: Iterable[Declarations]) -> list[str]:
    """Say which declarations no finding of several recordings needs."""
    declarations = list(declarations)
    used = {given for one in declarations for given in one.used}
    made = dict.fromkeys(given for one in declarations for given in one.made())
    return [
        f"{given if isinstance(given, str) else _short(*given)} is declared to be on purpose, "
        "and nothing was found there"
        for given in made
        if given not in used
    ]


def _ends(where: Place, given: str) -> bool:
    return os.sep in given and f"{where.file}:{where.line}".endswith(given)


def _short(file: str, line: int) -> str:
    return f"{os.path.basename(file)}:{line}"
