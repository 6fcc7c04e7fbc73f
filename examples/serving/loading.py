"""A model that may be served: loaded without running its file's code, checked before it answers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from utils.audit import audit
from utils.models import digits_mlp

TOLERANCE = 1e-4
"""How far an answer may be from the stored one: another order of additions, no more."""


class NotFitToServe(Exception):
    """Why a checkpoint is refused."""


@dataclass(frozen=True)
class Served:
    """A model in eval mode, and the name of its checkpoint's content.

    Nobody switches its mode or changes its weights from here on: another checkpoint makes another.
    """

    model: nn.Module
    version: str

    def scores(self, images: Tensor) -> Tensor:
        """Answer a batch of shape ``(N, 1, 8, 8)``, in the thread that calls."""
        # Gradient modes belong to a thread: switched on here, where the model runs.
        try:
            with torch.inference_mode():
                return self.model(images)
        except StopIteration as error:
            # asyncio puts none into a future, and the whole batch would wait for ever.
            raise RuntimeError("the model raised StopIteration") from error


def save(model: nn.Module, images: Tensor, path: Path) -> None:
    """Write weights, and the answers to some images that a server must give as well."""
    model.eval()
    with torch.no_grad():
        golden = {"images": images, "scores": model(images)}
    torch.save({"weights": model.state_dict(), "golden": golden}, path)


def load(path: Path) -> Served:
    """Load a checkpoint into the known network, and refuse what should not be served.

    Raises
    ------
    NotFitToServe
        If the file holds anything but tensors, the weights do not fit, the audit finds something,
        or a stored answer comes out otherwise.
    """
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
        model = digits_mlp()
        model.load_state_dict(content["weights"])
        images, expected = content["golden"]["images"], content["golden"]["scores"]
    except Exception as error:
        raise NotFitToServe(f"{path.name} cannot be loaded: {type(error).__name__}") from error
    model.eval().requires_grad_(False)
    served = Served(model, hashlib.sha256(path.read_bytes()).hexdigest()[:12])
    found = audit(model, images).findings
    if found:
        raise NotFitToServe(f"{path.name}: the audit finds {', '.join(f.kind for f in found)}")
    apart = (served.scores(images) - expected).abs().max().item()
    if not apart <= TOLERANCE * expected.abs().max().item():
        raise NotFitToServe(f"{path.name}: a golden answer is off by {apart:.2g}")
    return served
