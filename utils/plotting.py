"""The one figure style of the book, and the plots that more than one chapter draws."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
from cycler import cycler
from matplotlib.axes import Axes

from .arguments import check_module
from .colors import EVAL, OTHER, TRAIN, TRUTH
from .kinds import KINDS
from .module_tree import label, module_rows

if TYPE_CHECKING:
    from torch import nn

    from .recorder import Phase, Recording
__all__ = [
    "EVAL",
    "OTHER",
    "TRAIN",
    "TRUTH",
    "book_style",
    "plot_lines",
    "plot_modules",
    "plot_timeline",
]


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
        Where to draw; set its scale before, so that the names are placed by it.
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
    log = ax.get_yscale() == "log"
    for name, height in _label_heights(rounded, log=log).items():
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


def plot_timeline(ax: Axes, recording: Recording) -> None:
    """Draw a recording: a lane for each line that called the model, coloured by its mode.

    Bars of forwards that led to an optimiser's step are tall, others are low; findings stand
    beside the lane that they name.

    Parameters
    ----------
    ax
        Where to draw.
    recording
        From :func:`utils.recorder.record`, complete.

    Examples
    --------
    >>> from torch import nn, ones
    >>> from utils.recorder import record
    >>> net = nn.Dropout()
    >>> with record(net) as recording:
    ...     _ = net(ones(2)), net.eval()(ones(2))
    >>> figure, ax = plt.subplots()
    >>> plot_timeline(ax, recording)
    >>> ax.get_xlabel()
    'forwards of the model'
    """
    colors = {"train": TRAIN, "eval": EVAL, "mixed": OTHER}
    lanes = list(dict.fromkeys(phase.where for phase in recording.phases))
    for first, count, phase in recording.bars:
        height = 0.7 if phase.use == "step" else 0.3
        ax.barh(
            lanes.index(phase.where),
            count,
            height,
            left=first,
            color=colors[phase.mode],
            linewidth=0,
        )
    for lane, where in enumerate(lanes):
        kinds = [finding.kind for finding in recording.findings if finding.where == where]
        if kinds:
            bars = [(first, phase) for first, _, phase in recording.bars if phase.where == where]
            guilty = [first for first, phase in bars if _is_guilty(phase, kinds[0])]
            ax.annotate(
                "\u2717 " + ", ".join(kinds),
                (min(guilty, default=0), lane),
                xytext=(0, 18 if lane == 0 else 14),
                textcoords="offset points",
                va="center",
                fontweight="bold",
                fontsize=9.5,
            )
    ax.set_yticks(range(len(lanes)), [f"{w.function}, line {w.line}" for w in lanes])
    ax.set_ylim(len(lanes) - 0.4, -0.75)
    ax.set_xlim(0, max(recording.forwards, 1))
    ax.set_xlabel("forwards of the model")
    modes = [mode for mode in colors if any(p.mode == mode for p in recording.phases)]
    for place, mode in enumerate(modes):
        ax.annotate(
            f"{mode} mode",
            (1, 1),
            xycoords="axes fraction",
            xytext=(-78 * (len(modes) - 1 - place), 5),
            textcoords="offset points",
            ha="right",
            color=colors[mode],
            fontweight="bold",
        )


def plot_modules(ax: Axes, model: nn.Module, *, blamed: Mapping[str, str] | None = None) -> None:
    """Draw a model as a tree, each module in the colour of its mode.

    Modules that act on their mode are filled, the others are rings; a cross and a word stand
    beside each that is blamed.

    Parameters
    ----------
    ax
        Where to draw; allow 0.25 inches of height for each module.
    model
        Any module.
    blamed
        What to write beside a module, by its qualified name, ``""`` for the root: the kind of a
        finding of :func:`utils.audit.audit`, for one.

    Raises
    ------
    TypeError
        If ``model`` is not a module.
    ValueError
        If ``blamed`` names a module that the model has not.

    Examples
    --------
    >>> from torch import nn
    >>> figure, ax = plt.subplots()
    >>> plot_modules(ax, nn.Sequential(nn.Linear(2, 2), nn.Dropout()))
    >>> [text.get_text() for text in ax.texts]
    ['Sequential', '0  Linear', '1  Dropout']
    """
    check_module("model", model)
    modules = module_rows(model)
    for name in blamed or {}:
        if name not in modules:
            raise ValueError(f"blamed names {name!r}; expected a module of the model.")
    heights = {name: row for row, name in enumerate(modules)}
    for name, module in modules.items():
        depth, row = (name.count(".") + 1 if name else 0), heights[name]
        if name:
            above = heights[name.rpartition(".")[0]]
            ax.plot(
                [depth - 1, depth - 1, depth - 0.3], [above, row, row], color=TRUTH, lw=1, zorder=1
            )
        color = TRAIN if module.training else EVAL
        inside = color if module.acts else "none"
        ax.scatter([depth], [row], s=55, color=inside, edgecolors=color, linewidths=2, zorder=2)
        found = (blamed or {}).get(name)
        text = label(name, module) + (f"   \u2717 {found}" if found else "")
        ax.annotate(
            text,
            (depth, row),
            xytext=(9, 0),
            textcoords="offset points",
            va="center",
            color=color,
            fontweight="bold" if found else "normal",
        )
    ax.set(xlim=(-0.3, 6), ylim=(len(modules) - 0.4, -0.6))
    ax.axis("off")


def _is_guilty(phase: Phase, kind: str) -> bool:
    """Whether a finding of a kind can be about a phase at its line."""
    marks = KINDS[kind].drawn_at
    if marks == "eval":
        return phase.mode == "eval"
    return bool(phase.in_train) if marks == "train" else phase.use != "step"


def _label_heights(lines: Mapping[str, Sequence[float]], *, log: bool = False) -> dict[str, float]:
    """Place each label at its line's end, moved down where it would cover the one above."""
    to, back = (math.log10, lambda height: 10**height) if log else (float, float)
    everything = [to(value) for values in lines.values() for value in values]
    room = 0.09 * (max(everything) - min(everything))
    heights: dict[str, float] = {}
    ceiling = float("inf")
    for name in sorted(lines, key=lambda name: -lines[name][-1]):
        ceiling = min(to(lines[name][-1]), ceiling - room)
        heights[name] = back(ceiling)
    return {name: heights[name] for name in lines}
