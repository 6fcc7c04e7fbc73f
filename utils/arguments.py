"""Checks of arguments: errors that name the argument, what was given and what was expected."""

from __future__ import annotations

from torch import nn


def check_module(argument: str, value: object) -> None:
    """Raise an error that names the argument, unless its value is a module.

    Parameters
    ----------
    argument
        Its name, as the caller knows it.
    value
        What was given.

    Raises
    ------
    TypeError
        If ``value`` is not a module.

    Examples
    --------
    >>> check_module("model", nn.Identity())
    """
    if not isinstance(value, nn.Module):
        raise TypeError(f"{argument} is a {type(value).__name__}; expected a torch.nn.Module.")
