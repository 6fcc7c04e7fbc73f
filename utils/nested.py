"""Nested values, as models take and return them: walked through, compared, made anew."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .random_state import GENERATORS, state_of

DEPTH = 8
"""How deep nested outputs and attributes are looked into."""


def iter_leaves(
    value: Any, path: str = "", depth: int = 0, seen: set[int] | None = None
) -> Iterator[tuple[str, Any]]:
    """Walk through nested tensors and numbers, each with its place.

    Tuples, lists, mappings, dataclasses and plain objects are looked into; generators of random
    numbers stand for their state.

    Examples
    --------
    >>> [path for path, _ in iter_leaves({"boxes": [torch.ones(2), 3]})]
    ["['boxes'][0]", "['boxes'][1]"]
    """
    if isinstance(value, (Tensor, bool, int, float, complex, str, bytes, type(None))):
        yield path, value
    elif isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        yield path, torch.from_numpy(np.array(value))
    elif isinstance(value, GENERATORS):
        state = state_of(value)
        yield path, state if isinstance(state, Tensor) else str(state)
    elif depth >= DEPTH or isinstance(value, nn.Module) or callable(value):
        yield path, type(value).__name__
    elif isinstance(value, Mapping):
        for key in value.keys():  # noqa: SIM118  (some iterate otherwise)
            yield from iter_leaves(value[key], f"{path}[{key!r}]", depth + 1, seen)
    elif isinstance(value, (list, tuple, deque)):
        for index, item in enumerate(value):
            yield from iter_leaves(item, f"{path}[{index}]", depth + 1, seen)
    elif hasattr(value, "__dict__"):
        seen = set() if seen is None else seen
        if id(value) not in seen:
            seen.add(id(value))
            for name, item in vars(value).items():
                yield from iter_leaves(item, f"{path}.{name}", depth + 1, seen)
    else:
        yield path, type(value).__name__


def relative_gap(one: Any, other: Any) -> float:
    """Measure how far two nested outputs are apart, relative to the largest value in them.

    Parameters
    ----------
    one, other
        Outputs of a model: tensors, or anything nested.

    Returns
    -------
    float
        0 if they are the same, infinity if they differ in structure, shape, a whole number or
        in what is finite. ``nan`` in the same place is the same.

    Examples
    --------
    >>> relative_gap({"a": torch.tensor([2.0, 4.0])}, {"a": torch.tensor([2.0, 3.0])})
    0.25
    """
    ones, others = list(iter_leaves(one)), list(iter_leaves(other))
    if [path for path, _ in ones] != [path for path, _ in others]:
        return float("inf")
    return max((tensor_gap(a, b) for (_, a), (_, b) in zip(ones, others, strict=True)), default=0.0)


def tensor_gap(one: Any, other: Any) -> float:
    if isinstance(one, float) and isinstance(other, float):
        one, other = torch.tensor(one), torch.tensor(other)
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        same = type(one) is type(other) and one == other
        return 0.0 if same else float("inf")
    one, other = to_dense(one), to_dense(other)
    if one.shape != other.shape or one.dtype != other.dtype:
        return float("inf")
    if one.is_meta or one.numel() == 0:
        return 0.0
    one, other = one.detach(), other.detach()
    if not one.is_floating_point() and not one.is_complex():
        return 0.0 if torch.equal(one, other) else float("inf")
    if torch.equal(one, other):
        return 0.0
    if one.is_floating_point() and torch.finfo(one.dtype).bits < 32:
        one, other = one.float(), other.float()
    gap, size = (one - other).abs(), torch.maximum(one.abs(), other.abs())
    finite = gap.isfinite()
    alike = (one == other) | (one.isnan() & other.isnan())
    if not bool((finite | alike).all()):
        return float("inf")
    gap, size = gap[finite], size[finite]
    if gap.numel() == 0 or float(size.max()) == 0.0:
        return 0.0
    return float(gap.max() / size.max())


def to_dense(tensor: Tensor) -> Tensor:
    if tensor.is_quantized:
        return tensor.dequantize()
    if tensor.is_nested:
        return torch.nested.to_padded_tensor(tensor, 0.0)
    return tensor.to_dense() if tensor.layout != torch.strided else tensor


def map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Apply a function to every tensor of a nested value; containers are made anew.

    Examples
    --------
    >>> map_tensors({"a": [torch.ones(1), "text"]}, lambda t: t * 2)
    {'a': [tensor([2.]), 'text']}
    """
    found = [leaf for _, leaf in iter_leaves(value) if isinstance(leaf, Tensor)]
    return _rebuild(value, {id(leaf): change(leaf) for leaf in found})


