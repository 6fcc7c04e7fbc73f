"""`evaluate` with loss and accuracy, beside a bare forward-only loop and other libraries."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import warnings
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F
from torchmetrics.aggregation import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from benchmarks.interleaved import ratios, report
from utils.data import digits_loaders
from utils.evaluation import evaluate
from utils.models import digits_mlp

BARE = "bare loop: forward only, nothing scored"


def run(rounds: int = 60) -> list[str]:
    """Compare on the digits' training part, batches of 64."""
    torch.manual_seed(0)
    model = digits_mlp().eval()
    loader = digits_loaders(batch_size=64).train

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
    over = report("Evaluating the digits", BARE, measured, {"utils.evaluation.evaluate": 1.15})
    ours = measured["utils.evaluation.evaluate"]
    for name in ("torchmetrics, updated each batch", "ignite", "Lightning"):
        if measured.get(name, ours + 1) < ours:
            over.append(f"{name} is faster than evaluate")
    return over


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
