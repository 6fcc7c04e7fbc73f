"""The state of a model: parameters, buffers, modes and attributes, copied and put back."""

from __future__ import annotations

import contextlib
import copy
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, MutableSequence
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .nested import DEPTH, iter_leaves
from .random_state import GENERATORS, set_state, state_of
from .torch_internals import MANAGED, REBUILT, own_buffers, own_parameters

FUNCTIONS = (FunctionType, MethodType, BuiltinFunctionType, partial)

ATOMS = (Tensor, nn.Module, type, ModuleType, bool, int, float, complex, str, bytes, type(None))


def own_state(model: nn.Module) -> dict[tuple[str, str, str], Any]:
    """Copy every parameter, buffer and plain attribute of a model, by module, name and place.

    Examples
    --------
    >>> sorted({name for _, name, _ in own_state(nn.BatchNorm1d(2))} - {"weight", "bias"})[-2:]
    ['running_var', 'track_running_stats']
    """
    state: dict[tuple[str, str, str], Any] = {}
    for module_name, module in model.named_modules():
        held = {**own_parameters(module), **own_buffers(module), **attributes(module)}
        for name, value in held.items():
            for path, leaf in iter_leaves(value):
                if isinstance(leaf, Tensor):
                    leaf = leaf.detach().clone()
                state[module_name, name, path] = leaf
    return state


def attributes(module: nn.Module) -> dict[str, Any]:
    """The attributes of a module that PyTorch does not manage.

    Examples
    --------
    >>> attributes(nn.Dropout(0.25))
    {'p': 0.25, 'inplace': False}
    """
    return {name: value for name, value in vars(module).items() if name not in MANAGED}


def copy_model(model: nn.Module) -> nn.Module:
    """``copy.deepcopy`` that also copes with tensors that are the result of a computation."""
    memo: dict[int, Any] = {}
    for module in model.modules():
        for value in attributes(module).values():
            for _, leaf in iter_leaves(value):
                if isinstance(leaf, Tensor) and leaf.grad_fn is not None:
                    memo[id(leaf)] = leaf.detach().clone()
    return copy.deepcopy(model, memo)


def calls_back(model: nn.Module) -> bool:
    """Whether a function that a model holds knows a part of it, or something it writes to.

    A copy shares its functions with the original: hooks, lambdas, patched methods. What they
    close over would be the original's.
    """
    inside = {id(module) for module in model.modules()}
    inside |= {id(tensor) for tensor in [*model.parameters(), *model.buffers()]}
    mutable = (list, dict, set, deque)
    return any(
        id(value) in inside or isinstance(value, mutable) or hasattr(value, "__dict__")
        for function in _functions(model)
        for value in _closed_over(function)
        if not isinstance(value, (type, ModuleType, *FUNCTIONS))
    )


def _functions(model: nn.Module) -> Iterator[Any]:
    """Functions among the hooks and attributes of a model, in containers too."""
    for module in model.modules():
        held = [value for name, value in vars(module).items() if name not in REBUILT]
        for value in _reachable(held):
            if isinstance(value, (FunctionType, weakref.ref)):
                yield value


def _closed_over(function: Any) -> Iterator[Any]:
    if isinstance(function, weakref.ref):
        yield function()
        return
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):
            yield cell.cell_contents
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()


def _reachable(value: Any, depth: int = 0, seen: set[int] | None = None) -> Iterator[Any]:
    """Containers, plain objects and functions inside a value, and the value itself."""
    seen = set() if seen is None else seen
    if depth > DEPTH or id(value) in seen or isinstance(value, ATOMS):
        return
    seen.add(id(value))
    yield value
    if isinstance(value, Mapping):
        inner: Iterable[Any] = list(value.values())
    elif isinstance(value, (list, tuple, set, deque)):
        inner = list(value)
    elif isinstance(value, partial):
        inner = [value.func, *value.args, *value.keywords.values()]
    elif isinstance(value, MethodType):
        inner = [value.__func__]
    elif isinstance(value, FunctionType):
        inner = _closed_over(value)
    elif hasattr(value, "__dict__") and type(value).__module__ != "builtins":
        inner = list(vars(value).values())
    else:
        return
    for item in inner:
        yield from _reachable(item, depth + 1, seen)


class Snapshot:
    """The tensors, modes and attributes of a module and all inside it, to be put back."""

    def __init__(self, root: nn.Module) -> None:
        self._tensors = [(t, t.detach().clone()) for t in tensors_of(root)]
        self._gradients = [(parameter, parameter.grad) for parameter in root.parameters()]
        self._modules = [
            (
                module,
                module.training,
                attributes(module),
                dict(own_parameters(module)),
                dict(own_buffers(module)),
            )
            for module in root.modules()
        ]
        values = [value for module in root.modules() for value in vars(module).values()]
        self._contents = [(value, _save_contents(value)) for value in _reachable(values)]
        self.holds = {id(module) for module, *_ in self._modules}

    def put_back(self) -> None:
        with torch.no_grad():
            for tensor, value in self._tensors:
                if not torch.equal(tensor, value):
                    tensor.copy_(value)
        for parameter, gradient in self._gradients:
            parameter.grad = gradient
        for value, contents in self._contents:
            _restore_contents(value, contents)
        for module, training, values, parameters, buffers in self._modules:
            if module.training != training:
                module.training = training
            for name in attributes(module).keys() - values.keys():
                del vars(module)[name]
            vars(module).update(values)
            held: list[tuple[dict[str, Any], dict[str, Any]]] = [
                (own_parameters(module), parameters),
                (own_buffers(module), buffers),
            ]
            for now, then in held:
                if now.keys() != then.keys() or any(now[key] is not then[key] for key in then):
                    now.clear()
                    now.update(then)


def tensors_of(root: nn.Module) -> list[Tensor]:
    found = [*root.parameters(), *root.buffers()]
    for module in root.modules():
        for value in attributes(module).values():
            found += [leaf for _, leaf in iter_leaves(value) if isinstance(leaf, Tensor)]
    return [t for t in found if not t.is_meta and not nn.parameter.is_lazy(t)]


def _save_contents(value: Any) -> Any:
    """What a mutable container holds, or the state of a generator."""
    if isinstance(value, MutableSequence):
        return list(value)
    if isinstance(value, MutableMapping):
        return dict(value)
    if isinstance(value, set):
        return set(value)
    if isinstance(value, GENERATORS):
        return state_of(value)
    if isinstance(value, np.ndarray):
        return value.copy()
    return dict(vars(value)) if hasattr(value, "__dict__") and not callable(value) else None


def _restore_contents(value: Any, contents: Any) -> None:
    if isinstance(value, MutableSequence):
        value.clear()
        value.extend(contents)
    elif isinstance(value, (MutableMapping, set)):
        value.clear()
        value.update(contents)
    elif isinstance(value, GENERATORS):
        set_state(value, contents)
    elif isinstance(value, np.ndarray):
        value[...] = contents
    elif contents is not None and vars(value) != contents:
        vars(value).clear()
        vars(value).update(contents)
