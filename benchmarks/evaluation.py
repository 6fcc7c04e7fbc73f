"""`evaluate` with loss and accuracy, beside a bare forward-only loop and other libraries."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import resource
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import ConcatDataset, DataLoader, Subset
from torchmetrics.aggregation import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from benchmarks.interleaved import ratios, report
from utils.data import digits_loaders
from utils.evaluation import evaluate
from utils.models import digits_mlp

BARE = "bare loop: forward only, nothing scored"


ROWS = 12_000
"""About as many as common test sets have; the digits are gone through several times."""


def run(rounds: int = 8) -> list[str]:
    """Compare on 12,000 rows of the digits, in batches of 64; then memory, in batches of 8."""
    torch.manual_seed(0)
    model = digits_mlp().eval()
    digits = digits_loaders(batch_size=64).train.dataset
    times = -(-ROWS // len(digits))  # type: ignore[arg-type]
    rows: Subset[Any] = Subset(ConcatDataset([digits] * times), range(ROWS))
    loader = DataLoader(rows, batch_size=64)

    def bare() -> None:
        with torch.inference_mode():
            for images, _ in loader:
                model(images)

    def by_hand() -> None:
        total, right, count = 0.0, 0, 0
        with torch.inference_mode():
            for images, labels in loader:
                scores = model(images)
                total += F.cross_entropy(scores, labels, reduction="sum").item()
                right += (scores.argmax(1) == labels).sum().item()
                count += len(labels)

    def torchmetrics_each_batch() -> None:
        loss, accuracy = MeanMetric(), MulticlassAccuracy(10, average="micro")
        with torch.inference_mode():
            for images, labels in loader:
                scores = model(images)
                loss.update(F.cross_entropy(scores, labels), len(labels))
                accuracy.update(scores, labels)
        loss.compute(), accuracy.compute()

    contestants: dict[str, Callable[[], object]] = {
        BARE: bare,
        "utils.evaluation.evaluate": lambda: evaluate(model, loader, loss=nn.CrossEntropyLoss()),
        "loop by hand, scored each batch": by_hand,
        "torchmetrics, updated each batch": torchmetrics_each_batch,
        **_ignite(model, loader),
        **_lightning(model, loader),
    }
    measured = ratios(contestants, rounds=rounds, baseline=BARE)
    over = report(f"Evaluating {ROWS} digits", BARE, measured, {"utils.evaluation.evaluate": 1.05})
    ours = measured["utils.evaluation.evaluate"]
    for name in ("torchmetrics, updated each batch", "ignite", "Lightning"):
        if measured.get(name, ours + 1) < ours:
            over.append(f"{name} is faster than evaluate")
    return over + _memory(model, rows)


def _memory(model: nn.Module, rows: Subset[Any]) -> list[str]:
    """Compare the memory that a second pass takes with what the first one took."""
    loader, loss = DataLoader(rows, batch_size=8), nn.CrossEntropyLoss()
    evaluate(model, DataLoader(Subset(rows, range(80)), batch_size=8), loss=loss)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    evaluate(model, loader, loss=loss)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / before
    few = "80 rows in batches of 8"
    name = f"{ROWS} rows in batches of 8"
    return report("Peak memory of evaluate", few, {few: 1.0, name: grown}, {name: 1.05})


def _ignite(model: nn.Module, loader: object) -> dict[str, Callable[[], object]]:
    if importlib.util.find_spec("ignite") is None:
        return {}
    from ignite.engine import create_supervised_evaluator
    from ignite.metrics import Accuracy, Loss

    engine = create_supervised_evaluator(
        model, metrics={"loss": Loss(nn.CrossEntropyLoss()), "accuracy": Accuracy()}
    )
    return {"ignite": lambda: engine.run(loader)}


def _lightning(model: nn.Module, loader: object) -> dict[str, Callable[[], object]]:
    if importlib.util.find_spec("lightning") is None:
        return {}
    import lightning

    class Evaluated(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.accuracy = model, MulticlassAccuracy(10, average="micro")

        def test_step(self, batch: tuple[torch.Tensor, torch.Tensor]) -> None:
            scores = self.net(batch[0])
            self.accuracy.update(scores, batch[1])
            self.log("loss", F.cross_entropy(scores, batch[1]))
            self.log("accuracy", self.accuracy)

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    trainer, module = lightning.Trainer(accelerator="cpu", **quiet), Evaluated()

    def test() -> None:
        with warnings.catch_warnings(), contextlib.redirect_stdout(None):
            warnings.simplefilter("ignore")
            trainer.test(module, loader, verbose=False)

    return {"Lightning": test}