def _rebuild(value: Any, memo: dict[int, Any]) -> Any:
    if id(value) in memo:
        return memo[id(value)]
    if isinstance(value, nn.Module) or callable(value):
        return value
    if is_container(value):
        return map_children(value, lambda item: _rebuild(item, memo))
    try:
        return copy.deepcopy(value, memo)
    except Exception:
        return value


def is_container(value: Any) -> bool:
    """Whether a value is a list, a tuple, a mapping or a dataclass, of whatever class.

    Examples
    --------
    >>> from collections import UserDict
    >>> is_container(UserDict(a=1)), is_container("text")
    (True, False)
    """
    known = isinstance(value, (list, tuple, deque, Mapping))
    return known or (dataclasses.is_dataclass(value) and not isinstance(value, type))


def children(value: Any) -> list[Any]:
    """What a container holds, one level deep."""
    if isinstance(value, Mapping):
        return [value[key] for key in value.keys()]  # noqa: SIM118  (some iterate otherwise)
    if isinstance(value, (list, tuple, deque)):
        return [item for item in value]
    return [getattr(value, field.name) for field in dataclasses.fields(value)]


def map_children(value: Any, change: Callable[[Any], Any]) -> Any:
    """A container of the same class, with each thing in it changed.

    Examples
    --------
    >>> from collections import namedtuple
    >>> map_children(namedtuple("Pair", "a b")(1, 2), lambda n: n + 1)
    Pair(a=2, b=3)
    """
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*[change(item) for item in value])
    if type(value) in (list, tuple, deque):
        return type(value)([change(item) for item in value])
    if type(value) is dict:
        return {key: change(item) for key, item in value.items()}
    try:
        made = copy.copy(value)
        if isinstance(value, Mapping):
            for key in list(value.keys()):
                made[key] = change(value[key])  # type: ignore[index]
        elif isinstance(value, (list, deque)):
            for index, item in enumerate(value):
                made[index] = change(item)
        elif isinstance(value, tuple):
            made = type(value)([change(item) for item in value])
        else:
            for field in dataclasses.fields(value):
                object.__setattr__(made, field.name, change(getattr(value, field.name)))
    except Exception:  # a class with rules of its own
        return value
    return made


def count_non_finite(value: Any) -> int:
    """Count nan and infinite values; minus infinity beside a finite one marks what is left out.

    Examples
    --------
    >>> count_non_finite({"scores": torch.tensor([1.0, -math.inf, math.nan])})
    1
    """
    count = 0
    for _, leaf in iter_leaves(value):
        if isinstance(leaf, float):
            count += not math.isfinite(leaf)
        if not has_floats(leaf):
            continue
        if leaf.is_complex():
            leaf = torch.view_as_real(leaf.resolve_conj())
        bad = leaf.isnan() | (leaf == float("inf"))
        rows = leaf.reshape(-1, leaf.shape[-1]) if leaf.dim() else leaf.reshape(1, 1)
        hidden = (rows == float("-inf")).all(1)
        count += int(bad.sum()) + int(hidden.sum()) * (leaf.shape[-1] if leaf.dim() else 1)
    return count


def has_floats(leaf: Any) -> bool:
    """Whether it is a tensor of floats or complex numbers, plain and not empty."""
    return (
        isinstance(leaf, Tensor)
        and leaf.layout == torch.strided
        and not leaf.is_nested
        and (leaf.is_floating_point() or leaf.is_complex())
        and leaf.numel() > 0
    )
