"""The one figure style of the book, and the plots that more than one chapter draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from cycler import cycler
from matplotlib.axes import Axes

TRAIN = "#c75000"
"""Colour of train mode, in every figure and on every page."""

EVAL = "#0072b2"
"""Colour of eval mode."""

TRUTH = "#6b6b6b"
"""Colour of a reference: a closed form, a true value, a limit."""

OTHER = "#8b3a80"
"""Colour of what is none of the three."""


def book_style() -> None:
    """Draw figures in the book's style from here on; in a notebook, as reproducible SVG.

    Colours hold for readers who do not tell red from green, and backgrounds are transparent, so
    that a page may be light or dark.

    Examples
    --------
    >>> book_style()
    >>> plt.rcParams["svg.hashsalt"]
    'book'
    """
    plt.rcParams.update(
        {
            "figure.figsize": (5.4, 2.9),
            "figure.constrained_layout.use": True,
            "savefig.transparent": True,
            "figure.facecolor": "none",
            "axes.facecolor": "none",
            "axes.prop_cycle": cycler(color=[EVAL, TRAIN, OTHER, TRUTH]),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 11,
            "axes.titlelocation": "left",
            "font.size": 10.5,
            "lines.linewidth": 2,
            "legend.frameon": False,
            # Ids in an SVG are random unless they are salted: nbval compares figures.
            "svg.hashsalt": "book",
            "svg.fonttype": "path",
        }
    )
    try:
        from IPython.core.getipython import get_ipython
    except ImportError:
        return
    # Without this question set_matplotlib_formats would start a shell in a plain script.
    if get_ipython() is not None:
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("svg", metadata={"Date": None, "Creator": None})


def plot_lines(
    ax: Axes,
    x: Sequence[float],
    lines: Mapping[str, Sequence[float]],
    *,
    colors: Mapping[str, str] | None = None,
    decimals: int = 3,
) -> None:
    """Draw lines, each with its name at its right end instead of in a legend.

    Values are rounded before they are drawn, so that the figure is the same on every machine.

    Parameters
    ----------
    ax
        Where to draw.
    x
        Shared by all lines, of length ``N``.
    lines
        Name and ``N`` values of each line.
    colors
        Colour by name, for lines that have one.
    decimals
        Digits kept of each value.

    Raises
    ------
    ValueError
        If a line has not as many values as ``x``.

    Examples
    --------
    >>> figure, ax = plt.subplots()
    >>> plot_lines(ax, [1, 2, 3], {"train": [1.0, 0.5, 0.3], "eval": [0.9, 0.4, 0.2]})
    >>> [text.get_text() for text in ax.texts]
    ['train', 'eval']
    """
    for name, values in lines.items():
        if len(values) != len(x):
            raise ValueError(
                f"lines[{name!r}] has {len(values)} values; expected {len(x)}, as many as x."
            )
    rounded = {
        name: [round(float(value), decimals) for value in values] for name, values in lines.items()
    }
    for name, height in _label_heights(rounded).items():
        (line,) = ax.plot(x, rounded[name], color=(colors or {}).get(name))
        ax.annotate(
            name,
            (x[-1], height),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=line.get_color(),
            fontweight="bold",
        )


def _label_heights(lines: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Place each label at its line's end, moved down where it would cover the one above."""
    everything = [value for values in lines.values() for value in values]
    room = 0.09 * (max(everything) - min(everything))
    heights: dict[str, float] = {}
    ceiling = float("inf")
    for name in sorted(lines, key=lambda name: -lines[name][-1]):
        heights[name] = ceiling = min(lines[name][-1], ceiling - room)
    return {name: heights[name] for name in lines}
