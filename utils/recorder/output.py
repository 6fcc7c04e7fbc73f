"""A recorded program written out: as text, as JSON, as annotations for GitHub, as one page."""

from __future__ import annotations

import io
import json
import os
from html import escape
from typing import Any

from ..kinds import KINDS
from .programs import ProgramRecorder
from .report import LoopFinding, Recording

STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;display:block;overflow-x:auto}"
    "th,td{border-bottom:1px solid #8888;padding:.3rem .8rem;text-align:left;vertical-align:top}"
    "svg{max-width:100%;height:auto}"
    "@media(prefers-color-scheme:dark){body{background:#121212;color:#e8e8e8}"
    "svg{filter:invert(1) hue-rotate(180deg)}}"
)


def as_text(program: ProgramRecorder, said: list[LoopFinding], rank: str | None = None) -> str:
    """Write every recording as a table, each finding under the first that has it.

    Parameters
    ----------
    program
        What was recorded.
    said
        The findings to spell out.
    rank
        Which of several processes it was.
    """
    left, parts = {(f.kind, f.where): f for f in said}, []
    alike: dict[tuple[object, ...], int] = {}
    for recording in program.recordings:
        key = (*recording.table(), *recording.notes, *recording.findings)
        alike[key] = alike.get(key, 0) + 1
        if alike[key] > 1:
            continue
        new = [left.pop((f.kind, f.where), None) for f in recording.findings]
        told = [finding for finding in new if finding is not None]
        parts.append(_told(recording, told))
    more = sum(alike.values()) - len(alike)
    notes = [f"{more} more models were called just like one of these"] if more else []
    notes += [f"not checked: {note}" for note in program.notes]
    if not program.recordings:
        notes = ["no call of a model was seen", *notes]
    prefix = "" if rank is None else f"rank {rank}: "
    return prefix + "\n\n".join([*parts, *(["\n".join(notes)] if notes else [])])


def _told(recording: Recording, findings: list[LoopFinding]) -> str:
    """A recording of which some findings have been told before."""
    shown = Recording(recording.name)
    vars(shown).update(vars(recording))
    head = recording.headline()
    shown.findings = findings
    text = repr(shown).replace(shown.headline(), head, 1)
    before = len(recording.findings) - len(findings)
    of_them = "1 of them is" if before == 1 else f"{before} of them are"
    return text + (f"\n{of_them} said elsewhere, of another model or process" if before else "")


def as_json(program: ProgramRecorder, rank: str | None = None) -> str:
    """Write everything for another program to read."""
    recordings = [
        {
            "model": recording.name,
            "forwards": recording.forwards,
            "steps": recording.steps,
            "phases": [_plain(vars(phase)) for phase in recording.phases],
            "findings": [_as_dict(finding) for finding in recording.findings],
            "declared": [_as_dict(finding) for finding in recording.declared],
            "notes": recording.notes,
        }
        for recording in program.recordings
    ]
    return json.dumps({"rank": rank, "recordings": recordings, "notes": program.notes})


def _as_dict(finding: LoopFinding) -> dict[str, Any]:
    return {
        "kind": finding.kind,
        "where": finding.where._asdict(),
        "evidence": finding.evidence,
        "cure": finding.cure,
        "chapter": KINDS[finding.kind].chapter,
    }


def _plain(phase: dict[str, Any]) -> dict[str, Any]:
    return phase | {"where": phase["where"]._asdict(), "in_train": list(phase["in_train"])}


def as_annotations(said: list[LoopFinding]) -> str:
    """Write findings as GitHub reads them: beside the lines of a pull request.

    References
    ----------
    https://docs.github.com/en/actions/reference/workflow-commands-for-github-actions
    """
    lines = []
    for finding in said:
        file = os.path.relpath(finding.where.file, os.environ.get("GITHUB_WORKSPACE", "."))
        text = _escaped(f"{finding.evidence}\ncure: {finding.cure}")
        place = f"file={_escaped_property(file)},line={finding.where.line}"
        lines.append(f"::warning {place},title={finding.kind}::{text}")
    return "\n".join(lines)


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escaped_property(text: str) -> str:
    return _escaped(text).replace(":", "%3A").replace(",", "%2C")


def as_page(program: ProgramRecorder) -> str:
    """Write one page of HTML that needs nothing else, with a timeline of each recording."""
    parts = [
        f"<section>{_timeline(recording)}{recording._repr_html_()}</section>"
        for recording in program.recordings
    ]
    notes = "".join(f"<p>not checked: {escape(note)}</p>" for note in program.notes)
    count = len(program.findings)
    title = f"{count or 'no'} finding{'' if count == 1 else 's'}"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>evalmode: {title}</title><style>{STYLE}</style></head>"
        f"<body><h1>{title}</h1>{''.join(parts)}{notes}</body></html>"
    )


def _timeline(recording: Recording) -> str:
    from matplotlib.figure import Figure

    from ..plotting import plot_timeline

    lanes = len({phase.where for phase in recording.phases})
    figure = Figure(figsize=(9, 1.2 + 0.6 * lanes), layout="constrained")
    plot_timeline(figure.subplots(), recording)
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None})
    svg = drawn.getvalue()
    label = escape(f"Timeline of {recording.headline()}", quote=True)
    return svg[svg.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
