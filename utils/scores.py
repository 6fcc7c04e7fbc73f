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
from .losses import ROWWISE, ROWWISE_FUNCTIONS, Scorer, check_loss, total_loss, total_of

if TYPE_CHECKING:
    from torchmetrics import Metric, MetricCollection

Metrics: TypeAlias = Union[
    "Metric", "MetricCollection", Scorer, Sequence[Union["Metric", Scorer]],
    Mapping[str, Union["Metric", Scorer]],
]  # fmt: skip

HELD_ELEMENTS = 1 << 16
"""Outputs are scored together once this many elements are held, so memory stays bounded."""


class Scores:
    """What is known so far of the loss and the metrics, as sums and counts."""

    def __init__(self, metrics: Metrics | None, loss: Scorer | None, device: torch.device) -> None:
        check_loss(loss)
        self.loss = loss
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
                total, count = total_of(function(output, target), size)
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
