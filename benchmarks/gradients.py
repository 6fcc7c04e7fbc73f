"""What recording a graph costs in time: chapter 5's question, for this machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from benchmarks.interleaved import ratios, report

BASELINE = "no_grad"


def run(rounds: int = 20) -> list[str]:
    """Compare the three gradient modes on many small and on a few large operations."""
    for title, depth, width, rows in (
        ("50 layers of 8", 50, 8, 1),
        ("4 layers of 512", 4, 512, 128),
    ):
        layers = [layer for _ in range(depth) for layer in (nn.Linear(width, width), nn.ReLU())]
        model, x = nn.Sequential(*layers).eval(), torch.randn(rows, width)

        def under(
            context: Callable[[], Any],
            model: nn.Module = model,
            x: torch.Tensor = x,
        ) -> Callable[[], None]:
            def forward() -> None:
                with context():
                    model(x)

            return forward

        contestants = {
            "no_grad": under(torch.no_grad),
            "inference_mode": under(torch.inference_mode),
            "gradients on": under(torch.enable_grad),
        }
        measured = ratios(contestants, rounds=rounds, baseline=BASELINE)
        report(f"One forward pass, {title}", BASELINE, measured, {})
    return []
