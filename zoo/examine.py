"""Build one model, bring it into the state of a trained one, audit it, and say what was found."""

from __future__ import annotations

import random
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypedDict

import torch
from torch import Tensor, nn

from utils.audit import audit
from utils.findings import in_one_line
from utils.nested import map_tensors
from zoo.child import is_out_of_memory
from zoo.entry import Entry, switched

FORWARDS, FORWARDS_AT_MOMENTUM = 20, 70
"""In train mode, for models with running statistics; the second where these move by a momentum."""
BATCHES_SEEN = 1000
"""How many batches PyTorch's layers then count."""
SMALL_STD, USUAL_STD = 0.05, 0.15
"""Weights drawn smaller than the first (GPT's 0.02) are scaled to the second: with a width of 32
attention would otherwise be even, and experts would all be chosen alike."""

Status = Literal[
    "audited", "not built", "failed before the audit", "audit error", "over the limit", "died"
]


class FoundInModel(TypedDict):
    """A finding, as it is written down."""

    kind: str
    module: str
    measured: str


class Record(TypedDict, total=False):
    """What became of one model. Without ``status`` it is not finished."""

    package: str
    version: str
    model: str
    parameters: int
    seconds: float
    status: Status
    findings: list[FoundInModel]
    notes: list[str]
    error: str


def examine(entry: Entry) -> Record:
    """Build, warm, call and audit one model.

    Returns
    -------
    Record
        With ``status``, and ``error`` where there is no audit.

    Examples
    --------
    >>> entry = Entry("torch", "Dropout", lambda: (nn.Dropout(), torch.ones(4, 2)))
    >>> examine(entry)["status"], examine(entry)["findings"]
    ('audited', [])
    """
    record: Record = {}
    with _called("not built", record):
        _seed(0)
        model, args, kwargs = entry.built()
        record["parameters"] = sum(parameter.numel() for parameter in model.parameters())
    if "status" in record:
        return record
    with _called("failed before the audit", record):
        _seed(1)
        settle(model, args, kwargs)
        with switched(model, False), torch.no_grad():
            model(*args, **kwargs)
    if "status" in record:
        return record
    with _called("audit error", record):
        report = audit(model, args, kwargs)
        record["findings"] = [
            {"kind": f.kind, "module": f.module, "measured": f.evidence} for f in report.findings
        ]
        record["notes"] = list(report.notes)
        record["status"] = "audited"
    return record


@contextmanager
def _called(status: Status, record: Record) -> Iterator[None]:
    """Write down an error under this status, and where it was raised; memory is told apart."""
    try:
        yield
    except (Exception, SystemExit) as error:
        if is_out_of_memory(error):
            raise MemoryError from error
        at = traceback.extract_tb(error.__traceback__)[-1]
        place = "/".join(at.filename.split("/")[-3:])
        said = in_one_line(error) if isinstance(error, Exception) else repr(error)
        record["status"] = status
        record["error"] = f"{said[:200]} ({place}:{at.lineno})"


def _seed(seed: int) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
    try:
        import numpy as np
    except ImportError:
        return
    np.random.seed(seed)


def settle(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Let running statistics settle, as training would: a mean over some forwards in train mode.

    PyTorch's own layers take the plain mean, and are then said to have seen as many batches as a
    trained model has: nothing of their first values is left. Other layers move as they do.

    Examples
    --------
    >>> norm = nn.BatchNorm1d(2)
    >>> settle(norm, (5 * torch.randn(64, 2),), {})
    >>> bool((norm.running_var > 15).all()), norm.momentum
    (True, 0.1)
    """
    tracking = [m for m in model.modules() if isinstance(getattr(m, "running_mean", None), Tensor)]
    if not tracking:
        return
    of_torch: list[Any] = [m for m in tracking if type(m).__module__.startswith("torch.nn.")]
    momenta = [layer.momentum for layer in of_torch]
    generator = torch.Generator().manual_seed(2)
    for layer in of_torch:
        layer.momentum = None
    with switched(model, True), torch.no_grad():
        for _ in range(FORWARDS if of_torch == tracking else FORWARDS_AT_MOMENTUM):
            model(*drawn_like(args, generator), **drawn_like(kwargs, generator))
    for layer, momentum in zip(of_torch, momenta):
        layer.momentum = momentum
        if isinstance(layer.num_batches_tracked, Tensor) and layer.num_batches_tracked > 0:
            layer.num_batches_tracked.fill_(BATCHES_SEEN)


def drawn_like(value: Any, generator: torch.Generator) -> Any:
    """Other numbers with the mean and deviation of these; indices, masks and flags as they are.

    Examples
    --------
    >>> mask, numbers = torch.ones(3), torch.randn(3)
    >>> drawn = drawn_like((mask, numbers), torch.Generator().manual_seed(0))
    >>> torch.equal(drawn[0], mask), torch.equal(drawn[1], numbers)
    (True, False)
    """

    def draw(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point() or tensor.numel() < 2:
            return tensor
        if bool(((tensor == 0) | (tensor == 1)).all()):
            return tensor
        if tensor.min() >= 0:
            return torch.rand(tensor.shape, generator=generator).to(tensor) * tensor.max()
        noise = torch.randn(tensor.shape, generator=generator).to(tensor)
        return noise * tensor.std() + tensor.mean()

    return map_tensors(value, draw)


def widen(model: nn.Module) -> nn.Module:
    """Scale up weights that were drawn so small that a small model does next to nothing.

    Examples
    --------
    >>> layer = nn.Linear(64, 64)
    >>> _ = nn.init.normal_(layer.weight, std=0.02)
    >>> round(float(widen(layer).weight.std().detach()), 2)
    0.15
    """
    for weight in model.parameters():
        if weight.dim() < 2 or not weight.is_floating_point():
            continue
        std = float(weight.detach().std())
        if 0 < std < SMALL_STD:
            weight.data.mul_(USUAL_STD / std)
    return model
