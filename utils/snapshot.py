"""The state of a model: parameters, buffers, modes and attributes, copied and put back."""

from __future__ import annotations

import contextlib
import copy
import operator
import weakref
from collections import OrderedDict, deque
from collections.abc import Collection, Iterable, Iterator, Mapping, MutableMapping, MutableSequence
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from .nested import DEPTH, iter_leaves, tensor_gap
from .random_state import GENERATORS, set_state, state_of
from .torch_internals import MANAGED, REBUILT, own_buffers, own_parameters, storage, version

CONTAINERS = (dict, OrderedDict, list, set)
StateKey: TypeAlias = tuple[str, str, str]
"""Names of a module and of what it holds, and a place in that."""

LARGE_TENSOR = 1 << 16
"""A tensor of more elements is compared in a sample, where PyTorch counts no change."""

FUNCTIONS = (FunctionType, MethodType, BuiltinFunctionType, partial)

ATOMS = (Tensor, nn.Module, type, ModuleType, bool, int, float, complex, str, bytes, type(None))


def own_state(
    model: nn.Module, like: nn.Module | None = None, unchanged: Collection[int] = ()
) -> dict[StateKey, Any]:
    """Copy the parameters, buffers and plain attributes of a model, by module, name and place.

    Parameters
    ----------
    model
        Any module.
    like
        A model with the same modules, such as the one that it was copied from: what is the same
        in both is left out, so that a copy takes little memory.
    unchanged
        Ids of tensors that are known to be the same in both.

    Examples
    --------
    >>> sorted({name for _, name, _ in own_state(nn.BatchNorm1d(2))} - {"weight", "bias"})[-2:]
    ['running_var', 'track_running_stats']
    >>> own_state(nn.BatchNorm1d(2), like=nn.BatchNorm1d(2))
    {}
    """
    others = {} if like is None else dict(like.named_modules())
    state: dict[StateKey, Any] = {}
    for module_name, module in model.named_modules():
        other = others.get(module_name)
        known = {} if other is None else _held_by(other)
        for name, value in _held_by(module).items():
            before = dict(iter_leaves(known[name])) if name in known else {}
            for path, leaf in iter_leaves(value):
                if id(leaf) in unchanged or (path in before and _is_same(leaf, before[path])):
                    continue
                is_tensor = isinstance(leaf, Tensor)
                state[module_name, name, path] = leaf.detach().clone() if is_tensor else leaf
    return state


def held_state(model: nn.Module) -> dict[StateKey, Any]:
    """As :func:`own_state`, with the tensors themselves instead of copies."""
    return {
        (module_name, name, path): leaf
        for module_name, module in model.named_modules()
        for name, value in _held_by(module).items()
        for path, leaf in iter_leaves(value)
    }


def _held_by(module: nn.Module) -> dict[str, Any]:
    return {**own_parameters(module), **own_buffers(module), **attributes(module)}


def _is_same(one: Any, other: Any) -> bool:
    return one is other or tensor_gap(one, other) == 0


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
        inner = [item for item in value]
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
    """The tensors, modes and attributes of a module and all inside it, to be put back.

    Parameters
    ----------
    root
        Any module.
    like
        What it was copied from, if it was: its tensors are then put back, and need no clones.
    """

    def __init__(self, root: nn.Module, like: nn.Module | None = None) -> None:
        tensors = tensors_of(root)
        originals = tensors if like is None else tensors_of(like)
        if [t.shape for t in tensors] != [t.shape for t in originals]:
            originals = tensors  # a copy that is made anew in part
        self._tensors = [
            TensorKept(tensor, tensor.detach().clone() if original is tensor else original)
            for tensor, original in zip(tensors, originals, strict=True)
        ]
        self._gradients = [(parameter, parameter.grad) for parameter in root.parameters()]
        self._modules = [
            (module, module.training, len(vars(module)), attributes(module))
            for module in root.modules()
        ]
        values = [value for module in root.modules() for value in vars(module).values()]
        self._contents = Contents(values)
        self.holds = {id(module) for module, *_ in self._modules}

    def put_back(self) -> None:
        """Make everything as it was; what has not changed is not touched."""
        with torch.no_grad():
            for kept in self._tensors:
                kept.put_back()
        for parameter, gradient in self._gradients:
            parameter.grad = gradient
        self._contents.put_back()
        for module, training, count, values in self._modules:
            held = vars(module)
            if module.training != training:
                module.training = training
            if len(held) != count or any(held.get(n, self) is not v for n, v in values.items()):
                for name in attributes(module).keys() - values.keys():
                    del held[name]
                held.update(values)

    def tensors(self) -> list[Tensor]:
        """What is put back."""
        return [kept.tensor for kept in self._tensors]

    def unchanged(self) -> set[int]:
        """The ids of the tensors that are as they were."""
        return {id(kept.tensor) for kept in self._tensors if kept.is_unchanged()}


