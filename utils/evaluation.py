"""Evaluating a model over a whole data set."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from .batches import (
    Unpack,
    device_of_batches,
    left_out_or_repeated,
    run_on_batch,
    to_device,
    unpack_batch,
)
from .losses import Scorer
from .modes import evaluating
from .scores import Metrics, Scores, gather
from .torch_internals import uncompiled


def evaluate(
    model: nn.Module,
    loader: Iterable[Any],
    *,
    metrics: Metrics | None = None,
    loss: Scorer | None = None,
    device: torch.device | str | None = None,
    progress: bool = False,
    unpack: Unpack | None = None,
    inference_mode: bool = True,
) -> dict[str, float]:
    """Score a model over a whole data set: once, in evaluation mode, without gradients.

    Numbers are over samples, not over batches, so they do not depend on the batch size or on a
    smaller last batch. Each submodule gets its own mode back, and the global random state of
    torch is as it was, also after an error.

    Parameters
    ----------
    model
        Called on the inputs of each batch.
    loader
        Any iterable of batches; see ``unpack``.
    metrics
        A torchmetrics metric or collection, a function ``(output, target) -> tensor``, or a
        sequence or a dict of these. Metric objects are copied, yours are not touched. A function
        is called on each batch; it returns one value a sample, or the mean of the batch, which
        counts as often as the batch has samples, or a pair ``(sum, count)`` where a mean is over
        something else. If None, the result has ``"accuracy"`` where all outputs are scores of
        classes: floats of shape ``(N, C, ...)`` with C above 1, integer targets of shape
        ``(N, ...)``.
    loss
        A function or module ``(output, target) -> tensor``, as for ``metrics``; each
        ``reduction`` of a module is understood, and so are the class weights and the
        ``ignore_index`` of ``nn.CrossEntropyLoss`` and ``nn.NLLLoss``, whose mean is over
        weights. The result is called ``"loss"``.
    device
        Where batches are sent; the device of the model's first parameter if None. The model is
        not moved.
    progress
        Show a tqdm bar.
    unpack
        Splits a batch into ``(inputs, target)``; ``unpack_batch`` if None. Inputs that are a
        tuple are passed as positional arguments, a dict as keyword arguments, anything else as
        the one argument.
    inference_mode
        Whether gradients are off by ``torch.inference_mode``, or, if False, by
        ``torch.no_grad``: then what the model keeps from these calls may be used in training.

    Warns
    -----
    UserWarning
        If the loader leaves out samples of its data set (``drop_last=True``, a sampler shorter
        than the set), or repeats some (the padding of a ``DistributedSampler``).

    Returns
    -------
    dict of str to float
        The loss, then the metrics. A metric with several values, such as one a class, gives
        ``name[0]``, ``name[1]`` and so on.

    Raises
    ------
    TypeError
        If ``model`` is no module, or a metric cannot be called.
    ValueError
        If the loader yields nothing, a batch cannot be unpacked, there is nothing to measure, all
        targets are ignored, the device is unknown or is not the model's, or a loss is not finite.
    RuntimeError
        If a metric fails (the message names it), or, where processes share the work, if another
        process failed.

    Notes
    -----
    Since the random state is put back, two calls in a row agree even where a dropout is still on:
    to see whether one is, compare two calls of the model itself, or :func:`utils.audit.audit` it.

    Where ``torch.distributed`` is initialised, each process passes the loader of its own shard
    and each gets the numbers of the whole set. A shard may be empty, the whole set may not. All
    processes must call it. A model in ``DistributedDataParallel`` is called without its wrapper,
    with rank 0's buffers on all; afterwards each process has its own again. A wrapper further
    inside is called as it is, and needs as many batches in each process.

    References
    ----------
    https://docs.pytorch.org/docs/stable/notes/autograd.html#locally-disabling-gradient-computation

    Examples
    --------
    >>> from torch.utils.data import DataLoader, TensorDataset
    >>> data = TensorDataset(torch.eye(3), torch.tensor([0, 1, 1]))
    >>> evaluate(nn.Identity(), DataLoader(data, batch_size=2), loss=nn.CrossEntropyLoss())
    {...}
    """
    scores: Scores | None = None
    failure: Exception | None = None
    with _unwrapped(model) as model:
        try:
            place = device_of_batches(model, device)
            said = left_out_or_repeated(loader, dist.get_world_size() if _shares_the_work() else 1)
            if said:
                warnings.warn(f"{said}: the numbers are not those of the whole set.", stacklevel=2)
            scores = Scores(metrics, loss, place)
            unpack = unpack or unpack_batch
            _score_all(model, loader, scores, place, progress, unpack, inference_mode)
        except Exception as error:
            if not _shares_the_work():
                raise
            failure = error
        if _shares_the_work():
            gather(scores, failure)
    assert scores is not None
    return scores.result()


@contextmanager
def _unwrapped(model: nn.Module) -> Iterator[nn.Module]:
    """The model inside ``DistributedDataParallel``, on all processes with rank 0's buffers."""
    wrapped = uncompiled(model) if isinstance(model, nn.Module) else model
    if not isinstance(wrapped, DistributedDataParallel):
        yield model
        return
    inside: nn.Module = wrapped.module
    own = [(buffer, buffer.clone()) for buffer in inside.buffers()] if _shares_the_work() else []
    for buffer, _ in own:
        sent = buffer.contiguous()  # gloo fills a buffer with gaps in memory wrongly
        dist.broadcast(sent, src=0)
        buffer.copy_(sent)
    try:
        yield inside
    finally:
        for buffer, value in own:  # the wrapper may have been told to keep them apart
            buffer.copy_(value)


def _score_all(
    model: nn.Module,
    loader: Iterable[Any],
    scores: Scores,
    device: torch.device,
    progress: bool,
    unpack: Unpack,
    inference_mode: bool,
) -> None:
    off = torch.inference_mode if inference_mode else torch.no_grad
    cuda = [device] if device.type == "cuda" else []
    loss_mode = evaluating(scores.loss) if isinstance(scores.loss, nn.Module) else nullcontext()
    # The random state is set aside because asking a DataLoader for an iterator draws from it.
    with torch.random.fork_rng(devices=cuda), evaluating(model), loss_mode, off():
        for batch in tqdm(loader, desc="evaluate", leave=False) if progress else loader:
            inputs, target = unpack(batch)
            output = run_on_batch(model, to_device(inputs, device))
            scores.add(output, to_device(target, device))
        scores.score_held()


def _shares_the_work() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
