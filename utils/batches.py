"""Batches as loaders yield them: split, counted, sent to a device, run through a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler

from .arguments import check_module

Unpack = Callable[[Any], tuple[Any, Any]]

TARGET_KEYS = ("target", "targets", "label", "labels", "y")
"""Where :func:`unpack_batch` looks for the target of a dict batch."""


def unpack_batch(batch: Any) -> tuple[Any, Any]:
    """Split a batch into inputs and target, by its shape alone.

    Parameters
    ----------
    batch
        A tuple or list ``(inputs, target)``, or a dict with one of the keys in
        :data:`TARGET_KEYS`. The other entries of a dict are the inputs: a single one is passed to
        the model as it is, several are passed as keyword arguments.

    Returns
    -------
    tuple
        ``(inputs, target)``.

    Raises
    ------
    ValueError
        If the batch is of another kind: give ``unpack`` a function that knows it.

    Examples
    --------
    >>> unpack_batch({"image": 1, "label": 2})
    (1, 2)
    >>> unpack_batch({"ids": 1, "mask": 0, "labels": 2})
    ({'ids': 1, 'mask': 0}, 2)
    """
    expected, given = "(inputs, target)", type(batch).__name__
    if isinstance(batch, (tuple, list)):
        if len(batch) == 2:
            inputs, target = batch
            # A DataLoader makes a list of what was a tuple in the data set.
            return (tuple(inputs) if _are_parallel(inputs, target) else inputs), target
        given = f"a {given} of {len(batch)}"
    elif isinstance(batch, Mapping):
        found = [key for key in TARGET_KEYS if key in batch]
        rest = {key: value for key, value in batch.items() if key not in found}
        if len(found) == 1 and rest:
            return (rest if len(rest) > 1 else next(iter(rest.values()))), batch[found[0]]
        expected = f"inputs and exactly one of the keys {', '.join(TARGET_KEYS)}"
        given = f"a dict with the keys {', '.join(map(str, batch))}"
    raise ValueError(f"batch is {given}; expected {expected}, or a function for unpack.")


def _are_parallel(inputs: Any, target: Any) -> bool:
    """Whether inputs are a list of tensors with as many rows as the target."""
    return (
        isinstance(inputs, list)
        and isinstance(target, Tensor)
        and all(isinstance(x, Tensor) and x.dim() and len(x) == len(target) for x in inputs)
    )


def run_on_batch(model: nn.Module, inputs: Any) -> Any:
    """Call a model on unpacked inputs: a tuple positionally, a dict by keyword, else as they are.

    Parameters
    ----------
    model
        Any module.
    inputs
        The first value of :func:`unpack_batch`.

    Returns
    -------
    object
        Whatever the model returns.

    Examples
    --------
    >>> run_on_batch(nn.Bilinear(2, 3, 4), (torch.ones(5, 2), torch.ones(5, 3))).shape
    torch.Size([5, 4])
    """
    if isinstance(inputs, Tensor):
        return model(inputs)
    if isinstance(inputs, tuple):
        return model(*inputs)
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(inputs)


def to_device(value: Any, device: torch.device) -> Any:
    """Send each tensor in nested tuples, lists and dicts to a device; other values stay.

    Parameters
    ----------
    value
        A tensor, a container of tensors, or anything else.
    device
        Where to.

    Returns
    -------
    object
        The same structure.

    Examples
    --------
    >>> to_device({"x": torch.ones(2), "id": "a"}, torch.device("meta"))["x"].device
    device(type='meta')
    """
    if isinstance(value, Tensor):
        return value if value.device == device else value.to(device)
    if isinstance(value, Mapping):
        return {key: to_device(item, device) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(to_device(item, device) for item in value))
    if isinstance(value, (tuple, list)):
        return type(value)(to_device(item, device) for item in value)
    return value


def samples_in(output: Any, target: Any) -> int:
    """Count the samples of a batch, by the first dimension of the target, else of the output."""
    for value in (target, output):
        if isinstance(value, Tensor):
            return value.shape[0] if value.dim() else 1
    if isinstance(target, Sequence):
        return len(target)
    raise ValueError(
        f"target is a {type(target).__name__} and output a {type(output).__name__}; expected a "
        "tensor in one of them, or a sequence for target, to count the samples of the batch."
    )


def device_of_batches(model: nn.Module, device: torch.device | str | None) -> torch.device:
    """Decide where batches go: to the device that was asked for, or to the model's.

    Parameters
    ----------
    model
        Any module.
    device
        What a caller gave; the device of the first parameter if None.

    Returns
    -------
    torch.device

    Raises
    ------
    TypeError
        If ``model`` is not a module.
    ValueError
        If torch does not know the device, or no part of the model is on it.

    Examples
    --------
    >>> device_of_batches(nn.Linear(2, 2), None)
    device(type='cpu')
    """
    check_module("model", model)
    if device is None:
        first = next(model.parameters(), next(model.buffers(), None))
        return torch.device("cpu") if first is None else first.device
    held = {tensor.device for tensor in [*model.parameters(), *model.buffers()]}
    try:
        asked = torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(
            f"device is {device!r}; expected one that torch knows on this machine, such as 'cpu'."
        ) from error
    if held and asked not in held:
        raise ValueError(
            f"device is {str(asked)!r} but the model is on {', '.join(sorted(map(str, held)))}; "
            "move the model first: it is left where it is."
        )
    return asked


def left_out_or_repeated(loader: Any, processes: int = 1) -> str:
    """Say how many samples of its data set a loader leaves out or repeats; nothing if none.

    Parameters
    ----------
    loader
        A ``DataLoader``; of any other iterable nothing is known.
    processes
        Among how many the set is shared: a sampler that draws an equal share is then in order.

    Returns
    -------
    str
        Words for a warning, or ``""``.

    Examples
    --------
    >>> from torch.utils.data import DataLoader
    >>> left_out_or_repeated(DataLoader(range(10), batch_size=4, drop_last=True))
    'loader leaves out the last 2 of 10 samples (drop_last=True)'
    """
    if not isinstance(loader, DataLoader):
        return ""
    inside = getattr(loader.batch_sampler, "sampler", None)  # of a batch sampler of one's own
    sampler = loader.sampler if inside is None else inside
    try:
        whole, drawn = len(loader.dataset), len(sampler)  # type: ignore[arg-type]
    except (TypeError, NotImplementedError, AttributeError):
        return ""
    if isinstance(sampler, DistributedSampler):
        ranks, share = sampler.num_replicas, sampler.total_size
        if share > whole:
            return (
                f"loader's DistributedSampler repeats {share - whole} of {whole} samples, so that "
                f"each of {ranks} processes gets as many"
            )
        if share < whole:
            return f"loader's DistributedSampler leaves out {whole - share} of {whole} samples"
    elif drawn < whole and drawn not in (whole // processes, -(-whole // processes)):
        return f"loader's sampler leaves out {whole - drawn} of {whole} samples"
    elif drawn > whole or getattr(sampler, "replacement", False):
        return f"loader's sampler draws {drawn} times from {whole} samples, some more than once"
    size = loader.batch_size or getattr(loader.batch_sampler, "batch_size", None)
    drops = loader.drop_last or getattr(loader.batch_sampler, "drop_last", False)
    rest = drawn % size if drops and size else 0
    return f"loader leaves out the last {rest} of {drawn} samples (drop_last=True)" if rest else ""
