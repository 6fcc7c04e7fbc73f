"""`record` around training loops, beside the bare loops."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.interleaved import ratios, report
from utils.data import digits_loaders
from utils.models import digits_mlp
from utils.recorder import record


def run(rounds: int = 12) -> list[str]:
    """Compare ten epochs of a small MLP, through the digits' loader, and steps of a small CNN."""
    torch.manual_seed(0)
    loader = digits_loaders(batch_size=64).train
    cnn = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(16, 10),
    )
    images = [(torch.randn(32, 3, 32, 32), torch.arange(32) % 10)] * 8
    over = _compare("Training the digits' MLP", digits_mlp(), loader, 10, 1.10, rounds)
    return over + _compare("Training a small CNN", cnn, images, 3, 1.02, rounds)


def _compare(
    title: str,
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    epochs: int,
    limit: float,
    rounds: int,
) -> list[str]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def bare() -> None:
        for inputs, target in itertools.chain(*[batches] * epochs):
            optimizer.zero_grad()
            F.cross_entropy(model(inputs), target).backward()
            optimizer.step()

    def recorded() -> None:
        with record(model):
            bare()

    contestants: dict[str, Callable[[], object]] = {"bare loop": bare, "recorded": recorded}
    measured = ratios(contestants, rounds=rounds, baseline="bare loop")
    return report(title, "bare loop", measured, {"recorded": limit})
