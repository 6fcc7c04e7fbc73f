"""The colours of the two modes and of what stands beside them, in figures and on pages."""

from __future__ import annotations

from typing import Literal

TRAIN = "#c75000"
"""Train mode, in figures."""
EVAL = "#0072b2"
"""Eval mode, in figures."""
TRUTH = "#6b6b6b"
"""A reference, in figures: a closed form, a true value, a limit."""
OTHER = "#8b3a80"
"""What is none of the three, in figures."""

# Text needs more contrast than a line or a bar, and on a dark ground another lightness.
ON_PAGES: dict[str, dict[str, str]] = {
    "light": {"train": "#a84400", "eval": "#00609c", "other": OTHER, "truth": TRUTH},
    "dark": {"train": "#ffa66b", "eval": "#74bdf2", "other": "#e09ad4", "truth": "#a8a8a8"},
}
"""The same colours for the text of a page, by its theme."""


def css_variables(theme: Literal["light", "dark"]) -> str:
    """Write the colours of a theme as the variables that the style sheet uses.

    Examples
    --------
    >>> css_variables("dark")
    '--mode-train: #ffa66b; --mode-eval: #74bdf2; --book-other: #e09ad4; --book-truth: #a8a8a8;'
    """
    colors = ON_PAGES[theme]
    names = {"train": "mode-train", "eval": "mode-eval", "other": "book-other"}
    names["truth"] = "book-truth"
    return " ".join(f"--{name}: {colors[what]};" for what, name in names.items())
