"""What is measured of the first forwards of a situation: memory, and statistics that move."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from ..torch_internals import has_wrapped_tensors, storage
from .situations import Situation

MEASURED_STRETCHES = 3
"""Stretches of a situation whose running statistics are compared before and after."""


@dataclass
class Measured:
    """What was measured of the forwards of one situation.

    Attributes
    ----------
    graph_bytes
        What the graph of one of them held; None where there was none, or PyTorch cannot tell.
    stretches
        How many stretches were looked at.
    """

    graph_bytes: int | None = None
    stretches: int = 0
    _statistics: list[tuple[str, Tensor, Tensor, Tensor | float, float]] = field(
        default_factory=list
    )

    def add(
        self, layer: str, old: Tensor, new: Tensor, variance: Tensor | float, eps: float
    ) -> None:
        """Keep a layer's running mean before and after a stretch, to be compared when asked."""
        self._statistics.append((layer, old, new, variance, eps))

    @property
    def moved(self) -> dict[str, float]:
        """How far each layer's running mean moved at most, in standard deviations."""
        largest: dict[str, float] = {}
        for name, old, new, variance, eps in self._statistics:
            if not torch.equal(old, new):
                moved = float(((new.detach() - old).abs() / (variance + eps) ** 0.5).max())
                largest[name] = max(largest.get(name, 0.0), moved)
        return largest


class StatisticsWatch:
    """Compares running means before and after the first stretches of each situation."""

    def __init__(self, listening: dict[str, nn.Module]) -> None:
        self._listening = listening
        self._open: tuple[Situation, Measured, dict[str, Tensor]] | None = None

    def enter(self, situation: Situation, measured: Measured) -> None:
        """Note that a forward begins; a new stretch does where the situation is another one."""
        if self._open is not None and self._open[0] is situation:
            return
        self.close()
        if (
            measured.stretches < MEASURED_STRETCHES
            and situation.in_train
            and not has_wrapped_tensors()
        ):
            measured.stretches += 1
            layers = {name: self._listening[name] for name in situation.in_train}
            before = {
                name: layer.running_mean.detach().clone()  # type: ignore[operator, union-attr]
                for name, layer in layers.items()
                if has_numbers(getattr(layer, "running_mean", None))
            }
            self._open = situation, measured, before

    def close(self, *, last: bool = False) -> None:
        """End a stretch; the last one needs no copies, since nothing moves any more."""
        if self._open is None:
            return
        _, measured, before = self._open
        self._open = None
        for name, old in before.items():
            layer = self._listening[name]
            new: Any = getattr(layer, "running_mean", None)
            variance: Any = getattr(layer, "running_var", 1.0)
            if not has_numbers(new) or (new.shape, new.device) != (old.shape, old.device):
                continue  # it has been replaced, or has moved to another device
            if not last:
                new, variance = new.detach().clone(), torch.as_tensor(variance).detach().clone()
            measured.add(name, old, new, variance, getattr(layer, "eps", 1e-5))


def has_numbers(value: Any) -> TypeGuard[Tensor]:
    """Whether a value is a plain tensor with numbers in it."""
    return storage(value) is not None and not value.is_meta
