"""Rows of nested values: which of them belong to a sample, taken out and compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .nested import children, is_container, iter_leaves, map_children, tensor_gap, to_dense


def batch_size(inputs: Any) -> int | None:
    """The size that the first tensor, or list of tensors, of an input has in dimension 0.

    Examples
    --------
    >>> batch_size(({"image": torch.zeros(8, 3)},)), batch_size((torch.tensor(1.0),))
    (8, None)
    """
    if isinstance(inputs, Tensor):
        return len(inputs) if inputs.dim() else None
    if is_list_of_rows(inputs):
        return len(inputs)
    if is_container(inputs):
        sizes = map(batch_size, children(inputs))
        return next((size for size in sizes if size is not None), None)
    return None


def is_list_of_rows(value: Any) -> bool:
    """Whether a list has an entry for each sample: dicts, or tensors that are not levels.

    Examples
    --------
    >>> is_list_of_rows([{"boxes": torch.zeros(3, 4)}, {"boxes": torch.zeros(1, 4)}])
    True
    >>> is_list_of_rows([torch.zeros(8, 2, 16, 16), torch.zeros(8, 2, 4, 4)])
    False
    """
    if not isinstance(value, list) or not value:
        return False
    if isinstance(value[0], Mapping) or _is_record(value[0]):
        return True
    if not all(isinstance(item, Tensor) and item.dim() for item in value):
        return False
    # Levels of a pyramid share their batch and differ in size. Images of one or three channels,
    # too, are alike in dimension 0 and differ in size.
    images = value[0].dim() == 3 and len(value[0]) in (1, 3)
    return images or not (
        len({item.shape for item in value}) > 1
        and len({len(item) for item in value}) == 1
        and len(value[0]) > 1
    )


def _is_record(value: Any) -> bool:
    """Whether a value is a plain object with attributes, such as the boxes of one image."""
    return (
        hasattr(value, "__dict__")
        and not isinstance(value, (Tensor, nn.Module))
        and not callable(value)
    )


def select_rows(value: Any, batch: int, rows: slice, *, dim: int = 0) -> Any:
    """Take some rows of everything that has a row for each sample; leave the rest as it is.

    Examples
    --------
    >>> {k: len(v) for k, v in select_rows({"x": torch.zeros(4, 2), "w": torch.zeros(3)}, 4,
    ...                                    slice(0, 2)).items()}
    {'x': 2, 'w': 3}
    """
    if isinstance(value, Tensor):
        plain = value.layout == torch.strided and not value.is_nested
        if plain and value.dim() > dim and value.shape[dim] == batch:
            return value[rows] if dim == 0 else value[:, rows]
        return value
    if dim == 0 and is_list_of_rows(value) and len(value) == batch:
        return value[rows]
    if is_container(value):
        return map_children(value, lambda item: select_rows(item, batch, rows, dim=dim))
    return value


def rows_apart(full: Any, part: Any, batch: int, rows: slice, *, size: int) -> float | None:
    """Compare rows of one output with an output made for those rows, where both have rows.

    Parameters
    ----------
    full
        The output for the whole batch.
    part
        The output for ``size`` samples, of which the first are, or are all, ``rows`` of the
        batch.
    batch, size
        Samples in the two.
    rows
        Which rows of ``full`` to compare with which rows of ``part``.

    Returns
    -------
    float or None
        Their :func:`utils.nested.relative_gap`; None if nothing in the two has rows.
    """
    pairs = list(_row_pairs(full, part, batch, rows, size))
    return max((tensor_gap(a, b) for a, b in pairs), default=None) if pairs else None


def _row_pairs(
    full: Any, part: Any, batch: int, rows: slice, size: int
) -> Iterator[tuple[Any, Any]]:
    if isinstance(full, Tensor) and isinstance(part, Tensor):
        full, part = to_dense(full), to_dense(part)
        if full.dim() and part.dim() and len(full) == batch and len(part) == size:
            one, other = full[rows], part[rows] if size == batch else part
            if one.shape == other.shape:
                # Relative to the largest value of the batch: a row of zeros has no scale.
                yield one, other
        return
    if is_list_of_rows(full) and is_list_of_rows(part) and len(full) == batch:
        others = part[rows] if size == batch else part
        for one, other in zip(full[rows], others, strict=False):
            a, b = list(iter_leaves(one)), list(iter_leaves(other))
            if [path for path, _ in a] == [path for path, _ in b]:
                yield from ((x, y) for (_, x), (_, y) in zip(a, b, strict=True))
        return
    if type(full) is not type(part):
        return
    if isinstance(full, Mapping):
        for key in full:
            if key in part:
                yield from _row_pairs(full[key], part[key], batch, rows, size)
    elif isinstance(full, (list, tuple)):
        for one, other in zip(full, part, strict=False):
            yield from _row_pairs(one, other, batch, rows, size)
    elif hasattr(full, "__dict__") and not isinstance(full, nn.Module) and not callable(full):
        yield from _row_pairs(vars(full), vars(part), batch, rows, size)
