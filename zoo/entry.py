"""One model of the zoo: how it is built, and with what it is called."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from utils.findings import in_one_line

Builder = Callable[[], Any]
"""Makes a model and its inputs: a tuple ``(model, *args)``, with :class:`Keywords` at its end."""
Family = Mapping[str, Mapping[str, Builder]]
"""Builders by the package, as the registry calls it, and the name of the model."""


class Keywords(dict[str, Any]):
    """Keyword arguments of a call."""


@dataclass(frozen=True)
class Entry:
    """One model to audit.

    Attributes
    ----------
    package
        What ``pip install`` calls it.
    name
        The model's class, or what its package calls it, and what sets it apart.
    build
        Makes the model and its inputs.
    """

    package: str
    name: str
    build: Builder

    def built(self) -> tuple[nn.Module, tuple[Any, ...], dict[str, Any]]:
        """Build it: the model, positional and keyword arguments of a call.

        Examples
        --------
        >>> Entry("torch", "Linear", lambda: (nn.Linear(2, 2), 1.0, Keywords(a=2))).built()[1:]
        ((1.0,), {'a': 2})
        """
        model, *args = self.build()
        keywords = args.pop() if args and isinstance(args[-1], Keywords) else {}
        return model, tuple(args), dict(keywords)


class Lazy:
    """A module that is imported when something of it is asked for.

    Examples
    --------
    >>> Lazy("math").sqrt(4.0)
    2.0
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)


class Through(nn.Module):
    """A model that is called by another way than its forward: a flow by ``log_prob``, say."""

    def __init__(self, model: nn.Module, call: Callable[..., Any]) -> None:
        super().__init__()
        self.model, self._call = model, call

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(self.model, *args, **kwargs)


@contextmanager
def switched(model: nn.Module, training: bool) -> Iterator[None]:
    """Put a model in one mode, and each module back in its own; what is made meanwhile follows.

    Examples
    --------
    >>> model = nn.Sequential(nn.Dropout())
    >>> with switched(model, False):
    ...     model.append(nn.Dropout().eval())
    Sequential(...)
    >>> model[1].training
    True
    """
    modes = {module: module.training for module in model.modules()}
    model.train(training)
    try:
        yield
    finally:
        for module in model.modules():
            module.training = modes.get(module, modes[model])


@contextmanager
def empty_as_nan() -> Iterator[None]:
    """Let ``torch.empty`` hold nan: what is never initialised then shows, whatever lay in memory.

    Examples
    --------
    >>> with empty_as_nan():
    ...     bool(torch.empty(3).isnan().all())
    True
    """
    was = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(was)


def first_taken(model: nn.Module, candidates: Iterable[Any]) -> Any:
    """The first inputs that a model takes: a tensor, or :class:`Keywords`.

    Raises
    ------
    ValueError
        If there is none, with what the first of them raised.

    Examples
    --------
    >>> first_taken(nn.Linear(3, 1), (torch.zeros(2, size) for size in (1, 2, 3, 4))).shape
    torch.Size([2, 3])
    """
    errors: list[Exception] = []
    for inputs in candidates:
        args, kwargs = ((), inputs) if isinstance(inputs, Keywords) else ((inputs,), {})
        try:
            with switched(model, False), torch.no_grad():
                model(*args, **kwargs)
        except Exception as error:
            errors.append(error)
        else:
            return inputs
    first = in_one_line(errors[0]) if errors else "no idea what it takes"
    raise ValueError(f"no inputs are taken: {first}")
