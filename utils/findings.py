"""What an audit or a recording reports: findings, printed as a table and raised in a test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from textwrap import wrap

EVIDENCE_WIDTH = 62
"""Characters in a line of evidence or cure, where a report is printed."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, how it was measured, and how to mend it.

    Attributes
    ----------
    kind
        A few words that name the mistake, joined by hyphens.
    evidence
        What was measured.
    cure
        What to change.
    """

    kind: str
    evidence: str
    cure: str

    @property
    def place(self) -> str:
        """Where the mistake is, as a reader would look it up."""
        raise NotImplementedError


class Report:
    """Findings that print as a table, render as one in a notebook, and can fail a test.

    Attributes
    ----------
    findings : list of Finding
        Empty if nothing is wrong.
    notes : list of str
        What could not be checked, and why.
    """

    findings: list[Finding]
    notes: list[str]

    def headline(self) -> str:
        """Say in one line what was looked at and how much was found."""
        raise NotImplementedError

    def tally(self) -> str:
        """Say how many findings there are."""
        count = len(self.findings)
        return f"{count or 'no'} finding{'' if count == 1 else 's'}"

    def raise_for_findings(self) -> None:
        """Raise if anything was found: one line in a test suite.

        Raises
        ------
        AssertionError
            With the whole report as its message.
        """
        if self.findings:
            raise AssertionError(str(self))

    def __repr__(self) -> str:
        lines = [self.headline()]
        for finding in self.findings:
            lines += ["", f"{finding.kind}  at  {finding.place}"]
            for label, text in (("measured", finding.evidence), ("cure", finding.cure)):
                first, *rest = wrap(text, EVIDENCE_WIDTH) or [""]
                lines += [f"  {label:9} {first}", *(f"  {'':9} {line}" for line in rest)]
        lines += [f"not checked: {note}" for note in self.notes]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        body = "".join(
            f"<tr><td>{escape(f.kind)}</td><td><code>{escape(f.place)}</code></td>"
            f"<td>{escape(f.evidence)}</td><td>{escape(f.cure)}</td></tr>"
            for f in self.findings
        )
        head = "".join(f"<th>{name}</th>" for name in ("kind", "where", "measured", "cure"))
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        notes = "".join(f"<p>not checked: {escape(note)}</p>" for note in self.notes)
        return f"<p>{escape(self.headline())}</p>{table if self.findings else ''}{notes}"


def first_few(names: Sequence[str]) -> str:
    """Name three of them, and count the rest.

    Examples
    --------
    >>> first_few(["a", "b"]), first_few("abcde")
    ('a, b', 'a, b, c and 2 more')
    """
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def rounded(value: float) -> str:
    """Write a number with two digits that count.

    Examples
    --------
    >>> rounded(0.01234), rounded(12345)
    ('0.012', '12000')
    """
    return f"{value:.2g}" if value < 100 else f"{float(f'{value:.2g}'):.0f}"


def off_by(apart: float) -> str:
    """Say how far two answers are apart, as a share of the largest value.

    Examples
    --------
    >>> off_by(0.5), off_by(float("inf"))
    ('by 0.5 of the largest value', 'in more than value')
    """
    if not math.isfinite(apart):
        return "in more than value"
    return f"by {rounded(apart)} of the largest value"


def in_one_line(error: Exception) -> str:
    """Name an error's class and quote the first line of its message.

    Examples
    --------
    >>> in_one_line(ValueError("too short"))
    'ValueError: too short'
    """
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
