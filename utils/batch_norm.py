"""Running statistics of batch norm, estimated again."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from .batches import Unpack, device_of_batches, run_on_batch, to_device, unpack_batch
from .findings import first_few
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

    Each layer that a forward in eval mode reaches gets the mean of its batches' means and of their
    unbiased variances, summed in double precision, whatever its ``momentum`` and dtype. A layer
    that is not reached, such as an auxiliary head that runs in training alone, keeps what it had,
    with a warning that names it. Only batch norms are in train mode meanwhile: dropout is off, as
    it will be in evaluation. Weights, modes and momentum are left as they were.

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
    layers = {
        module: name
        for name, module in model.named_modules()
        if isinstance(module, BATCH_NORMS) and module.running_mean is not None
    }
    if not layers:
        raise ValueError("model has no batch norm with running statistics; expected at least one.")
    before = {layer: [buffer.clone() for buffer in layer.buffers()] for layer in layers}
    averages = {layer: _Average() for layer in layers}
    hooks = [
        layer.register_forward_pre_hook(lambda layer, args: averages[layer].add(args[0]))
        for layer in layers
    ]
    batches, reached = 0, False
    try:
        with evaluating(model), torch.no_grad():
            for layer in layers:
                layer.training = True
            for batch in loader:
                run_on_batch(model, _inputs_of(to_device(batch, where), unpack))
                batches += 1
        if not batches:
            raise ValueError("loader is empty; expected at least one batch.")
        reached = True
    finally:
        for hook in hooks:
            hook.remove()
        for layer, buffers in before.items():
            with torch.no_grad():
                for buffer, value in zip(layer.buffers(), buffers, strict=True):
                    buffer.copy_(value)
                if reached and averages[layer].batches:
                    averages[layer].write_to(layer)
    missed = [repr(name) for layer, name in layers.items() if not averages[layer].batches]
    if missed:
        warnings.warn(
            f"{first_few(missed)} got no batch in eval mode, as a part that runs in training alone "
            "does; its statistics are as they were.",
            stacklevel=2,
        )
    return batches


class _Average:
    """The plain average of batches' means and unbiased variances, in double precision."""

    def __init__(self) -> None:
        self.batches = 0
        self._mean = self._variance = torch.zeros((), dtype=torch.float64)

    def add(self, values: Tensor) -> None:
        """Take one batch, channels along dimension 1."""
        others = [dim for dim in range(values.dim()) if dim != 1]
        variance, mean = torch.var_mean(values.double(), others, correction=1)
        self.batches += 1
        self._mean = self._mean.to(mean.device) + mean
        self._variance = self._variance.to(mean.device) + variance

    def write_to(self, layer: nn.Module) -> None:
        """Give a layer the averages as its running statistics."""
        layer.running_mean.copy_(self._mean / self.batches)  # type: ignore[operator, union-attr]
        layer.running_var.copy_(self._variance / self.batches)  # type: ignore[operator, union-attr]
        if layer.num_batches_tracked is not None:
            layer.num_batches_tracked.fill_(self.batches)  # type: ignore[operator, union-attr]


def _inputs_of(batch: Any, unpack: Unpack | None) -> Any:
    if unpack is None and isinstance(batch, Tensor):
        return batch
    return (unpack or unpack_batch)(batch)[0]
