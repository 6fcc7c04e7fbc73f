"""Scores of a whole data set, kept as sums and counts while its batches go by."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import torch
import torch.distributed as dist
from torch import Tensor

from .batches import samples_in
from .losses import (
    IGNORED,
    Scorer,
    as_module,
    check_loss,
    check_same_shape,
    in_full_precision,
    is_rowwise,
    total_loss,
    total_of,
)
from .nested import count_non_finite, has_floats, iter_leaves

if TYPE_CHECKING:
    from torchmetrics import Metric, MetricCollection

Metrics: TypeAlias = Union[
    "Metric", "MetricCollection", Scorer, Sequence[Union["Metric", Scorer]],
    Mapping[str, Union["Metric", Scorer]],
]  # fmt: skip

HELD_ELEMENTS = 1 << 16
"""Outputs are scored together once this many elements are held, so memory stays bounded."""


Batch: TypeAlias = tuple[Any, Any]
"""Output and target."""


class Scores:
    """What is known so far of the loss and the metrics, as sums and counts."""

    def __init__(self, metrics: Metrics | None, loss: Scorer | None, device: torch.device) -> None:
        check_loss(loss)
        loss = as_module(loss)
        self.loss = in_full_precision(loss)
        self.metrics: dict[str, Metric] = {}
        self.functions: dict[str, Scorer] = {}
        self.default_accuracy = metrics is None
        for name, metric in _named(metrics).items():
            if _is_metric(metric):
                self.metrics[name] = metric.clone().to(device)
                self.metrics[name].reset()
            else:
                self.functions[name] = metric
        self.means: dict[str, _Mean] = {}
        self.samples = self.batches = self.samples_with_accuracy = 0
        theirs = (
            type(metric).__module__.startswith("torchmetrics.") for metric in self.metrics.values()
        )
        self.may_join = is_rowwise(loss) and not self.functions and all(theirs)
        self.held: list[Batch] = []
        self.held_elements = 0

    def add(self, output: Any, target: Any) -> None:
        """Take one batch; it is scored together with others where they can be joined."""
        self.held.append((output, target))
        self.held_elements += output.numel() if isinstance(output, Tensor) else HELD_ELEMENTS
        if not self.may_join or self.held_elements >= HELD_ELEMENTS:
            self.score_held()

    def score_held(self) -> None:
        """Score the batches held so far, and let go of them."""
        held, self.held, self.held_elements = self.held, [], 0
        joined = _joined(held) if len(held) > 1 else None
        for number, batches in enumerate([held] if joined else [[batch] for batch in held]):
            self._score(*(joined or batches[0]), batches, self.batches + number)
        self.batches += len(held)

    def _score(self, output: Any, target: Any, batches: list[Batch], first: int) -> None:
        """Score one batch, or several that were joined, of which ``first`` is the number."""
        size = samples_in(output, target)
        self.samples += size
        if self.loss is not None:
            total, count = self._loss_of(output, target, size, first)
            if not math.isfinite(total):
                self._name_the_batch(batches, first, total)
            self.means.setdefault("loss", _Mean()).add(total, count)
        of_classes = self.default_accuracy and _are_class_scores(output, target)
        if of_classes or self.functions or self.metrics:
            _refuse_non_finite(output, batches, first)
        if of_classes:
            total, count = _total_right(output, target, self.loss)
            self.means.setdefault("accuracy", _Mean()).add(total, count)
            self.samples_with_accuracy += size
        for name, function in self.functions.items():
            try:
                value = function(output, target)
                _refuse_spread(value, output, target)
                total, count = total_of(value, size)
            except Exception as error:
                raise _metric_failed(name, error) from error
            self.means.setdefault(name, _Mean()).add(total, count)
        for name, metric in self.metrics.items():
            try:
                metric.update(output, target)
            except Exception as error:
                raise _metric_failed(name, error) from error

    def _loss_of(self, output: Any, target: Any, size: int, index: int) -> tuple[float, float]:
        assert self.loss is not None
        try:
            return total_loss(self.loss, output, target, size)
        except ValueError as error:
            raise ValueError(f"batch {index} (counted from 0): {error}") from error

    def _name_the_batch(self, batches: list[Batch], first: int, total: float) -> None:
        for number, (output, target) in enumerate(batches, first):
            value, _ = self._loss_of(output, target, samples_in(output, target), number)
            if not math.isfinite(value):
                raise ValueError(
                    f"loss is {value} on batch {number} (counted from 0); expected a finite "
                    f"number. The model's output there {_finiteness(output)}."
                )
        raise ValueError(f"loss is {total}; expected a finite number.")

    def known(self) -> dict[str, Any]:
        """What this process knows, to be sent to the others."""
        return {
            "samples": self.samples,
            "samples_with_accuracy": self.samples_with_accuracy,
            "means": {name: (mean.total, mean.count) for name, mean in self.means.items()},
            "metrics": {name: metric.cpu() for name, metric in self.metrics.items()},
        }

    def merge(self, parts: Sequence[Mapping[str, Any]]) -> None:
        """Hold what several processes know together; their order does not matter to sums."""
        if len({(*one["means"], *one["metrics"]) for one in parts if one["samples"]}) > 1:
            raise ValueError("the processes measure different things; expected the same of each.")
        self.samples = sum(one["samples"] for one in parts)
        self.samples_with_accuracy = sum(one["samples_with_accuracy"] for one in parts)
        self.means = {}
        for name in dict.fromkeys(name for one in parts for name in one["means"]):
            pairs = [one["means"][name] for one in parts if name in one["means"]]
            # fsum rounds once, at the end, however many they are.
            totals, counts = (math.fsum(numbers) for numbers in zip(*pairs, strict=True))
            self.means[name] = _Mean(totals, counts)
        for name in self.metrics:
            known = [one["metrics"][name] for one in parts if one["samples"]]
            if known:
                self.metrics[name] = known[0]
                for part in known[1:]:
                    self.metrics[name].merge_state(part)

    def result(self) -> dict[str, float]:
        """The numbers of the whole set."""
        if not self.samples:
            raise ValueError(
                "loader yielded no samples, so there is nothing to average; expected at least "
                "one batch of (input, target)."
            )
        if self.samples_with_accuracy < self.samples:
            self.means.pop("accuracy", None)  # the outputs of some batches were something else
        for name, mean in self.means.items():
            if not mean.count:
                raise ValueError(
                    f"{name} has nothing to average: every target is ignored or weighs 0."
                )
        values = {name: mean.value() for name, mean in self.means.items()}
        for name, metric in self.metrics.items():
            metric.distributed_available_fn = _never  # the processes are merged already
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


def gather(scores: Scores | None, failure: Exception | None) -> None:
    """Replace what this process knows by what all of them know together.

    Parameters
    ----------
    scores
        None if this process failed before it had any.
    failure
        Why it failed; the others are told.

    Raises
    ------
    RuntimeError
        If another process failed, has ended, or does not come within the timeout.
    """
    failed = None if failure is None else f"{type(failure).__name__}: {failure}"
    mine = {"failure": failed, **(scores.known() if scores and not failure else {})}
    everyone: list[Any] = [None] * dist.get_world_size()
    try:
        dist.all_gather_object(everyone, mine)
    except RuntimeError as error:
        raise RuntimeError(
            "the processes could not share their scores: another one has ended, or has not "
            "come to evaluate() within the timeout of init_process_group."
        ) from failure or error
    if failure is not None:
        raise failure
    for rank, one in enumerate(everyone):
        if one["failure"]:
            raise RuntimeError(f"evaluation failed in process {rank}: {one['failure']}")
    assert scores is not None
    scores.merge(everyone)


def _never() -> bool:
    """Tells torchmetrics that there are no other processes to ask."""
    return False


class _Mean:
    """A sum and a count: the mean of everything added, whatever the sizes of the parts."""

    def __init__(self, total: float = 0.0, count: float = 0.0) -> None:
        self.total, self.count = total, count

    def add(self, total: float, count: float) -> None:
        self.total += total
        self.count += count

    def value(self) -> float:
        return self.total / self.count


def _is_metric(value: object, kind: str = "Metric") -> bool:
    """Whether it is an object of torchmetrics, which is not loaded unless somebody has made one."""
    torchmetrics = sys.modules.get("torchmetrics")
    return torchmetrics is not None and isinstance(value, getattr(torchmetrics, kind))


def _position(name: str, order: list[str]) -> int:
    return order.index(name) if name in order else len(order)


def _named(metrics: Metrics | None) -> dict[str, Any]:
    """Give each metric its name in the result."""
    if metrics is None:
        return {}
    if _is_metric(metrics, "MetricCollection"):
        collection: Any = metrics
        return {str(name): metric for name, metric in collection.items(copy_state=False)}
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
        if _is_metric(metric, "MetricCollection"):
            raise TypeError(
                f"metrics[{name!r}] is a collection; expected a single metric. Give the "
                "collection alone, as metrics."
            )
        if name == "loss":
            raise ValueError("metrics has an entry called 'loss'; expected another name.")
    return named


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
    ignored: int = getattr(loss, "ignore_index", IGNORED)
    counted, right = target != ignored, output.max(dim=1).indices == target
    if ignored >= 0:
        right &= counted
    return right.count_nonzero().item(), counted.count_nonzero().item()


def _joined(held: list[Batch]) -> Batch | None:
    """Several batches as one; None where their outputs or targets do not fit together."""
    outputs, targets = [batch[0] for batch in held], [batch[1] for batch in held]
    try:
        output, target = torch.cat(outputs), torch.cat(targets)
        kinds = {value.dtype for value in outputs}, {value.dtype for value in targets}
    except (RuntimeError, TypeError, AttributeError):  # of several shapes, or no tensors
        return None
    if max(map(len, kinds)) > 1 or len(output) != len(target):
        return None  # cat has promoted some, or rows and targets are not one to one
    return output, target


def _refuse_non_finite(output: Any, batches: list[Batch], first: int) -> None:
    """Refuse scores that are nan or infinite, whatever would be made of them."""
    if isinstance(output, Tensor) and not output.is_floating_point():
        return
    if isinstance(output, Tensor) and math.isfinite(output.sum().item()):
        return  # the quick way: then each of them is
    for number, batch in enumerate(batches, first):
        count = count_non_finite(batch[0])
        if count:
            raise ValueError(
                f"output has {count} values that are nan or infinite on batch {number} (counted "
                "from 0); expected finite ones to measure."
            )


def _finiteness(output: Any) -> str:
    """Say whether an output is finite, for an error about the loss made of it."""
    if count_non_finite(output):
        return "is not finite"
    masked = any(has_floats(leaf) and not leaf.isfinite().all() for _, leaf in iter_leaves(output))
    if masked:
        return "holds minus infinity, as where classes are masked: the loss asks for one of these"
    return "is finite"


def _refuse_spread(value: Any, output: Any, target: Any) -> None:
    """Refuse values for pairs of rows, which shapes that broadcast by accident make."""
    if isinstance(value, Tensor) and value.dim() > 1 and value.dim() > target.dim():
        pairs = torch.broadcast_shapes(output.shape, target.shape)
        if value.shape == pairs and pairs != output.shape:
            check_same_shape(output, target)


def _as_floats(name: str, value: Any) -> dict[str, float]:
    if isinstance(value, Mapping):
        return {str(key): float(item) for key, item in value.items()}
    if isinstance(value, Tensor) and value.numel() != 1:
        return {f"{name}[{i}]": item for i, item in enumerate(value.flatten().tolist())}
    return {name: float(value)}


def _metric_failed(name: str, error: Exception) -> RuntimeError:
    return RuntimeError(f"metric {name!r} failed: {type(error).__name__}: {error}")
