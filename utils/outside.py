"""What the code of a model keeps outside of the model, copied and put back."""

from __future__ import annotations

import dis
import itertools
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from types import CellType, CodeType, FunctionType, ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .nested import iter_leaves
from .random_state import GENERATORS
from .snapshot import Contents, StateKey, TensorKept

MAX_LEAVES = 10_000
"""A collection of more values is left alone: a vocabulary, a data set."""
MISSING = object()
"""Stands where nothing stands."""
VALUES = (Tensor, bool, int, float, complex, str, bytes, type(None), np.ndarray, *GENERATORS)
CONTAINERS = (
    dict, OrderedDict, defaultdict, Counter, list, tuple, set, deque, SimpleNamespace,
)  # fmt: skip
"""Collections that do nothing but hold: a class of one's own may make what it is asked for."""


@dataclass(frozen=True, eq=False)
class Place:
    """A name in a class, among global variables or in a function.

    Attributes
    ----------
    module
        Qualified name of the first module of the model whose code can reach it.
    label
        What to call it in a report, by its kind and its name.
    holder, name
        Where it stands.
    """

    module: str
    label: str
    holder: Any
    name: str

    def get(self) -> Any:
        """What stands there now; ``MISSING`` if nothing does."""
        if isinstance(self.holder, dict):
            return self.holder.get(self.name, MISSING)
        if isinstance(self.holder, type):
            return vars(self.holder).get(self.name, MISSING)
        try:
            return getattr(self.holder, self.name)
        except (AttributeError, ValueError):  # no such attribute, an empty cell
            return MISSING

    def put(self, value: Any) -> None:
        """Let a value stand there, or nothing."""
        if isinstance(self.holder, dict):
            if value is MISSING:
                del self.holder[self.name]
            else:
                self.holder[self.name] = value
        elif value is MISSING:
            delattr(self.holder, self.name)
        else:
            setattr(self.holder, self.name, value)


class OutsideState:
    """Data that a model's own classes reach without the model.

    Attributes of the classes, and the global variables, closure variables and default arguments
    of their methods and of the functions that these call, as far as they belong to the package
    that a class comes from. PyTorch's own classes have none, and collections of very many values
    are left alone.

    Parameters
    ----------
    model
        Any module.

    Examples
    --------
    >>> class Counts(nn.Module):
    ...     calls = 0
    ...     def forward(self, x):
    ...         Counts.calls += 1
    ...         return x * Counts.calls
    >>> outside = OutsideState(Counts())
    >>> float(Counts()(1.0)), float(Counts()(1.0))
    (1.0, 2.0)
    >>> outside.state()["", "class attribute Counts.calls", ""]
    2
    >>> outside.put_back()
    >>> Counts.calls
    0
    """

    def __init__(self, model: nn.Module) -> None:
        found: dict[tuple[int, str], Place] = {}
        seen: set[int] = set()
        self._packages: dict[Place, str] = {}
        for module_name, module in model.named_modules():
            functions = [v for v in vars(module).values() if isinstance(v, FunctionType)]
            for thing in [*type(module).__mro__, *functions]:
                if _package(thing) in ("torch", "builtins"):
                    continue
                for place in _reached_by(thing, module_name, _package(thing), seen):
                    if found.setdefault((id(place.holder), place.name), place) is place:
                        self._packages[place] = _package(thing)
        large = [place for place, value in self._now() if _is_large(value)]
        for place in large:
            del self._packages[place]
        self._places = {(place.module, place.label): place for place in self._packages}
        self._at_first = {place: place.get() for place in self._packages}
        data = [value for _, value in self._now()]
        self._contents = Contents(data)
        leaves = [leaf for value in data for _, leaf in iter_leaves(value)]
        self._tensors = [
            TensorKept(leaf, leaf.detach().clone()) for leaf in leaves if isinstance(leaf, Tensor)
        ]

    def _now(self) -> Iterator[tuple[Place, Any]]:
        for place, package in self._packages.items():
            value = place.get()
            if _is_data(value, package):
                yield place, value

    def state(self) -> dict[StateKey, Any]:
        """Copy what stands there now, as :func:`utils.snapshot.own_state` does for a model."""
        return {
            (place.module, place.label, path): leaf.detach().clone()
            if isinstance(leaf, Tensor)
            else leaf
            for place, value in self._now()
            for path, leaf in iter_leaves(value)
        }

    def place(self, module: str, label: str) -> Place | None:
        """The place that a report calls so."""
        return self._places.get((module, label))

    def put_back(self) -> None:
        """Make everything as it was."""
        for place, before in self._at_first.items():
            now, package = place.get(), self._packages[place]
            if now is not before and (_is_data(before, package) or _is_data(now, package)):
                place.put(before)
        self._contents.put_back()
        with torch.no_grad():
            for kept in self._tensors:
                kept.put_back()


