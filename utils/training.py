"""Training a model: epochs, validation, early stopping, the best checkpoint, and resuming."""

from __future__ import annotations

import copy
import math
import os
import pickle
import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from tqdm import tqdm

from .batches import (
    Unpack,
    device_of_batches,
    run_on_batch,
    samples_in,
    to_device,
    unpack_batch,
)
from .evaluation import evaluate
from .findings import first_few
from .kinds import PACKAGE
from .losses import check_loss, reduced_loss
from .modes import is_kept_in_eval, listens, mode_of
from .scores import Metrics

EXPECTED_FILE = "expected a file that fit has written"


@dataclass
class History:
    """What happened in each epoch; made by :func:`fit`.

    Attributes
    ----------
    epochs
        One dict an epoch: ``train_loss``, the mean over the epoch's samples while the weights
        were still moving and the model was in train mode, and the numbers of
        :func:`utils.evaluation.evaluate` on the validation set with ``val_`` before their names.
    best_epoch
        Index of the best epoch, counted from 0; -1 before the first.
    stopped_early
        Whether patience ran out.
    """

    epochs: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = -1
    stopped_early: bool = False

    def __getitem__(self, name: str) -> list[float]:
        """One number over all epochs, such as ``history["val_loss"]``."""
        return [epoch[name] for epoch in self.epochs]

    def __len__(self) -> int:
        return len(self.epochs)


def fit(
    model: nn.Module,
    train_loader: Iterable[Any],
    val_loader: Iterable[Any],
    *,
    loss: Callable[[Any, Any], Tensor],
    optimizer: Optimizer,
    epochs: int,
    scheduler: LRScheduler | None = None,
    metrics: Metrics | None = None,
    monitor: str = "loss",
    higher_is_better: bool = False,
    patience: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    device: torch.device | str | None = None,
    progress: bool = False,
    unpack: Unpack | None = None,
) -> History:
    """Train a model, validate it after each epoch, and leave it with its best weights.

    A model that comes wholly in eval mode is trained in train mode; one that comes with mixed
    modes is trained as it comes, so that a part frozen with ``eval()`` stays frozen, with a warning
    that names it unless :func:`utils.modes.keep_in_eval` holds it. Modes are put back at the end,
    also after an error.

    Parameters
    ----------
    model
        Its parameters and buffers are trained in place; at the end they are those of the best
        epoch.
    train_loader, val_loader
        Iterables of batches, gone through once an epoch each. A shuffling loader with a generator
        of its own is resumed exactly.
    loss
        ``(output, target) -> tensor``, a scalar to go down from.
    optimizer, scheduler
        Already made for the model's parameters; the scheduler steps once an epoch, a
        ``ReduceLROnPlateau`` with the number that is watched.
    epochs
        How many epochs to have trained in all, those before a resume included.
    metrics
        For the validation set, as in :func:`utils.evaluation.evaluate`.
    monitor
        Which validation number decides what is best, without ``val_``.
    higher_is_better
        False for a loss, True for a score such as ``"accuracy"``.
    patience
        Stop after this many epochs in a row without a new best; never if None.
    checkpoint
        A file written after each epoch, replaced in one step, that holds all that resuming needs:
        the ``state_dict`` of model, optimizer and scheduler, and of a loss with parameters, and
        the random states of torch. A buffer that is not persistent, for one, is in none of these.
    resume
        Go on from ``checkpoint`` if the file is there.
    device
        As in :func:`utils.evaluation.evaluate`.
    progress
        Show a tqdm bar over the epochs.
    unpack
        As in :func:`utils.evaluation.evaluate`.

    Returns
    -------
    History
        One entry an epoch.

    Raises
    ------
    TypeError
        If ``model`` is no module or ``loss`` cannot be called.
    ValueError
        If an argument is out of range, a loader yields nothing, the optimizer holds none of the
        model's parameters, ``monitor`` is not measured, the checkpoint is not one of this run,
        or the loss is not a finite scalar.

    References
    ----------
    Prechelt, L. (1998). Early Stopping - But When? In Neural Networks: Tricks of the Trade.

    Examples
    --------
    >>> from utils.data import digits_loaders
    >>> from utils.models import digits_mlp
    >>> _ = torch.manual_seed(0)
    >>> model, loaders = digits_mlp(), digits_loaders()
    >>> history = fit(
    ...     model, loaders.train, loaders.validation, loss=nn.CrossEntropyLoss(),
    ...     optimizer=torch.optim.Adam(model.parameters(), lr=0.01), epochs=3,
    ... )
    >>> len(history), history["val_accuracy"][history.best_epoch] > 0.9
    (3, True)
    """
    current = mode_of(model)  # a TypeError where it is no module
    check_loss(loss)
    if epochs < 1:
        raise ValueError(f"epochs is {epochs}; expected at least 1.")
    if patience is not None and patience < 1:
        raise ValueError(f"patience is {patience}; expected at least 1, or None.")
    if resume and checkpoint is None:
        raise ValueError("resume is True but checkpoint is None; expected a path to resume from.")
    ours = {id(parameter) for parameter in model.parameters()}
    if not any(id(p) in ours for group in optimizer.param_groups for p in group["params"]):
        raise ValueError("optimizer holds none of the model's parameters; expected this model's.")
    run = _Run(model, loss, optimizer, scheduler, train_loader, monitor, higher_is_better, patience)
    path = None if checkpoint is None else Path(checkpoint)
    if resume and path is not None and path.exists():
        run.load(path)
    history = run.history

    modes = [(module, module.training) for module in model.modules()]
    if current == "eval":
        model.train()
    elif current == "mixed":
        _say_what_stays_in_eval(model)
    bar = tqdm(total=epochs, initial=len(history), desc="fit", leave=False, disable=not progress)
    try:
        while len(history) < epochs and not history.stopped_early:
            row = {"train_loss": _train_epoch(model, train_loader, loss, optimizer, device, unpack)}
            scores = evaluate(
                model, val_loader, metrics=metrics, loss=loss, device=device, unpack=unpack
            )
            if monitor not in scores:
                raise ValueError(
                    f"monitor is {monitor!r}; expected one of {', '.join(scores)}, "
                    "which is what the validation measures."
                )
            row |= {f"val_{name}": value for name, value in scores.items()}
            run.record(row)
            if isinstance(scheduler, ReduceLROnPlateau):
                scheduler.step(scores[monitor])
            elif scheduler is not None:
                scheduler.step()
            if path is not None:
                run.save(path)
            bar.set_postfix({name: f"{value:.3f}" for name, value in row.items()})
            bar.update()
        run.restore_best()
    finally:
        bar.close()
        for module, training in modes:
            module.training = training
    return history


