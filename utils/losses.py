"""The loss of a batch as a sum and a count, so that batches of any size add up."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Scorer = Callable[[Any, Any], Tensor]
"""A loss or a simple metric: takes output and target, returns a mean, one value a sample, or a
pair of sum and count."""

OF_CLASSES = (nn.CrossEntropyLoss, nn.NLLLoss)
"""Losses of class scores, whose mean is over the targets that are not ignored."""

ELEMENTWISE = (
    nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss, nn.BCELoss, nn.BCEWithLogitsLoss,
)  # fmt: skip
"""Losses that set each element of the output beside one of the target."""

ELEMENTWISE_FUNCTIONS = (
    F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss, F.binary_cross_entropy,
    F.binary_cross_entropy_with_logits,
)  # fmt: skip

ROWWISE = (*OF_CLASSES, *ELEMENTWISE)
"""Losses that look at one sample at a time, so that several batches may be scored at once."""

ROWWISE_FUNCTIONS = (F.cross_entropy, F.nll_loss, *ELEMENTWISE_FUNCTIONS)

IGNORED = -100
"""The target that PyTorch's losses of classes leave out where nothing else is said."""


def is_rowwise(loss: Scorer | None) -> bool:
    """Whether several batches may be scored at once.

    Examples
    --------
    >>> is_rowwise(nn.MSELoss()), is_rowwise(nn.CTCLoss())
    (True, False)
    """
    return loss is None or type(loss) in ROWWISE or loss in ROWWISE_FUNCTIONS


def as_module(loss: Scorer | None) -> Scorer | None:
    """The module that does what a function of PyTorch's does, which says what its mean is over.

    Examples
    --------
    >>> as_module(F.nll_loss), as_module(functools.partial(F.cross_entropy, ignore_index=0))
    (NLLLoss(), CrossEntropyLoss())
    """
    bare = functools.partial(loss) if loss in (F.cross_entropy, F.nll_loss) else loss
    kinds = {F.cross_entropy: nn.CrossEntropyLoss, F.nll_loss: nn.NLLLoss}
    if isinstance(bare, functools.partial) and bare.func in kinds and not bare.args:
        return kinds[bare.func](**bare.keywords)
    return loss


def in_full_precision(loss: Scorer | None) -> Scorer | None:
    """The loss with weights of at least single precision: sums in half precision go wrong.

    Parameters
    ----------
    loss
        As in :func:`utils.evaluation.evaluate`.

    Returns
    -------
    callable or None
        The same, or a copy.

    Examples
    --------
    >>> half = nn.CrossEntropyLoss(weight=torch.ones(3, dtype=torch.float16))
    >>> in_full_precision(half).weight.dtype
    torch.float32
    """
    if isinstance(loss, nn.Module) and type(loss) in ROWWISE and any(map(_is_half, loss.buffers())):
        return copy.deepcopy(loss).float()
    return loss


def total_loss(loss: Scorer, output: Any, target: Any, size: int) -> tuple[float, float]:
    """Give the loss of a batch as a sum and the count that it is a mean over.

    Parameters
    ----------
    loss
        As in :func:`utils.evaluation.evaluate`, in full precision.
    output, target
        Of one batch.
    size
        Samples in the batch.

    Returns
    -------
    tuple of float
        Sum and count. The count is ``size``, or the sum of the weights of the targets that are
        not ignored, for a loss that divides by it.

    Raises
    ------
    ValueError
        If output and target of an elementwise loss have different shapes.

    Examples
    --------
    >>> total_loss(nn.MSELoss(), torch.ones(4), torch.zeros(4), 4)
    (4.0, 4)
    """
    if type(loss) in ELEMENTWISE or loss in ELEMENTWISE_FUNCTIONS:
        check_same_shape(output, target)
    if is_rowwise(loss) and _is_half(output):
        output = output.float()
        target = target.float() if _is_half(target) else target
    if type(loss) is nn.CrossEntropyLoss and loss.reduction == "mean":
        output, target = _classes_first(output, target)
    return reduced_loss(loss, loss(output, target), target, size)


def reduced_loss(loss: Scorer, value: Any, target: Any, size: int) -> tuple[float, float]:
    """As :func:`total_loss`, for a value that the loss has already returned."""
    reduction = getattr(loss, "reduction", None)
    count: float = size
    of_classes = isinstance(loss, OF_CLASSES) and isinstance(target, Tensor)
    if of_classes and not target.is_floating_point():
        kept = target != loss.ignore_index  # type: ignore[attr-defined]
        weight: Tensor | None = loss.weight  # type: ignore[attr-defined]
        # as int64: an index of uint8, which PyTorch takes for targets, would be a mask
        weights = kept if weight is None else weight[target[kept].long()].double()
        count = weights.sum().item()
        if not count:
            return 0.0, 0.0
    elif reduction != "sum":
        return total_of(value, size)
    if reduction == "mean":
        return value.item() * count, count
    return value.double().sum().item(), count


def total_of(value: Any, size: int) -> tuple[float, float]:
    """Turn the mean of a batch, one value a sample, or a pair, into a sum and a count."""
    if isinstance(value, tuple):
        total, count = value
        return float(total), float(count)
    if not isinstance(value, Tensor):
        return float(value) * size, size
    if value.dim() == 0:
        return value.item() * size, size
    return value.double().sum().item(), value.numel()


def check_loss(loss: Scorer | None) -> None:
    """Refuse what cannot be called on output and target, a class that was not made among them."""
    if isinstance(loss, type):
        raise TypeError(f"loss is the class {loss.__name__}; expected an instance of it.")
    if loss is not None and not callable(loss):
        raise TypeError(f"loss is a {type(loss).__name__}; expected a function or a module.")


def check_same_shape(output: Any, target: Any) -> None:
    """Refuse shapes that PyTorch would spread over each other.

    Raises
    ------
    ValueError
        If both are tensors and their shapes differ.

    Examples
    --------
    >>> check_same_shape(torch.ones(4, 1), torch.ones(4, 1))
    """
    both = isinstance(output, Tensor) and isinstance(target, Tensor)
    if both and output.shape != target.shape:
        raise ValueError(
            f"output has shape {tuple(output.shape)} and target {tuple(target.shape)}; expected "
            "one shape, or every row is set beside every other."
        )


def _classes_first(output: Any, target: Any) -> tuple[Any, Any]:
    """The rows of a batch as the places of one image, whose mean loss is the same.

    PyTorch's softmax over a last dimension of a few classes takes several times as long.
    """
    plain = isinstance(output, Tensor) and output.dim() == 2 and isinstance(target, Tensor)
    if not plain or target.dim() != 1 or target.dtype != torch.int64 or output.shape[1] > 128:
        return output, target
    return output.t().contiguous()[None], target[None]


def _is_half(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16)