def _reached_by(thing: Any, module: str, package: str, seen: set[int]) -> Iterator[Place]:
    """The places that a class or a function reaches, what it calls included."""
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, type):
        functions = [f for member in vars(thing).values() for f in _functions_in(member)]
        stored = {name for f in functions for name in _names_in(f.__code__, "STORE_ATTR")}
        yield from _attributes(thing, "class attribute", stored, module)
        for function in functions:
            yield from _reached_by(function, module, package, seen)
        return
    yield from _attributes(
        thing, "function attribute", _names_in(thing.__code__, "STORE_ATTR"), module
    )
    if thing.__defaults__ or thing.__kwdefaults__:
        for name in ("__defaults__", "__kwdefaults__"):
            yield Place(module, f"default argument of {thing.__name__}", thing, name)
    for name, cell in zip(thing.__code__.co_freevars, thing.__closure__ or (), strict=True):
        yield Place(module, f"closure variable {name}", cell, "cell_contents")
        yield from _reached_from(_content(cell), set(), module, package, seen)
    attributes = _names_in(thing.__code__, "LOAD_ATTR", "LOAD_METHOD", "STORE_ATTR")
    for name in _names_in(thing.__code__, "LOAD_GLOBAL", "STORE_GLOBAL"):
        yield Place(module, f"global {name}", thing.__globals__, name)
        yield from _reached_from(thing.__globals__.get(name), attributes, module, package, seen)


def _attributes(thing: Any, kind: str, stored: set[str], module: str) -> Iterator[Place]:
    """What a class or a function holds, and what may be stored there later."""
    for name in stored | set(vars(thing)):
        if not name.startswith("__"):
            yield Place(module, f"{kind} {thing.__name__}.{name}", thing, name)


def _reached_from(
    value: Any, names: set[str], module: str, package: str, seen: set[int]
) -> Iterator[Place]:
    """What is reached by way of a function, a class or a Python module of the same package."""
    if isinstance(value, ModuleType) and value.__name__.partition(".")[0] == package:
        for name in names:
            yield Place(module, f"global {value.__name__}.{name}", vars(value), name)
            inner = vars(value).get(name)
            if isinstance(inner, FunctionType) and _package(inner) == package:
                yield from _reached_by(inner, module, package, seen)
    elif isinstance(value, (FunctionType, type)) and _package(value) == package:
        yield from _reached_by(value, module, package, seen)


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _functions_in(member: Any) -> Iterator[FunctionType]:
    """The functions of a class member: methods, properties, what a decorator stands around."""
    if isinstance(member, property):
        inside = [member.fget, member.fset]
    elif isinstance(member, (staticmethod, classmethod)):
        inside = [member.__func__]
    else:
        inside = [member]
    for function in inside:
        while isinstance(function, FunctionType):
            yield function
            function = getattr(function, "__wrapped__", None)


def _names_in(code: CodeType, *operations: str) -> set[str]:
    """The names that a function uses so, those of functions inside it included."""
    inner = [const for const in code.co_consts if isinstance(const, CodeType)]
    used = {str(step.argval) for step in dis.get_instructions(code) if step.opname in operations}
    return used.union(*(_names_in(const, *operations) for const in inner))


def _package(thing: Any) -> str:
    # what functools.wraps has made carries another function's __module__
    function = isinstance(thing, FunctionType)
    name = thing.__globals__.get("__name__") if function else thing.__module__
    return str(name).partition(".")[0]


def _is_large(value: Any) -> bool:
    leaves = itertools.islice(iter_leaves(value), MAX_LEAVES + 1)
    return sum(1 for _ in leaves) > MAX_LEAVES


def _is_data(value: Any, package: str) -> bool:
    """Whether something may be memory: numbers, containers, objects of the package's own."""
    if isinstance(value, VALUES) or type(value) in CONTAINERS:
        return True
    plain = not isinstance(value, (type, nn.Module, Collection)) and not callable(value)
    return plain and hasattr(value, "__dict__") and _package(type(value)) == package