def _say_what_stays_in_eval(model: nn.Module) -> None:
    """Warn of layers that will be trained in eval mode, unless they are kept in it on purpose."""
    names = [
        f"{name!r} ({type(module).__name__})"
        for name, module in model.named_modules()
        if not module.training and listens(module) and not is_kept_in_eval(module)
    ]
    if names:
        warnings.warn(
            f"model is in mixed mode, and fit trains it so: {first_few(names)} in eval mode. "
            f"{PACKAGE}.modes.keep_in_eval says that it is meant; model.train() ends it.",
            stacklevel=3,
        )


def _train_epoch(
    model: nn.Module,
    loader: Iterable[Any],
    loss: Callable[[Any, Any], Tensor],
    optimizer: Optimizer,
    device: torch.device | str | None,
    unpack: Unpack | None,
) -> float:
    """Train for one epoch; return the mean loss over its samples."""
    where = device_of_batches(model, device)
    total, count = 0.0, 0.0
    for number, batch in enumerate(loader):
        inputs, target = to_device((unpack or unpack_batch)(batch), where)
        optimizer.zero_grad()
        output = run_on_batch(model, inputs)
        value = loss(output, target)
        if value.numel() != 1:
            raise ValueError(
                f"loss returned a tensor of shape {tuple(value.shape)}; expected a scalar to go "
                "down from, such as a mean."
            )
        if not torch.isfinite(value):
            raise ValueError(
                f"loss is {value.item()} on training batch {number} (counted from 0); expected a "
                "finite number."
            )
        value.backward()
        optimizer.step()
        part, size = reduced_loss(loss, value.detach(), target, samples_in(output, target))
        total += part
        count += size
    if not count:
        raise ValueError("train_loader yielded no batches; expected at least one.")
    return total / count


