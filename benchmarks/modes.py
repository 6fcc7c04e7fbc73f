"""`evaluating` on a model of ten thousand submodules, beside plain eval() and train()."""

from __future__ import annotations

from torch import nn

from benchmarks.interleaved import ratios, report
from utils.modes import evaluating

PLAIN = "model.eval(), then model.train()"


def run(rounds: int = 30) -> list[str]:
    """Compare one switch there and back."""
    model = nn.Sequential(*[nn.Sequential(*[nn.ReLU() for _ in range(99)]) for _ in range(100)])

    def plain() -> None:
        model.eval()
        model.train()

    def restored() -> None:
        with evaluating(model):
            pass

    measured = ratios({PLAIN: plain, "evaluating(model)": restored}, rounds=rounds, baseline=PLAIN)
    return report("Switching 10,001 modules", PLAIN, measured, {"evaluating(model)": 1.5})
