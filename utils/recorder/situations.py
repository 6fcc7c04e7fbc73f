"""What makes two forwards alike: who called which part, in which modes, under which gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..torch_internals import own_modules, version
from .callers import Caller
from .model_map import ModelMap
from .report import Place


@dataclass(frozen=True, eq=False)
class Situation:
    """What is known of a forward when it begins.

    Attributes
    ----------
    where, purpose, on_purpose
        Of its :class:`utils.recorder.callers.Caller`.
    module
        Qualified name of what was called.
    in_train, listening
        The layers inside that listen and are in train mode, and how many listen at all.
    training
        The flag of what was called.
    whole_in_eval
        Whether neither a layer that listens nor the model's core is in train mode.
    trainable
        The layers inside that listen and have, or belong to, weights that ask for gradients.
    has_weights, has_trainable_weights
        Of the part that was called.
    gradients
        ``"on"``, ``"no_grad"`` or ``"inference"``.
    plain_average
        Whether some running statistics are taken as a plain average (``momentum=None``).
    lone_layer
        Whether a single layer was called, in a model in eval mode.
    all_below_in_train
        Whether every module below what was called is in train mode.
    version
        How often the part's weights had been changed in place.
    """

    where: Place
    purpose: str
    on_purpose: bool
    module: str
    in_train: tuple[str, ...]
    listening: int
    training: bool
    whole_in_eval: bool
    trainable: tuple[str, ...]
    has_weights: bool
    has_trainable_weights: bool
    gradients: str
    plain_average: bool
    lone_layer: bool
    all_below_in_train: bool
    version: int


class SituationFinder:
    """Finds the situation of a call; equal ones are one object."""

    def __init__(self, model: ModelMap) -> None:
        self._model = model
        self._known: dict[Any, Situation] = {}

    def find(
        self, caller: Caller, module: nn.Module, name: str, inside: list[tuple[str, nn.Module]]
    ) -> Situation:
        """Look a call up by what may have changed since the last one."""
        model = self._model
        modes = [layer.training for _, layer in inside]
        state = (
            id(caller),
            name,
            module.training,
            True in modes or any([part.training for part in model.core]),
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            *modes,
            *[weight.requires_grad for weight in model.weights],
            *[getattr(m, "momentum", 0) is None and m.training for m in model.with_momentum],
        )
        known = self._known.get(state)
        if known is None:
            known = self._known[state] = self._look_at(caller, module, name, inside)
        return known

    def _look_at(
        self, caller: Caller, module: nn.Module, name: str, inside: list[tuple[str, nn.Module]]
    ) -> Situation:
        model = self._model
        in_train = tuple([n for n, layer in inside if layer.training])
        averaging = [
            m for m in model.with_momentum if getattr(m, "momentum", 0) is None and m.training
        ]
        purpose = caller.purpose
        if in_train and any(id(m) not in model.plain_averages for m in averaging):
            purpose = purpose or "statistics"
        weights = list(nn.Module.parameters(module))
        return Situation(
            where=caller.where,
            purpose=purpose,
            on_purpose=caller.on_purpose,
            module=name,
            in_train=in_train,
            listening=len(inside),
            training=module.training,
            whole_in_eval=not in_train and not any(part.training for part in model.core),
            trainable=tuple([n for n, _ in inside if model.is_trainable(n)]),
            has_weights=bool(weights),
            has_trainable_weights=any(weight.requires_grad for weight in weights),
            gradients=_gradients(),
            plain_average=bool(in_train and averaging),
            lone_layer=not model.root.training and not own_modules(module),
            all_below_in_train=all(
                m.training for m in nn.Module.modules(module) if m is not module
            ),
            version=max(map(version, weights), default=0),
        )


def _gradients() -> str:
    if torch.is_grad_enabled():
        return "on"
    return "inference" if torch.is_inference_mode_enabled() else "no_grad"
