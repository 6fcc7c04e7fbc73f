"""Evaluating a model over a whole data set."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Union

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import Metric, MetricCollection
from tqdm import tqdm

from utils.modes import check_module, evaluating

Scorer = Callable[[Any, Any], Tensor]
"""A loss or a simple metric: takes output and target, returns a mean, one value a sample, or a
pair of sum and count."""

Metrics = Union[
    Metric, MetricCollection, Scorer, Sequence[Union[Metric, Scorer]],
    Mapping[str, Union[Metric, Scorer]],
]  # fmt: skip
Unpack = Callable[[Any], tuple[Any, Any]]

TARGET_KEYS = ("target", "targets", "label", "labels", "y")
"""Where :func:`unpack_batch` looks for the target of a dict batch."""

ROWWISE = (
    nn.CrossEntropyLoss, nn.NLLLoss, nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss,
    nn.BCELoss, nn.BCEWithLogitsLoss,
)  # fmt: skip
"""Losses that look at one sample at a time, so that several batches may be scored at once."""

ROWWISE_FUNCTIONS = (
    F.cross_entropy, F.nll_loss, F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss,
    F.binary_cross_entropy, F.binary_cross_entropy_with_logits,
)  # fmt: skip

HELD_ELEMENTS = 1 << 16
"""Outputs are scored together once this many elements are held, so memory stays bounded."""


def evaluate(
    model: nn.Module,
    loader: Iterable[Any],
    *,
    metrics: Metrics | None = None,
    loss: Scorer | None = None,
    device: torch.device | str | None = None,
    progress: bool = False,
    unpack: Unpack | None = None,
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
        Splits a batch into ``(inputs, target)``; :func:`unpack_batch` if None. Inputs that are a
        tuple are passed as positional arguments, a dict as keyword arguments, anything else as
        the one argument.

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
    Where ``torch.distributed`` is initialised, each process passes the loader of its own shard
    and each gets the numbers of the whole set. A shard may be empty, the whole set may not.

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
    place = device_of_batches(model, device)
    scores = _Scores(metrics, loss, place)
    failure: Exception | None = None
    try:
        _score_all(model, loader, scores, place, progress, unpack or unpack_batch)
    except Exception as error:
        if not _shares_the_work():
            raise
        failure = error
    if _shares_the_work():
        scores.gather(failure)
    return scores.result()


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
    if isinstance(batch, Mapping):
        found = [key for key in TARGET_KEYS if key in batch]
        rest = {key: value for key, value in batch.items() if key not in found}
        if len(found) == 1 and rest:
            return (rest if len(rest) > 1 else next(iter(rest.values()))), batch[found[0]]
        expected = f"inputs and exactly one of the keys {', '.join(TARGET_KEYS)}"
        given = f"a dict with the keys {', '.join(map(str, batch))}"
    else:
        if isinstance(batch, (tuple, list)) and len(batch) == 2:
            inputs, target = batch
            # A DataLoader makes a list of what was a tuple in the data set.
            return (tuple(inputs) if _are_parallel(inputs, target) else inputs), target
        expected = "(inputs, target)"
        given = type(batch).__name__
        if isinstance(batch, (tuple, list)):
            given = f"a {given} of {len(batch)}"
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
        return value.to(device)
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


def _score_all(
    model: nn.Module,
    loader: Iterable[Any],
    scores: _Scores,
    device: torch.device,
    progress: bool,
    unpack: Unpack,
) -> None:
    cuda = [device] if device.type == "cuda" else []
    loss_mode = evaluating(scores.loss) if isinstance(scores.loss, nn.Module) else nullcontext()
    # The random state is set aside because asking a DataLoader for an iterator draws from it.
    with torch.random.fork_rng(devices=cuda), evaluating(model), loss_mode, torch.inference_mode():
        for batch in tqdm(loader, desc="evaluate", leave=False) if progress else loader:
            inputs, target = unpack(batch)
            output = run_on_batch(model, to_device(inputs, device))
            scores.add(output, to_device(target, device))
        scores.score_held()


class _Mean:
    """A sum and a count: the mean of everything added, whatever the sizes of the parts."""

    def __init__(self, total: float = 0.0, count: float = 0.0) -> None:
        self.total, self.count = total, count

    def add(self, total: float, count: float) -> None:
        self.total += total
        self.count += count

    def value(self) -> float:
        return self.total / self.count


class _Scores:
    """What is known so far of the loss and the metrics, as sums and counts."""

    def __init__(self, metrics: Metrics | None, loss: Scorer | None, device: torch.device) -> None:
        check_loss(loss)
        self.loss = loss
        self.metrics: dict[str, Metric] = {}
        self.functions: dict[str, Scorer] = {}
        self.default_accuracy = metrics is None
        for name, metric in _named(metrics).items():
            if isinstance(metric, Metric):
                self.metrics[name] = metric.clone().to(device)
                self.metrics[name].reset()
            else:
                self.functions[name] = metric
        self.means: dict[str, _Mean] = {}
        self.samples = self.batches = self.samples_with_accuracy = 0
        rowwise = loss is None or type(loss) in ROWWISE or loss in ROWWISE_FUNCTIONS
        theirs = (
            type(metric).__module__.startswith("torchmetrics.") for metric in self.metrics.values()
        )
        self.may_join = rowwise and not self.functions and all(theirs)
        self.held: list[tuple[Any, Any, int]] = []
        self.held_elements = 0

    def add(self, output: Any, target: Any) -> None:
        """Take one batch; score it together with others where they can be joined."""
        size = samples_in(output, target)
        self.samples += size
        self.batches += 1
        if self.held and not (self.may_join and _can_join(self.held[-1], output, target)):
            self.score_held()
        self.held.append((output, target, size))
        self.held_elements += output.numel() if isinstance(output, Tensor) else HELD_ELEMENTS
        if self.held_elements >= HELD_ELEMENTS:
            self.score_held()

    def score_held(self) -> None:
        """Score the batches held so far, and let go of them."""
        held, self.held, self.held_elements = self.held, [], 0
        if not held:
            return
        if len(held) == 1:
            output, target, size = held[0]
        else:
            output = torch.cat([part[0] for part in held])
            target = torch.cat([part[1] for part in held])
            size = sum(part[2] for part in held)
        if self.loss is not None:
            total, count = total_loss(self.loss, output, target, size)
            if not math.isfinite(total):
                self._name_the_batch(held, total)
            self.means.setdefault("loss", _Mean()).add(total, count)
        if self.default_accuracy and _are_class_scores(output, target):
            if output.isnan().any():
                raise ValueError(f"output is nan by batch {self.batches - 1}; expected scores.")
            total, count = _total_right(output, target, self.loss)
            self.means.setdefault("accuracy", _Mean()).add(total, count)
            self.samples_with_accuracy += size
        for name, function in self.functions.items():
            try:
                total, count = _total_of(function(output, target), size)
            except Exception as error:
                raise _metric_failed(name, error) from error
            self.means.setdefault(name, _Mean()).add(total, count)
        for name, metric in self.metrics.items():
            try:
                metric.update(output, target)
            except Exception as error:
                raise _metric_failed(name, error) from error

    def _name_the_batch(self, held: list[tuple[Any, Any, int]], total: float) -> None:
        assert self.loss is not None
        for number, (output, target, size) in enumerate(held, self.batches - len(held)):
            value, _ = total_loss(self.loss, output, target, size)
            if not math.isfinite(value):
                finite = torch.isfinite(output).all().item() if isinstance(output, Tensor) else None
                raise ValueError(
                    f"loss is {value} on batch {number} (counted from 0); expected a finite "
                    f"number. The model's output there is {'' if finite else 'not '}finite."
                )
        raise ValueError(f"loss is {total}; expected a finite number.")

    def gather(self, failure: Exception | None) -> None:
        """Replace what this process knows by what all of them know together."""
        mine = {
            "failure": None if failure is None else f"{type(failure).__name__}: {failure}",
            "samples": self.samples,
            "samples_with_accuracy": self.samples_with_accuracy,
            "means": {name: (mean.total, mean.count) for name, mean in self.means.items()},
            "metrics": {name: metric.cpu() for name, metric in self.metrics.items()},
        }
        everyone: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(everyone, mine)
        if failure is not None:
            raise failure
        for rank, one in enumerate(everyone):
            if one["failure"]:
                raise RuntimeError(f"evaluation failed in process {rank}: {one['failure']}")
        self.samples = sum(one["samples"] for one in everyone)
        self.samples_with_accuracy = sum(one["samples_with_accuracy"] for one in everyone)
        self.means = {}
        for one in everyone:
            for name, (total, count) in one["means"].items():
                self.means.setdefault(name, _Mean()).add(total, count)
        for name in self.metrics:
            parts = [one["metrics"][name] for one in everyone if one["samples"]]
            if parts:
                self.metrics[name] = parts[0]
                for part in parts[1:]:
                    self.metrics[name].merge_state(part)

    def result(self) -> dict[str, float]:
        """The numbers of the whole set."""
        if not self.samples:
            raise ValueError(
                "loader yielded no batches, so there is nothing to average; expected at least "
                "one batch of (input, target)."
            )
        if self.samples_with_accuracy < self.samples:
            self.means.pop("accuracy", None)  # the outputs of some batches were something else
        for name, mean in self.means.items():
            if not mean.count:
                raise ValueError(f"{name} has nothing to average: every target is ignored.")
        values = {name: mean.value() for name, mean in self.means.items()}
        for name, metric in self.metrics.items():
            metric.sync_on_compute = False  # gather() has merged the processes already
            try:
                values.update(_as_floats(name, metric.compute()))
            except Exception as error:
                raise _metric_failed(name, error) from error
        if not values:
            raise ValueError(
                "there is nothing to measure: no loss and no metrics were given, and the outputs "
                "are not scores of classes; expected a loss or metrics."
            )
        order = ["loss", "accuracy", *self.functions, *self.metrics]
        return dict(sorted(values.items(), key=lambda item: _position(item[0], order)))


def _position(name: str, order: list[str]) -> int:
    return order.index(name) if name in order else len(order)


def _named(metrics: Metrics | None) -> dict[str, Any]:
    """Give each metric its name in the result."""
    if metrics is None:
        return {}
    if isinstance(metrics, MetricCollection):
        return {str(name): metric for name, metric in metrics.items(copy_state=False)}
    if isinstance(metrics, str):
        raise TypeError(f"metrics is the string {metrics!r}; expected a metric or a function.")
    if isinstance(metrics, Mapping):
        named = {str(name): metric for name, metric in metrics.items()}
    else:
        several = isinstance(metrics, Sequence)
        listed: list[Any] = list(metrics) if several else [metrics]  # type: ignore[arg-type]
        named = {getattr(metric, "__name__", type(metric).__name__): metric for metric in listed}
        if len(named) < len(listed):
            raise ValueError(
                f"metrics has two entries of one name among {', '.join(named)}; expected a dict "
                "that gives each a name of its own."
            )
    for name, metric in named.items():
        if not callable(metric):
            raise TypeError(
                f"metrics[{name!r}] is a {type(metric).__name__}; expected a torchmetrics metric "
                "or a function of output and target."
            )
        if isinstance(metric, MetricCollection):
            raise TypeError(
                f"metrics[{name!r}] is a collection; expected a single metric. Give the "
                "collection alone, as metrics."
            )
        if name == "loss":
            raise ValueError("metrics has an entry called 'loss'; expected another name.")
    return named


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
    held = {tensor.device for tensor in [*model.parameters(), *model.buffers()]}
    if device is None:
        first = next(model.parameters(), None)
        return first.device if first is not None else next(iter(held), torch.device("cpu"))
    try:
        asked = torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(
            f"device is {device!r}; expected one that torch knows on this machine, such as 'cpu'."
        ) from error
    if held and asked not in held:
        raise ValueError(
            f"device is {str(asked)!r} but the model is on {', '.join(sorted(map(str, held)))}; "
            "move the model first, evaluate leaves it where it is."
        )
    return asked


def _can_join(last: tuple[Any, Any, int], output: Any, target: Any) -> bool:
    """Whether a batch can be concatenated to the one before."""
    before, target_before, _ = last
    if not (isinstance(output, Tensor) and isinstance(before, Tensor)):
        return False
    if not (isinstance(target, Tensor) and isinstance(target_before, Tensor)):
        return False
    return (
        output.dim() > 0
        and target.dim() > 0
        and output.shape[0] == target.shape[0]
        and output.shape[1:] == before.shape[1:]
        and target.shape[1:] == target_before.shape[1:]
        and output.dtype == before.dtype
        and target.dtype == target_before.dtype
    )


def _total_of(value: Any, size: int) -> tuple[float, float]:
    """Turn the mean of a batch, one value a sample, or a pair, into a sum and a count."""
    if isinstance(value, tuple):
        total, count = value
        return float(total), float(count)
    if not isinstance(value, Tensor):
        return float(value) * size, size
    if value.dim() == 0:
        return value.item() * size, size
    return value.double().sum().item(), value.numel()


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
        return _total_of(value, size)
    if reduction == "mean":
        return value.item() * count, count
    return value.sum().item(), count


def check_loss(loss: Scorer | None) -> None:
    """Refuse what cannot be called on output and target, a class that was not made among them."""
    if isinstance(loss, type):
        raise TypeError(f"loss is the class {loss.__name__}; expected an instance of it.")
    if loss is not None and not callable(loss):
        raise TypeError(f"loss is a {type(loss).__name__}; expected a function or a module.")


def _has_no_weight(loss: Scorer) -> bool:
    return getattr(loss, "weight", None) is None and getattr(loss, "pos_weight", None) is None


def _are_class_scores(output: Any, target: Any) -> bool:
    return (
        isinstance(output, Tensor)
        and isinstance(target, Tensor)
        and output.is_floating_point()
        and not target.is_floating_point()
        and output.dim() >= 2
        and output.shape[1] > 1
        and target.shape == output.shape[:1] + output.shape[2:]
    )


def _total_right(output: Tensor, target: Tensor, loss: Scorer | None) -> tuple[float, float]:
    counted = target != getattr(loss, "ignore_index", -100)
    right = (output.argmax(dim=1) == target) & counted
    return right.sum().item(), counted.sum().item()


def _as_floats(name: str, value: Any) -> dict[str, float]:
    if isinstance(value, Mapping):
        return {str(key): float(item) for key, item in value.items()}
    if isinstance(value, Tensor) and value.numel() != 1:
        return {f"{name}[{i}]": item for i, item in enumerate(value.flatten().tolist())}
    return {name: float(value)}


def _metric_failed(name: str, error: Exception) -> RuntimeError:
    return RuntimeError(f"metric {name!r} failed: {type(error).__name__}: {error}")


def _shares_the_work() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
