"""The loss of a batch as a sum and a count, so that batches of any size add up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Scorer = Callable[[Any, Any], Tensor]
"""A loss or a simple metric: takes output and target, returns a mean, one value a sample, or a
pair of sum and count."""

ROWWISE = (
    nn.CrossEntropyLoss, nn.NLLLoss, nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss,
    nn.BCELoss, nn.BCEWithLogitsLoss,
)  # fmt: skip
"""Losses that look at one sample at a time, so that several batches may be scored at once."""

ROWWISE_FUNCTIONS = (
    F.cross_entropy, F.nll_loss, F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss,
    F.binary_cross_entropy, F.binary_cross_entropy_with_logits,
)  # fmt: skip


def total_loss(loss: Scorer, output: Any, target: Any, size: int) -> tuple[float, float]:
    """Give the loss of a batch as a sum and the count that it is a mean over.

    Parameters
    ----------
    loss
        As in :func:`evaluate`.
    output, target
        Of one batch.
    size
        Samples in the batch.

    Returns
    -------
    tuple of float
        Sum and count. The count is ``size``, or the sum of the weights of the targets that are
        not ignored, for a loss that divides by it.

    Examples
    --------
    >>> total_loss(nn.MSELoss(), torch.ones(4), torch.zeros(4), 4)
    (4.0, 4)
    """
    rowwise = type(loss) in ROWWISE or loss in ROWWISE_FUNCTIONS
    if rowwise and output.dtype in (torch.float16, torch.bfloat16) and _has_no_weight(loss):
        output = output.float()  # a sum in half precision overflows
    return reduced_loss(loss, loss(output, target), target, size)


def reduced_loss(loss: Scorer, value: Any, target: Any, size: int) -> tuple[float, float]:
    """As :func:`total_loss`, for a value that the loss has already returned."""
    reduction = getattr(loss, "reduction", None)
    count: float = size
    if (
        isinstance(loss, (nn.CrossEntropyLoss, nn.NLLLoss))
        and isinstance(target, Tensor)
        and not target.is_floating_point()
    ):
        kept = target[target != loss.ignore_index]
        if kept.numel() == 0:
            return 0.0, 0.0
        count = kept.numel() if loss.weight is None else loss.weight[kept].sum().item()
    elif reduction != "sum":
        return total_of(value, size)
    if reduction == "mean":
        return value.item() * count, count
    return value.sum().item(), count


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


def _has_no_weight(loss: Scorer) -> bool:
    return getattr(loss, "weight", None) is None and getattr(loss, "pos_weight", None) is None
