"""What a recording reports: phases, findings, declarations and notes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

from ..findings import Finding, Report


class Place(NamedTuple):
    """A line of code: file, line number and function."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        name = "cell" if self.file == "<cell>" else os.path.basename(self.file)
        return f"{name}:{self.line} in {self.function}"


@dataclass(frozen=True)
class LoopFinding(Finding):
    """A finding about one line of a training program.

    Attributes
    ----------
    where : Place
        File, line and function of the call of the model.
    kind, evidence, cure
        See :class:`utils.findings.Finding`; the kinds of ``found_by="record"`` in
        :data:`utils.kinds.KINDS`.
    """

    where: Place

    @property
    def place(self) -> str:
        """File, line and function, in short."""
        return str(self.where)


@dataclass
class Phase:
    """The forwards of one line of code that are alike, in however many stretches they came.

    Attributes
    ----------
    where : Place
        The line that called the model.
    module : str
        Qualified name of what was called, ``""`` for the model itself; several names where one
        line calls several parts.
    mode : str
        ``"train"``, ``"eval"`` or ``"mixed"``, by the layers inside that listen to it; that of
        the module called where none does.
    in_train : tuple of str
        Which layers that listen were in train mode.
    gradients : str
        ``"on"``, ``"no_grad"`` or ``"inference"``.
    use : str
        ``"step"`` if an optimiser stepped on a backward pass through the output, ``"backward"``
        if only the backward pass came, else ``"none"``.
    forwards, rounds : int
        How many calls, in how many stretches without another between them.
    first, last : int
        The first and the last of them, counted over the recording from 0.
    """

    where: Place
    module: str
    mode: str
    in_train: tuple[str, ...]
    gradients: str
    use: str
    forwards: int = 0
    rounds: int = 1
    first: int = 0
    last: int = 0


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


class Recording(Report):
    """What :func:`utils.recorder.record` saw, and what is wrong with it; prints as a table.

    Attributes
    ----------
    phases : list of Phase
        In the order in which they began.
    findings : list of LoopFinding
        What is wrong.
    declared : list of LoopFinding
        What would be, had its line not been declared to be on purpose.
    notes : list of str
        What could not be watched, and why.
    bars : list of tuple
        ``(first, forwards, phase)`` for each stretch of a timeline, the first thousand.
    """

    findings: list[LoopFinding]  # type: ignore[assignment]

    def __init__(self, name: str) -> None:
        self.phases: list[Phase] = []
        self.findings = []
        self.declared: list[LoopFinding] = []
        self.notes: list[str] = []
        self.bars: list[tuple[int, int, Phase]] = []
        self.forwards = self.steps = 0
        self.name = name

    def headline(self) -> str:
        """Count forwards, steps and findings."""
        on_purpose = f", {len(self.declared)} declared" if self.declared else ""
        forwards, steps = _count(self.forwards, "forward"), _count(self.steps, "optimiser step")
        return f"recording of {self.name}: {forwards}, {steps}, {self.tally()}{on_purpose}"

    def table(self) -> list[tuple[str, ...]]:
        """The phases as rows of text, a header first."""
        rows: list[tuple[str, ...]] = [
            ("forwards", "rounds", "mode", "gradients", "use", "module", "where")
        ]
        for phase in self.phases:
            counts = (str(phase.forwards), str(phase.rounds))
            what = (phase.mode, phase.gradients, phase.use, phase.module or "(root)")
            rows.append((*counts, *what, str(phase.where)))
        return rows

    def __repr__(self) -> str:
        rows = self.table()
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = [
            "  ".join(f"{cell:{w}}" for cell, w in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        head, *findings = super().__repr__().splitlines()
        on_purpose = [f"on purpose: {found.kind}  at  {found.place}" for found in self.declared]
        return "\n".join([head, *lines, *findings, *on_purpose])

    def _repr_html_(self) -> str:
        head, *rows = (
            "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row)
            for tag, row in zip(["th", *["td"] * len(self.phases)], self.table(), strict=True)
        )
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        on_purpose = "".join(
            f"<p>on purpose: {escape(found.kind)} at <code>{escape(found.place)}</code></p>"
            for found in self.declared
        )
        return super()._repr_html_() + on_purpose + table
