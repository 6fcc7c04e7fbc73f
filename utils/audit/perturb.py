"""Inputs made from those that an audit is given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..nested import has_floats, iter_leaves, map_tensors
from ..torch_internals import own_buffers


def is_mask(tensor: Tensor) -> bool:
    """Whether a tensor says which values count, by 0 and 1 or by minus infinity."""
    ones_and_zeros = bool(((tensor == 0) | (tensor == 1)).all())
    if not tensor.is_floating_point():
        return ones_and_zeros
    return (ones_and_zeros and len(tensor.unique()) == 2) or not bool(tensor.isfinite().all())


def is_numbers(tensor: Tensor) -> bool:
    """Whether a tensor holds measurements, and neither indices nor a mask."""
    return tensor.is_floating_point() and not is_mask(tensor)


def other_values(inputs: Any) -> Any:
    """Inputs of the same kind with larger numbers in another order."""

    def change(tensor: Tensor) -> Tensor:
        if not tensor.dim() or tensor.dtype == torch.bool or tensor.layout != torch.strided:
            return tensor
        if tensor.is_nested:
            return tensor
        turned = tensor.flip(0)
        return 2 * turned if tensor.is_floating_point() and not is_mask(tensor) else turned

    return map_tensors(inputs, change)


def move_weights(model: nn.Module) -> None:
    """Move the weights that are trained in place, as a step of an optimizer does."""
    weights = list(model.parameters())
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in [w for w in weights if w.requires_grad] or weights:
            if has_floats(weight):
                noise = torch.randn(weight.shape, generator=generator).to(weight)
                weight.add_(0.05 * (weight.abs() + 0.1) * noise)


def doubled(tensor: Tensor) -> Tensor:
    """One sample and another one."""
    if not tensor.dim() or len(tensor) != 1:
        return tensor
    return torch.cat([tensor, tensor * 0.5 if tensor.is_floating_point() else tensor])


@contextmanager
def in_double(model: nn.Module) -> Iterator[nn.Module]:
    """Run a model in double precision for a while; its own tensors come back afterwards."""
    parameters = [p for p in model.parameters() if p.is_floating_point()]
    numbers = [parameter.data for parameter in parameters]
    buffers = [
        (held, name, buffer)
        for module in model.modules()
        for held in (own_buffers(module),)
        for name, buffer in held.items()
        if buffer is not None and buffer.is_floating_point()
    ]
    try:
        for parameter in parameters:
            parameter.data = parameter.data.double()
        for held, name, buffer in buffers:
            held[name] = buffer.double()
        yield model
    finally:
        for parameter, own in zip(parameters, numbers, strict=True):
            parameter.data = own
        for held, name, buffer in buffers:
            held[name] = buffer


def to_double(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def like(tensor: Tensor, inputs: Any) -> Tensor:
    """A tensor in the precision of a model's inputs."""
    double = any(isinstance(t, Tensor) and t.dtype == torch.float64 for _, t in iter_leaves(inputs))
    return tensor.double() if double and tensor.is_floating_point() else tensor


def has_edges(inputs: Any, nodes: int) -> bool:
    """Whether an input names pairs of rows: two lists of indices of equal length."""
    return nodes != 2 and any(
        leaf.dtype == torch.int64
        and leaf.dim() == 2
        and len(leaf) == 2
        and leaf.numel() > 0
        and 0 <= int(leaf.min()) <= int(leaf.max()) < nodes
        for _, leaf in iter_leaves(inputs)
        if isinstance(leaf, Tensor) and leaf.layout == torch.strided
    )
