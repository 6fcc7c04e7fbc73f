"""Running statistics of batch norm, estimated again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from .batches import Unpack, device_of_batches, run_on_batch, to_device, unpack_batch
from .modes import evaluating
from .torch_internals import BATCH_NORMS


def reestimate(
    model: nn.Module,
    loader: Iterable[Any],
    *,
    device: torch.device | str | None = None,
    unpack: Unpack | None = None,
) -> int:
    """Estimate the running statistics of every batch norm again, as plain averages.

    Each layer gets the mean of its batches' means and of their unbiased variances, whatever its
    ``momentum``. Only batch norms are in train mode meanwhile: dropout is off, as it will be in
    evaluation. Weights, modes and momentum are left as they were.

    Parameters
    ----------
    model
        A model with at least one batch norm that tracks running statistics.
    loader
        Iterable of batches, or of inputs alone, gone through once. Larger batches,
        shuffled, give better estimates.
    device
        As in :func:`utils.evaluation.evaluate`.
    unpack
        As in :func:`utils.evaluation.evaluate`.

    Returns
    -------
    int
        The number of batches.

    Raises
    ------
    TypeError
        If ``model`` is not a module.
    ValueError
        If no layer has running statistics, or the loader is empty. Statistics are then, and
        after any other error, as they were.

    See Also
    --------
    torch.optim.swa_utils.update_bn : Does so with the whole model in train mode, dropout on.

    References
    ----------
    Wu and Johnson, Rethinking "Batch" in BatchNorm, 2021, section 3 (PreciseBN).

    Examples
    --------
    >>> net = nn.Sequential(nn.BatchNorm1d(1), nn.Dropout())
    >>> reestimate(net, [torch.tensor([[1.0], [3.0]]), torch.tensor([[5.0], [7.0]])])
    2
    >>> net[0].running_mean, net[0].running_var
    (tensor([4.]), tensor([2.]))
    """
    where = device_of_batches(model, device)
    layers = [
        module
        for module in model.modules()
        if isinstance(module, BATCH_NORMS) and module.running_mean is not None
    ]
    if not layers:
        raise ValueError("model has no batch norm with running statistics; expected at least one.")
    before = [
        (layer, layer.momentum, {name: b.clone() for name, b in layer.named_buffers()})
        for layer in layers
    ]
    batches = 0
    try:
        with evaluating(model), torch.no_grad():
            for layer in layers:
                layer.reset_running_stats()
                layer.momentum = None
                layer.training = True
            for batch in loader:
                run_on_batch(model, _inputs_of(to_device(batch, where), unpack))
                batches += 1
        if not batches:
            raise ValueError("loader is empty; expected at least one batch.")
    except BaseException:
        for layer, _, buffers in before:
            for name, value in buffers.items():
                layer.get_buffer(name).copy_(value)
        raise
    finally:
        for layer, momentum, _ in before:
            layer.momentum = momentum
    return batches


def _inputs_of(batch: Any, unpack: Unpack | None) -> Any:
    if unpack is None and isinstance(batch, Tensor):
        return batch
    return (unpack or unpack_batch)(batch)[0]
