"""`audit` of a CNN with ten million parameters, beside its own forward pass."""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from benchmarks.interleaved import ratios, report
from utils.audit import audit


def run(rounds: int = 5) -> list[str]:
    """Compare on a batch of 16 images."""
    torch.manual_seed(0)
    widths = [3, 64, 128, 256, 512, 512, 512, 512]
    layers: list[nn.Module] = []
    for index, (inside, outside) in enumerate(pairwise(widths)):
        layers += [
            nn.Conv2d(inside, outside, 3, padding=1, stride=1 + index % 2),
            nn.BatchNorm2d(outside),
            nn.ReLU(),
        ]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000))
    images = torch.randn(16, 3, 32, 32)
    model.eval()

    def forward() -> None:
        with torch.no_grad():
            model(images)

    forward_pass = "forward pass, eval mode, no_grad"
    measured = ratios(
        {forward_pass: forward, "audit": lambda: audit(model, images)},
        rounds=rounds,
        baseline=forward_pass,
    )
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    title = f"Auditing a CNN of {millions:.1f} million parameters"
    over = report(title, forward_pass, measured, {"audit": 12})
    whole, sent = "a whole batch, forward", "samples that audit sends"
    passes = {whole: 1.0, sent: _passes(model, images)}
    over += report("The same, counted", whole, passes, {sent: 10})
    return over + _idle()


def _passes(model: nn.Module, images: Tensor) -> float:
    """Count the samples that go through the model, in batches of as many as were given."""
    seen: list[int] = []

    def count(module: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
        if isinstance(module, nn.Sequential):
            seen.append(len(args[0]))

    # A hook of the model's own would be put back with all that it holds.
    handle = register_module_forward_hook(count)
    audit(model, images)
    handle.remove()
    return sum(seen) / len(images)


def _idle() -> list[str]:
    """Compare the audit of a model with 20,000 modules that are never called with one deepcopy."""
    model = nn.Linear(4, 4)
    model.idle = nn.Sequential(
        *[nn.Sequential(*[nn.ReLU() for _ in range(199)]) for _ in range(100)]
    )
    inputs, copied = torch.randn(8, 4), "one deepcopy of it"
    measured = ratios(
        {copied: lambda: copy.deepcopy(model), "audit": lambda: audit(model, inputs)},
        rounds=1,
        baseline=copied,
    )
    return report("Auditing a model with 20,000 idle modules", copied, measured, {"audit": 15})