class _Run:
    """The state of a training run: all that a checkpoint holds."""

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[Any, Any], Tensor],
        optimizer: Optimizer,
        scheduler: LRScheduler | None,
        train_loader: Iterable[Any],
        monitor: str,
        higher_is_better: bool,
        patience: int | None,
    ) -> None:
        self.model, self.optimizer, self.scheduler = model, optimizer, scheduler
        learns = isinstance(loss, nn.Module) and any(True for _ in loss.parameters())
        self.loss = loss if isinstance(loss, nn.Module) and learns else nn.Module()
        self.generator: torch.Generator | None = getattr(train_loader, "generator", None)
        self.monitor = f"val_{monitor}"
        self.sign = -1.0 if higher_is_better else 1.0
        self.patience = patience
        self.history = History()
        self.best_state: dict[str, Any] = {}

    def record(self, row: dict[str, float]) -> None:
        """Note an epoch, whether it is the best so far, and whether patience ran out."""
        history = self.history
        history.epochs.append(row)
        values = [self.sign * value for value in history[self.monitor]]
        best = values[history.best_epoch]
        if (
            history.best_epoch < 0
            or values[-1] < best
            or (math.isnan(best) > math.isnan(values[-1]))
        ):
            history.best_epoch = len(history) - 1
            self.best_state = copy.deepcopy(self.model.state_dict())
        self.judge_patience()

    def judge_patience(self) -> None:
        """Stop where too many epochs have passed since the best."""
        waited = len(self.history) - 1 - self.history.best_epoch
        self.history.stopped_early = self.patience is not None and waited >= self.patience

    def restore_best(self) -> None:
        self.model.load_state_dict(self.best_state)

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(path.name + ".unfinished")
        state = {
            "model": self.model.state_dict(),
            "best_model": self.best_state,
            "loss": self.loss.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "optimizer_class": type(self.optimizer).__name__,
            "scheduler": self.scheduler.state_dict() if self.scheduler else None,
            "history": asdict(self.history),
            "random_state": torch.get_rng_state(),
            "cuda_random_states": (
                torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
            ),
            "order_state": self.generator.get_state() if self.generator else None,
        }
        torch.save(state, unfinished)
        unfinished.replace(path)

    def load(self, path: Path) -> None:
        """Take up a run; whatever does not fit is an error, and nothing has been changed then."""
        state = self._read(path)
        self._check(state, path)
        before = copy.deepcopy((self.model.state_dict(), self.loss.state_dict()))
        try:
            self.model.load_state_dict(state["model"])
            self.loss.load_state_dict(state.get("loss", self.loss.state_dict()))
            self.optimizer.load_state_dict(state["optimizer"])
            if self.scheduler is not None:
                self.scheduler.load_state_dict(state["scheduler"])
        except Exception as error:
            self.model.load_state_dict(before[0])
            self.loss.load_state_dict(before[1])
            raise ValueError(f"checkpoint {path} does not fit this run: {error}") from error
        self.best_state = state["best_model"]
        self.history = History(**state["history"])
        self.judge_patience()  # a larger patience than before may go on
        torch.set_rng_state(state["random_state"])
        if state.get("cuda_random_states") and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["cuda_random_states"])
        if self.generator is not None and state["order_state"] is not None:
            self.generator.set_state(state["order_state"])

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            state: dict[str, Any] = torch.load(path, weights_only=True)
        except (RuntimeError, EOFError, KeyError, OSError, pickle.UnpicklingError) as error:
            raise ValueError(f"checkpoint {path} cannot be read; {EXPECTED_FILE}.") from error
        needed = {"model", "best_model", "optimizer", "history", "random_state", "order_state"}
        missing = needed - set(state) if isinstance(state, dict) else needed
        if missing:
            names = ", ".join(sorted(missing))
            raise ValueError(f"checkpoint {path} lacks {names}; {EXPECTED_FILE}.")
        return state

    def _check(self, state: dict[str, Any], path: Path) -> None:
        """Refuse a checkpoint of another run before anything is changed."""
        shapes = {name: tuple(value.shape) for name, value in self.model.state_dict().items()}
        for which in ("model", "best_model"):
            theirs = {name: tuple(value.shape) for name, value in state[which].items()}
            odd = sorted(n for n in shapes | theirs if shapes.get(n) != theirs.get(n))
            if odd:
                given, here = theirs.get(odd[0], "nothing"), shapes.get(odd[0], "nothing")
                raise ValueError(
                    f"checkpoint {path} is of another model: {odd[0]} is {given} there and {here} "
                    "here; expected that of this run."
                )
        kind = type(self.optimizer).__name__
        groups = [len(group["params"]) for group in self.optimizer.param_groups]
        theirs_kind = state.get("optimizer_class", kind)
        theirs_groups = [len(group["params"]) for group in state["optimizer"]["param_groups"]]
        if (theirs_kind, theirs_groups) != (kind, groups):
            raise ValueError(
                f"checkpoint {path} is of another optimizer, {theirs_kind} of {theirs_groups} "
                f"parameters; expected {kind} of {groups}."
            )
        if any(self.monitor not in epoch for epoch in state["history"]["epochs"]):
            raise ValueError(
                f"monitor is {self.monitor.removeprefix('val_')!r}, which checkpoint {path} has "
                "not measured; expected the one that its run has watched."
            )
        if (self.scheduler is None) != (state["scheduler"] is None):
            raise ValueError(
                f"scheduler is {type(self.scheduler).__name__} but checkpoint {path} was written "
                f"{'without' if state['scheduler'] is None else 'with'} one; expected the same."
            )
