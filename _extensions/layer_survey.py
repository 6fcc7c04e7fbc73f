"""The directive `layer-survey`: a table of what `utils.survey` measures, made at build time."""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from utils.survey import LayerBehaviour, survey


def _unless_container(of: Callable[[LayerBehaviour], str]) -> Callable[[LayerBehaviour], str]:
    return lambda record: "as inside" if record.differs == "inherits" else of(record)


COLUMNS: dict[str, Callable[[LayerBehaviour], str]] = {
    "Class": lambda record: record.name,
    "Output differs": lambda record: record.differs or "not measured",
    "Decided by": lambda record: record.reason,
    "Random in": _unless_container(lambda record: record.where(lambda m: m.random_in)),
    "State moves in": _unless_container(
        lambda record: record.where(lambda m: [mode for mode in m.moves_in if m.moves_in[mode]])
    ),
    "Rows mix in": _unless_container(lambda record: record.where(lambda m: m.mixes_rows_in or ())),
    "Rounds": _unless_container(lambda record: _rounding(record)),
}


def _rounding(record: LayerBehaviour) -> str:
    """The configurations that round otherwise on another path; "yes" for all of them."""
    rounds = [m.differs_by_rounding or m.rounds_without_gradients for m in record.measurements]
    if rounds and all(rounds):
        return "yes"
    return "; ".join(m.arguments for m, does in zip(record.measurements, rounds) if does)


class LayerSurvey(SphinxDirective):
    """Run the survey and write its records as a table."""

    def run(self) -> list[nodes.Node]:
        records = survey()
        caption = nodes.paragraph(
            text=f"{len(records)} classes, measured with PyTorch {torch.__version__.split('+')[0]}."
        )
        table = nodes.table(classes=["survey"])
        group = nodes.tgroup(cols=len(COLUMNS))
        table += group
        group += [nodes.colspec(colwidth=1) for _ in COLUMNS]
        group += nodes.thead("", _row(list(COLUMNS)))
        group += nodes.tbody("", *(_row([of(r) for of in COLUMNS.values()]) for r in records))
        return [caption, table]


def _row(texts: list[str]) -> nodes.row:
    """One row; the class is code, so that the search finds it as a name."""
    row = nodes.row()
    for number, text in enumerate(texts):
        paragraph = nodes.paragraph()
        if text:
            plain = number > 0 or text == "Class"
            paragraph += _breakable(text) if plain else nodes.literal(text=text)
        row += nodes.entry("", paragraph)
    return row


def _breakable(text: str) -> list[nodes.Node]:
    """The text, with a place for a line break after each underscore."""
    first, *others = re.split("(?<=_)", text)
    broken: list[nodes.Node] = [nodes.Text(first)]
    for part in others:
        broken += [nodes.raw("", "<wbr>", format="html"), nodes.Text(part)]
    return broken


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("layer-survey", LayerSurvey)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
