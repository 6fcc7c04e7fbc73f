"""The one small network that goes through the book."""

from __future__ import annotations

from torch import nn

from .data import CLASSES, SIDE


def digits_mlp(*, hidden: int = 64, p: float = 0.5) -> nn.Sequential:
    """Make the book's network for the digits, with batch norm and dropout.

    Parameters
    ----------
    hidden
        Width of the hidden layer.
    p
        Probability that dropout zeroes a hidden value in train mode.

    Returns
    -------
    nn.Sequential
        Maps images of shape ``(N, 1, 8, 8)`` to scores (logits) of shape ``(N, 10)``.

    Raises
    ------
    ValueError
        If ``hidden`` is below 1 or ``p`` is outside [0, 1].

    Examples
    --------
    >>> [type(layer).__name__ for layer in digits_mlp()]
    ['Flatten', 'Linear', 'BatchNorm1d', 'ReLU', 'Dropout', 'Linear']
    """
    if hidden < 1:
        raise ValueError(f"hidden is {hidden}; expected at least 1.")
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(SIDE * SIDE, hidden),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Dropout(p),
        nn.Linear(hidden, CLASSES),
    )