class Contents:
    """What containers and plain objects hold, those inside others too, to be put back."""

    def __init__(self, values: Iterable[Any]) -> None:
        values = list(values)
        self._empty = [value for value in values if type(value) in CONTAINERS and not value]
        empty = set(map(id, self._empty))
        self._contents = [
            (value, _save_contents(value)) for value in _reachable(values) if id(value) not in empty
        ]

    def put_back(self) -> None:
        """Let everything hold what it held; what has not changed is not touched."""
        for value in self._empty:
            if value:
                value.clear()
        for value, contents in self._contents:
            if not _holds_the_same(value, contents):
                _restore_contents(value, contents)


class TensorKept:
    """A tensor, and the values that it shall have again."""

    def __init__(self, tensor: Tensor, value: Tensor) -> None:
        self.tensor, self._value = tensor, value
        self._mark = self._now()

    def _now(self) -> tuple[int, int]:
        memory = storage(self.tensor)
        return version(self.tensor), 0 if memory is None else memory.data_ptr()

    def is_unchanged(self) -> bool:
        """Whether the values are as they were.

        Of a large tensor that PyTorch has not counted as changed, a thousand are looked at: what
        is changed by way of ``.data`` is not counted.
        """
        tensor, value = self.tensor, self._value
        large = tensor.numel() > LARGE_TENSOR and tensor.is_contiguous() and value.is_contiguous()
        if large and self._mark == self._now():
            step = tensor.numel() // 1024
            tensor, value = tensor.detach().view(-1)[::step], value.detach().view(-1)[::step]
        return _is_same(tensor, value)

    def put_back(self) -> None:
        """Give the tensor its values again."""
        if self.tensor.shape != self._value.shape:  # observers make room for their channels
            self.tensor.data = self._value.clone()
        elif not self.is_unchanged():
            self.tensor.copy_(self._value)
        self._mark = self._now()


def _holds_the_same(value: Any, contents: Any) -> bool:
    """Whether a list, a mapping or an object holds the very objects that it held, in order.

    What does is left alone: a mapping may refuse changes, as the configurations of diffusers do.
    """
    if isinstance(value, MutableSequence):
        return len(value) == len(contents) and all(map(operator.is_, value, contents))
    if isinstance(value, GENERATORS) or not isinstance(contents, dict):
        return False
    held = _held_in(value) if isinstance(value, MutableMapping) else vars(value)
    same_keys = list(held.keys()) == list(contents)
    return same_keys and all(map(operator.is_, held.values(), contents.values()))


def tensors_of(root: nn.Module) -> list[Tensor]:
    found = [*root.parameters(), *root.buffers()]
    for module in root.modules():
        for value in attributes(module).values():
            found += [leaf for _, leaf in iter_leaves(value) if isinstance(leaf, Tensor)]
    return [t for t in found if not t.is_meta and not nn.parameter.is_lazy(t)]


def _held_in(mapping: MutableMapping[Any, Any]) -> dict[Any, Any]:
    """What a mapping holds, not what it gives: the table of activations in transformers makes one.

    To hold the same is then to hold the same objects.
    """
    return dict(dict.items(mapping)) if isinstance(mapping, dict) else dict(mapping)


def _save_contents(value: Any) -> Any:
    """What a mutable container holds, or the state of a generator."""
    if isinstance(value, MutableSequence):
        return list(value)
    if isinstance(value, MutableMapping):
        return _held_in(value)
    if isinstance(value, set):
        return set(value)
    if isinstance(value, GENERATORS):
        return state_of(value)
    if isinstance(value, np.ndarray):
        return value.copy()
    # An object that can be called may remember its calls; PyTorch's own are left alone.
    theirs = isinstance(value, (MethodType, BuiltinFunctionType))
    theirs = theirs or type(value).__module__.partition(".")[0] == "torch"
    return dict(vars(value)) if hasattr(value, "__dict__") and not theirs else None


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
    elif contents is not None:
        vars(value).clear()
        vars(value).update(contents)
