"""What is fixed about a model while it is recorded: its parts, its weights, who listens."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ..listening import listens
from ..torch_internals import last_value, own_modules, own_parameters, storage, uncompiled


class ModelMap:
    """A model as it stands when the recording begins.

    Attributes
    ----------
    parts
        Its modules by qualified name, the root under ``""``.
    listening
        Those of them that act on their mode.
    weights
        Its parameters.
    with_momentum
        Modules that keep running statistics by a momentum.
    plain_averages
        Those of them whose momentum was None from the beginning, by id.
    frozen_at_start
        Layers that listen and were in eval mode, without a weight to train, in a model in train
        mode.

    Examples
    --------
    >>> sorted(ModelMap(nn.Sequential(nn.Linear(2, 2), nn.Dropout())).listening)
    ['1']
    """

    def __init__(self, model: nn.Module) -> None:
        self.root = model
        self.parts = dict(nn.Module.named_modules(model))
        self.listening = {name: part for name, part in self.parts.items() if listens(part)}
        self.weights = list(nn.Module.parameters(model))
        self.with_momentum = [m for m in self.parts.values() if "momentum" in vars(m)]
        self.plain_averages = {id(m) for m in self.with_momentum if m.momentum is None}
        self.frozen_at_start = {
            name
            for name, layer in self.listening.items()
            if model.training and not layer.training and not self.is_trainable(name)
        }
        self._frozen_values = {
            id(weight): last_value(weight) for weight in self.weights if not weight.requires_grad
        }
        self._inside = self._listening_inside()

    def _listening_inside(self) -> dict[int, tuple[str, list[tuple[str, nn.Module]]]]:
        """For each part with weights or layers that listen: its name and those layers."""
        inside: dict[str, list[tuple[str, nn.Module]]] = {}
        for name, part in self.parts.items():
            hears = name in self.listening
            if hears or any(weight is not None for weight in own_parameters(part).values()):
                for outer in ancestors(name):
                    layers = inside.setdefault(outer, [])
                    if hears:
                        layers.append((name, part))
        return {id(self.parts[part]): (part, layers) for part, layers in inside.items()}

    def find(self, module: nn.Module) -> tuple[str, list[tuple[str, nn.Module]]] | None:
        """The name of a part and the layers inside it that listen; None for any other module."""
        found = self._inside.get(id(module))
        if found is None and "_orig_mod" in own_modules(module):
            found = self._inside.get(id(uncompiled(module)))
        return found

    def worth_watching(self) -> list[nn.Module]:
        """The parts that :meth:`find` knows, and the root."""
        return [self.root, *(self.parts[name] for name, _ in self._inside.values())]

    def layers_of(self, name: str) -> list[tuple[str, nn.Module]]:
        """The layers inside a part that listen."""
        return self._inside[id(self.parts[name])][1]

    @cached_property
    def core(self) -> list[nn.Module]:
        """The modules of the innermost part that holds every listening layer and every weight.

        What is around it are bare wrappers, whose mode says nothing.
        """
        core = self.root
        while type(core).train is nn.Module.train:  # or it may freeze what is inside on purpose
            children = filter(None, own_modules(core).values())
            inner = [m for m in children if next(nn.Module.parameters(m), None) is not None]
            if len(inner) != 1 or "train" in vars(inner[0]) or not own_modules(inner[0]):
                break
            inside = {id(module) for module in nn.Module.modules(inner[0])}
            own = any(weight is not None for weight in own_parameters(core).values())
            if own or not all(id(module) in inside for module in self.listening.values()):
                break
            core = inner[0]
        return list(nn.Module.modules(core))

    def is_trainable(self, name: str) -> bool:
        """Whether a layer, or the part that a layer without weights belongs to, is trained."""
        own = list(nn.Module.parameters(self.parts[name]))
        if not own and name:
            own = list(nn.Module.parameters(self.parts[name.rpartition(".")[0]]))
        return any(weight.requires_grad for weight in own)

    def has_trainable_weights(self, name: str) -> bool:
        """Whether some weight of a part asks for gradients."""
        return any(weight.requires_grad for weight in nn.Module.parameters(self.parts[name]))

    def frozen_weights_changed(self, name: str) -> bool:
        """Whether weights of a part that ask for no gradient have other values by now."""
        return any(
            id(weight) in self._frozen_values
            and last_value(weight) != self._frozen_values[id(weight)]
            for weight in nn.Module.parameters(self.parts[name])
        )

    def watched_weights(self) -> list[Tensor]:
        """The first and the last weight: enough to see that someone changed the weights."""
        ordinary = [w for w in self.weights if is_lazy(w) or not w.is_inference()]
        return [*ordinary[:1], *ordinary[-1:]]

    def frozen_inside(self, name: str, in_train: Iterable[str]) -> list[str]:
        """Parts inside a part that have weights, none to train, and a layer in train mode."""
        found: dict[str, None] = {}
        for layer in in_train:
            outer = [part for part in ancestors(layer) if _is_inside(part, name)]
            frozen = [
                part
                for part in outer
                if next(nn.Module.parameters(self.parts[part]), None) is not None
                and not self.has_trainable_weights(part)
            ]
            if frozen and frozen[-1] and own_modules(self.parts[frozen[-1]]):
                found[frozen[-1]] = None
        return list(found)

    def resembles(self, module: nn.Module) -> bool:
        """Whether another module looks like a copy of the model."""
        return type(module) is type(self.root) and _signature(module) == _signature(self.root)

    def added(self) -> list[str]:
        """Names of modules that listen and were not there when the recording began."""
        known = {id(part) for part in self.parts.values()}
        return [
            name
            for name, part in nn.Module.named_modules(self.root)
            if id(part) not in known and listens(part)
        ]


def ancestors(name: str) -> list[str]:
    """The qualified names of a module and of those around it, the root last.

    Examples
    --------
    >>> ancestors("encoder.0.norm")
    ['encoder.0.norm', 'encoder.0', 'encoder', '']
    """
    names = [name]
    while name:
        name = name.rpartition(".")[0]
        names.append(name)
    return names


def _is_inside(part: str, whole: str) -> bool:
    return part != whole and (not whole or part.startswith(f"{whole}."))


def are_apart(one: str, other: str) -> bool:
    """Whether neither of two parts is inside the other.

    Examples
    --------
    >>> are_apart("make", "judge"), are_apart("make", "make.0"), are_apart("", "judge")
    (True, False, False)
    """
    return one != other and not _is_inside(one, other) and not _is_inside(other, one)


def _signature(module: nn.Module) -> list[tuple[str, torch.Size | None]]:
    return [
        (name, None if is_lazy(weight) or storage(weight) is None else weight.shape)
        for name, weight in nn.Module.named_parameters(module)
    ]
