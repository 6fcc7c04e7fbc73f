"""A model's tree written as HTML, for a notebook: each module in the colour of its mode."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape

from torch import nn

from .colors import EVAL, TRAIN
from .listening import listens

MOST_ROWS = 60
"""A larger model is drawn around what is blamed only."""


@dataclass(frozen=True)
class ModuleRow:
    """What a drawing says of one module.

    Attributes
    ----------
    kind
        Name of its class.
    training
        Its mode.
    acts
        Whether it acts on its mode: a filled dot instead of a ring.
    """

    kind: str
    training: bool
    acts: bool


def module_rows(model: nn.Module) -> dict[str, ModuleRow]:
    """Read off every module, by qualified name, what a drawing says of it.

    Examples
    --------
    >>> module_rows(nn.Sequential(nn.Dropout()).eval())["0"]
    ModuleRow(kind='Dropout', training=False, acts=True)
    """
    return {
        name: ModuleRow(type(module).__name__, bool(module.training), listens(module))
        for name, module in model.named_modules(remove_duplicate=False)
    }


def label(name: str, row: ModuleRow) -> str:
    """Name a module in a drawing, where the modules above it can be seen.

    Examples
    --------
    >>> label("body.0", ModuleRow("Dropout", training=True, acts=True))
    '0  Dropout'
    """
    return f"{name.rpartition('.')[2]}  {row.kind}".strip()


def tree_as_html(rows: Mapping[str, ModuleRow], blamed: Mapping[str, str] | None = None) -> str:
    """Draw modules as a tree of lines, with a cross and a word beside each that is blamed.

    Of more than sixty modules only those that are blamed are drawn, with what is above and beside
    them, and the others are counted.

    Parameters
    ----------
    rows
        From :func:`module_rows`.
    blamed
        What to write beside a module, by its qualified name.

    Examples
    --------
    >>> html = tree_as_html(module_rows(nn.Sequential(nn.Dropout())), {"0": "random-in-eval"})
    >>> "0  Dropout" in html, "random-in-eval" in html
    (True, True)
    """
    blamed = blamed or {}
    shown = [name for name in rows if len(rows) <= MOST_ROWS or _is_near(name, blamed)]
    shown = shown[:MOST_ROWS]
    lines = [_line(branch, name, rows[name], blamed.get(name)) for branch, name in _branches(shown)]
    if left_out := len(rows) - len(shown):
        lines.append(f"and {left_out} more modules")
    body = "\n".join(lines)
    return f'<pre style="line-height: 1.4">{body}\n\u25cf acts on its mode  \u25cb does not</pre>'


def _line(branch: str, name: str, row: ModuleRow, found: str | None) -> str:
    variable, color = ("mode-train", TRAIN) if row.training else ("mode-eval", EVAL)
    dot = "\u25cf" if row.acts else "\u25cb"
    mode = (
        f'<span style="color: var(--{variable}, {color})">{dot}</span> {escape(label(name, row))}'
    )
    cross = f"  <strong>\u2717 {escape(found)}</strong>" if found else ""
    return f"{branch}{mode}  {'train' if row.training else 'eval'}{cross}"


def _is_near(name: str, blamed: Mapping[str, str]) -> bool:
    """Whether a module is above, beside or the same as one that is blamed."""
    above = name.rpartition(".")[0] if name else None
    return any(
        not name or found.startswith(f"{name}.") or above == found.rpartition(".")[0]
        for found in blamed or {"": ""}
    )


def _branches(names: list[str]) -> Iterator[tuple[str, str]]:
    """Write before each name the lines that lead to it."""
    last = {name.rpartition(".")[0]: name for name in names if name}  # of each parent
    for name in names:
        parts = name.split(".") if name else []
        ancestors = [".".join(parts[:depth]) for depth in range(1, len(parts))]
        line = "".join(
            "   " if last[above.rpartition(".")[0]] == above else "\u2502  " for above in ancestors
        )
        here = (
            "\u2514\u2500 " if name and last[name.rpartition(".")[0]] == name else "\u251c\u2500 "
        )
        yield (line + here if name else ""), name
