"""Running a model again and again from one state, and comparing what came out."""

from __future__ import annotations

import contextlib
import copy
import random
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, MutableSequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

DEPTH = 8
"""How deep nested outputs and attributes are looked into."""
GENERATORS = (torch.Generator, random.Random, np.random.Generator, np.random.RandomState)
"""Kinds of generators of random numbers."""
FUNCTIONS = (FunctionType, MethodType, BuiltinFunctionType, partial)
ATOMS = (Tensor, nn.Module, type, ModuleType, bool, int, float, complex, str, bytes, type(None))
REBUILT = ("_parameters", "_buffers", "_modules", "_flat_weight_refs")
"""Attributes that a copy has anew; the last are the weak references of recurrent layers."""
INTERNAL = frozenset(vars(nn.Module()))
"""What every module has in its ``__dict__``; the rest is the model's own."""


def leaves(
    value: Any, path: str = "", depth: int = 0, seen: set[int] | None = None
) -> Iterator[tuple[str, Any]]:
    """Walk through nested tensors and numbers, each with its place.

    Tuples, lists, mappings, dataclasses and plain objects are looked into; generators of random
    numbers stand for their state.

    Examples
    --------
    >>> [path for path, _ in leaves({"boxes": [torch.ones(2), 3]})]
    ["['boxes'][0]", "['boxes'][1]"]
    """
    if isinstance(value, (Tensor, bool, int, float, complex, str, bytes, type(None))):
        yield path, value
    elif isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        yield path, torch.from_numpy(np.array(value))
    elif isinstance(value, GENERATORS):
        state = _state_of(value)
        yield path, state if isinstance(state, Tensor) else str(state)
    elif depth >= DEPTH or isinstance(value, nn.Module) or callable(value):
        yield path, type(value).__name__
    elif isinstance(value, Mapping):
        for key in value:
            yield from leaves(value[key], f"{path}[{key!r}]", depth + 1, seen)
    elif isinstance(value, (list, tuple, deque)):
        for index, item in enumerate(value):
            yield from leaves(item, f"{path}[{index}]", depth + 1, seen)
    elif hasattr(value, "__dict__"):
        seen = set() if seen is None else seen
        if id(value) not in seen:
            seen.add(id(value))
            for name, item in vars(value).items():
                yield from leaves(item, f"{path}.{name}", depth + 1, seen)
    else:
        yield path, type(value).__name__


def _state_of(generator: Any) -> Any:
    if isinstance(generator, (torch.Generator, np.random.RandomState)):
        return generator.get_state()
    if isinstance(generator, random.Random):
        return generator.getstate()
    return generator.bit_generator.state


def _set_state(generator: Any, state: Any) -> None:
    if isinstance(generator, (torch.Generator, np.random.RandomState)):
        generator.set_state(state)
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    else:
        generator.bit_generator.state = state


def difference(one: Any, other: Any) -> float:
    """Measure how far two nested outputs are apart, relative to the largest value in them.

    Parameters
    ----------
    one, other
        Outputs of a model: tensors, or anything nested.

    Returns
    -------
    float
        0 if they are the same, infinity if they differ in structure, shape, a whole number or
        in what is finite. ``nan`` in the same place is the same.

    Examples
    --------
    >>> difference({"a": torch.tensor([2.0, 4.0])}, {"a": torch.tensor([2.0, 3.0])})
    0.25
    """
    ones, others = list(leaves(one)), list(leaves(other))
    if [path for path, _ in ones] != [path for path, _ in others]:
        return float("inf")
    return max((_apart(a, b) for (_, a), (_, b) in zip(ones, others, strict=True)), default=0.0)


def _apart(one: Any, other: Any) -> float:
    if isinstance(one, float) and isinstance(other, float):
        one, other = torch.tensor(one), torch.tensor(other)
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        same = type(one) is type(other) and one == other
        return 0.0 if same else float("inf")
    one, other = _dense(one), _dense(other)
    if one.shape != other.shape or one.dtype != other.dtype:
        return float("inf")
    if one.is_meta or one.numel() == 0:
        return 0.0
    one, other = one.detach(), other.detach()
    if not one.is_floating_point() and not one.is_complex():
        return 0.0 if torch.equal(one, other) else float("inf")
    if torch.equal(one, other):
        return 0.0
    if one.is_floating_point() and torch.finfo(one.dtype).bits < 32:
        one, other = one.float(), other.float()
    gap, size = (one - other).abs(), torch.maximum(one.abs(), other.abs())
    finite = gap.isfinite()
    alike = (one == other) | (one.isnan() & other.isnan())
    if not bool((finite | alike).all()):
        return float("inf")
    gap, size = gap[finite], size[finite]
    if gap.numel() == 0 or float(size.max()) == 0.0:
        return 0.0
    return float(gap.max() / size.max())


def _dense(tensor: Tensor) -> Tensor:
    if tensor.is_quantized:
        return tensor.dequantize()
    if tensor.is_nested:
        return torch.nested.to_padded_tensor(tensor, 0.0)
    return tensor.to_dense() if tensor.layout != torch.strided else tensor


def map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Apply a function to every tensor of a nested value; containers are made anew.

    Examples
    --------
    >>> map_tensors({"a": [torch.ones(1), "text"]}, lambda t: t * 2)
    {'a': [tensor([2.]), 'text']}
    """
    found = [leaf for _, leaf in leaves(value) if isinstance(leaf, Tensor)]
    return _rebuild(value, {id(leaf): change(leaf) for leaf in found})


def _rebuild(value: Any, memo: dict[int, Any]) -> Any:
    if id(value) in memo:
        return memo[id(value)]
    if isinstance(value, nn.Module) or callable(value):
        return value
    if type(value) in (list, tuple):
        return type(value)(_rebuild(item, memo) for item in value)
    if type(value) is dict:
        return {key: _rebuild(item, memo) for key, item in value.items()}
    try:
        return copy.deepcopy(value, memo)
    except Exception:
        return value


def batch_size(inputs: Any) -> int | None:
    """The size that the first tensor, or list of tensors, of an input has in dimension 0.

    Examples
    --------
    >>> batch_size(({"image": torch.zeros(8, 3)},)), batch_size((torch.tensor(1.0),))
    (8, None)
    """
    if isinstance(inputs, Tensor):
        return len(inputs) if inputs.dim() else None
    if is_list_of_rows(inputs):
        return len(inputs)
    if isinstance(inputs, Mapping):
        inputs = list(inputs.values())
    if isinstance(inputs, (list, tuple)):
        return next((size for item in inputs if (size := batch_size(item)) is not None), None)
    return None


def is_list_of_rows(value: Any) -> bool:
    """Whether a list has an entry for each sample: dicts, or tensors that are not levels.

    Examples
    --------
    >>> is_list_of_rows([{"boxes": torch.zeros(3, 4)}, {"boxes": torch.zeros(1, 4)}])
    True
    >>> is_list_of_rows([torch.zeros(8, 2, 16, 16), torch.zeros(8, 2, 4, 4)])
    False
    """
    if not isinstance(value, list) or not value:
        return False
    if isinstance(value[0], Mapping):
        return True
    if not all(isinstance(item, Tensor) and item.dim() for item in value):
        return False
    # Levels of a pyramid share their batch and differ in size. Images of one or three channels,
    # too, are alike in dimension 0 and differ in size.
    images = value[0].dim() == 3 and len(value[0]) in (1, 3)
    return images or not (
        len({item.shape for item in value}) > 1
        and len({len(item) for item in value}) == 1
        and len(value[0]) > 1
    )


def select_rows(value: Any, batch: int, rows: slice, *, dim: int = 0) -> Any:
    """Take some rows of everything that has a row for each sample; leave the rest as it is.

    Examples
    --------
    >>> {k: len(v) for k, v in select_rows({"x": torch.zeros(4, 2), "w": torch.zeros(3)}, 4,
    ...                                    slice(0, 2)).items()}
    {'x': 2, 'w': 3}
    """
    if isinstance(value, Tensor):
        plain = value.layout == torch.strided and not value.is_nested
        if plain and value.dim() > dim and value.shape[dim] == batch:
            return value[rows] if dim == 0 else value[:, rows]
        return value
    if dim == 0 and is_list_of_rows(value) and len(value) == batch:
        return value[rows]
    if isinstance(value, Mapping):
        return {key: select_rows(item, batch, rows, dim=dim) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(select_rows(item, batch, rows, dim=dim) for item in value)
    if isinstance(value, list):
        return [select_rows(item, batch, rows, dim=dim) for item in value]
    return value


def rows_apart(full: Any, part: Any, batch: int, rows: slice, *, size: int) -> float | None:
    """Compare rows of one output with an output made for those rows, where both have rows.

    Parameters
    ----------
    full
        The output for the whole batch.
    part
        The output for ``size`` samples, of which the first are, or are all, ``rows`` of the
        batch.
    batch, size
        Samples in the two.
    rows
        Which rows of ``full`` to compare with which rows of ``part``.

    Returns
    -------
    float or None
        Their :func:`difference`; None if nothing in the two has rows.
    """
    pairs = list(_row_pairs(full, part, batch, rows, size))
    return max((_apart(a, b) for a, b in pairs), default=None) if pairs else None


def _row_pairs(
    full: Any, part: Any, batch: int, rows: slice, size: int
) -> Iterator[tuple[Any, Any]]:
    if isinstance(full, Tensor) and isinstance(part, Tensor):
        full, part = _dense(full), _dense(part)
        if full.dim() and part.dim() and len(full) == batch and len(part) == size:
            one, other = full[rows], part[rows] if size == batch else part
            if one.shape == other.shape:
                # Relative to the largest value of the batch: a row of zeros has no scale.
                yield one, other
        return
    if is_list_of_rows(full) and is_list_of_rows(part) and len(full) == batch:
        others = part[rows] if size == batch else part
        for one, other in zip(full[rows], others, strict=False):
            a, b = list(leaves(one)), list(leaves(other))
            if [path for path, _ in a] == [path for path, _ in b]:
                yield from ((x, y) for (_, x), (_, y) in zip(a, b, strict=True))
        return
    if type(full) is not type(part):
        return
    if isinstance(full, Mapping):
        for key in full:
            if key in part:
                yield from _row_pairs(full[key], part[key], batch, rows, size)
    elif isinstance(full, (list, tuple)):
        for one, other in zip(full, part, strict=False):
            yield from _row_pairs(one, other, batch, rows, size)
    elif hasattr(full, "__dict__") and not isinstance(full, nn.Module) and not callable(full):
        yield from _row_pairs(vars(full), vars(part), batch, rows, size)


def own_state(model: nn.Module) -> dict[tuple[str, str, str], Any]:
    """Copy every parameter, buffer and plain attribute of a model, by module, name and place.

    Examples
    --------
    >>> sorted({name for _, name, _ in own_state(nn.BatchNorm1d(2))} - {"weight", "bias"})[-2:]
    ['running_var', 'track_running_stats']
    """
    state: dict[tuple[str, str, str], Any] = {}
    for module_name, module in model.named_modules():
        held = {**module._parameters, **module._buffers, **attributes(module)}
        for name, value in held.items():
            for path, leaf in leaves(value):
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
    return {name: value for name, value in vars(module).items() if name not in INTERNAL}


@contextmanager
def randomness_kept() -> Iterator[None]:
    """Put the random states of torch, numpy and Python back afterwards.

    Examples
    --------
    >>> before = torch.get_rng_state()
    >>> with randomness_kept():
    ...     _ = torch.rand(3)
    >>> torch.equal(before, torch.get_rng_state())
    True
    """
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def seed_everything(seed: int) -> None:
    """Seed torch, numpy and Python.

    Examples
    --------
    >>> with randomness_kept():
    ...     seed_everything(0)
    """
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def _random_state() -> tuple[Any, ...]:
    return torch.get_rng_state(), random.getstate(), str(np.random.get_state())


@dataclass
class Call:
    """One call of a module in a traced run."""

    name: str
    kind: str
    registered: bool
    parent: int | None
    inputs: Any = None
    outputs: Any = None
    modes_before: tuple[bool, ...] = ()
    modes_after: tuple[bool, ...] = ()
    ended: int = 0


@dataclass
class Run:
    """What one forward pass gave, and what was seen while it ran.

    Attributes
    ----------
    output
        A copy of what the model returned.
    drew
        Whether it drew a random number from a global generator.
    switched
        Names of modules whose forward ran a submodule in train mode that had been put in eval.
    left_switched
        Whether some module was in another mode afterwards than before.
    received
        Mean and variance of each channel that reached a layer with running statistics, and the
        number of values behind them: one entry for each call.
    calls
        Every call of a module, if it was traced.
    """

    output: Any = None
    drew: bool = False
    switched: list[str] = field(default_factory=list)
    left_switched: bool = False
    received: dict[str, list[tuple[int, Tensor, Tensor]]] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)

    def as_ended(self) -> list[Call]:
        """The calls in the order in which they ended: a child before its parent."""
        return sorted(self.calls, key=lambda call: call.ended)


class Subject:
    """A model under examination: runs start from the state in which it was given.

    Runs happen on copies. Where a copy would call back into the original (a lambda that holds
    the model), or cannot be made, they happen on the model itself, and its tensors, modes and
    attributes are put back after each. Use it in a ``with`` block.

    Parameters
    ----------
    model
        Any module.
    args, kwargs
        What to call it with.

    Examples
    --------
    >>> with Subject(nn.Dropout(), (torch.ones(4),)) as subject:
    ...     difference(subject.run(training=False, seed=0).output, torch.ones(4))
    0.0
    """

    def __init__(
        self, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None
    ) -> None:
        self.model, self.args, self.kwargs = model, args, dict(kwargs or {})
        self.in_place = _calls_back(model)
        self._original = {id(module) for module in model.modules()}
        self._saved: dict[int, _Saved] = {}
        self._clean: nn.Module | None = None

    def __enter__(self) -> Subject:
        return self

    def __exit__(self, *_: object) -> None:
        self._put_back()

    def _put_back(self) -> None:
        for saved in self._saved.values():
            saved.put_back()

    def fresh(self) -> nn.Module:
        """The model in the state in which it was given; a copy where that is possible."""
        self._put_back()
        if not self.in_place:
            try:
                return _copy(self.model)
            except Exception:
                self.in_place = True
        if id(self.model) not in self._saved:
            self._saved[id(self.model)] = _Saved(self.model)
        return self.model

    def run(
        self,
        *,
        training: bool,
        seed: int,
        model: nn.Module | None = None,
        inputs: tuple[tuple[Any, ...], dict[str, Any]] | None = None,
        grad: str = "no_grad",
        trace: bool = False,
        measure: bool = False,
        held: Mapping[int, Any] | None = None,
    ) -> Run:
        """Run the model once, from its first state unless a model in another one is given.

        Parameters
        ----------
        training
            Which mode to ask for, by ``train(training)`` or ``eval()``.
        seed
            For every global generator.
        model
            A model from :meth:`fresh` to go on with.
        inputs
            Positional and keyword arguments, where not those of the subject.
        grad
            ``"no_grad"``, ``"grad"`` or ``"inference"``.
        trace, measure
            Whether to keep every call, or what reaches layers with running statistics.
        held
            Outputs that some calls shall give, by the number of the call in a traced run.
        """
        if model is None:
            model = self.fresh()
            put_in_mode(model, training)
        args, kwargs = inputs or (self.args, self.kwargs)
        args = map_tensors(args, _own)
        kwargs = map_tensors(kwargs, _own)
        run = Run()
        watch = _Watch(self, model, run, trace=trace, measure=measure, held=held or {})
        contexts: dict[str, Any] = {
            "no_grad": torch.no_grad,
            "grad": torch.enable_grad,
            "inference": torch.inference_mode,
        }
        seed_everything(seed)
        before = _random_state()
        modes = [module.training for module in model.modules()]
        with contexts[grad](), watch:
            output = model(*args, **kwargs)
        after = _random_state()
        run.left_switched = modes != [module.training for module in model.modules()][: len(modes)]
        run.drew = not torch.equal(before[0], after[0]) or before[1:] != after[1:]
        if watch.called_original and not self.in_place:
            # The copy is not whole: begin again on the model itself.
            self.in_place = True
            return self.run(
                training=training,
                seed=seed,
                inputs=inputs,
                grad=grad,
                trace=trace,
                measure=measure,
                held=held,
            )
        with torch.no_grad():
            run.output = _kept(output)
        return run

    def guard(self, module: nn.Module) -> None:
        """Keep the state of a module that does not belong to the copy, to put it back."""
        if any(tensor.is_inference() for tensor in _tensors_of(module)):
            return  # made in this very run
        if not any(id(module) in saved.holds for saved in self._saved.values()):
            self._saved[id(module)] = _Saved(module)


def submodule(model: nn.Module, name: str) -> nn.Module:
    """Find a module by its qualified name; ``get_submodule`` is missing from scripted modules."""
    return dict(model.named_modules())[name]


def put_in_mode(model: nn.Module, training: bool) -> None:
    """Call ``train()`` or ``eval()``; where that raises an error, set the flags.

    Examples
    --------
    >>> net = nn.Dropout()
    >>> put_in_mode(net, False)
    >>> net.training
    False
    """
    try:
        model.train() if training else model.eval()
    except Exception:
        for module in model.modules():
            module.training = training


def _own(tensor: Tensor) -> Tensor:
    """A copy of an input that a model may change in place."""
    if tensor.is_leaf and tensor.requires_grad:
        return tensor.detach().clone().requires_grad_()
    return tensor.detach().clone()


def _copy(model: nn.Module) -> nn.Module:
    """``copy.deepcopy`` that also copes with tensors that are the result of a computation."""
    memo: dict[int, Any] = {}
    for module in model.modules():
        for value in attributes(module).values():
            for _, leaf in leaves(value):
                if isinstance(leaf, Tensor) and leaf.grad_fn is not None:
                    memo[id(leaf)] = leaf.detach().clone()
    return copy.deepcopy(model, memo)


def _calls_back(model: nn.Module) -> bool:
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


class _Saved:
    """The tensors, modes and attributes of a module and all inside it, to be put back."""

    def __init__(self, root: nn.Module) -> None:
        self._tensors = [(t, t.detach().clone()) for t in _tensors_of(root)]
        self._gradients = [(parameter, parameter.grad) for parameter in root.parameters()]
        self._modules = [
            (
                module,
                module.training,
                attributes(module),
                dict(module._parameters),
                dict(module._buffers),
            )
            for module in root.modules()
        ]
        values = [value for module in root.modules() for value in vars(module).values()]
        self._contents = [(value, _contents(value)) for value in _reachable(values)]
        self.holds = {id(module) for module, *_ in self._modules}

    def put_back(self) -> None:
        with torch.no_grad():
            for tensor, value in self._tensors:
                if not torch.equal(tensor, value):
                    tensor.copy_(value)
        for parameter, gradient in self._gradients:
            parameter.grad = gradient
        for value, contents in self._contents:
            _refill(value, contents)
        for module, training, values, parameters, buffers in self._modules:
            if module.training != training:
                module.training = training
            for name in attributes(module).keys() - values.keys():
                del vars(module)[name]
            vars(module).update(values)
            held: list[tuple[dict[str, Any], dict[str, Any]]] = [
                (module._parameters, parameters),
                (module._buffers, buffers),
            ]
            for now, then in held:
                if now.keys() != then.keys() or any(now[key] is not then[key] for key in then):
                    now.clear()
                    now.update(then)


def _tensors_of(root: nn.Module) -> list[Tensor]:
    found = [*root.parameters(), *root.buffers()]
    for module in root.modules():
        for value in attributes(module).values():
            found += [leaf for _, leaf in leaves(value) if isinstance(leaf, Tensor)]
    return [t for t in found if not t.is_meta and not nn.parameter.is_lazy(t)]


def _contents(value: Any) -> Any:
    """What a mutable container holds, or the state of a generator."""
    if isinstance(value, MutableSequence):
        return list(value)
    if isinstance(value, MutableMapping):
        return dict(value)
    if isinstance(value, set):
        return set(value)
    if isinstance(value, GENERATORS):
        return _state_of(value)
    if isinstance(value, np.ndarray):
        return value.copy()
    return dict(vars(value)) if hasattr(value, "__dict__") and not callable(value) else None


def _refill(value: Any, contents: Any) -> None:
    if isinstance(value, MutableSequence):
        value.clear()
        value.extend(contents)
    elif isinstance(value, (MutableMapping, set)):
        value.clear()
        value.update(contents)
    elif isinstance(value, GENERATORS):
        _set_state(value, contents)
    elif isinstance(value, np.ndarray):
        value[...] = contents
    elif contents is not None and vars(value) != contents:
        vars(value).clear()
        vars(value).update(contents)


class _Watch:
    """Global hooks for the time of one run."""

    def __init__(
        self,
        subject: Subject,
        model: nn.Module,
        run: Run,
        *,
        trace: bool,
        measure: bool,
        held: Mapping[int, Any],
    ) -> None:
        self._subject, self._run, self._held = subject, run, held
        self._trace, self._measure = trace, measure
        self._modules = list(model.modules())
        self._names = {id(module): name for name, module in model.named_modules()}
        self._modes = {id(module): module.training for module in self._modules}
        self._stack: list[tuple[nn.Module, int | None, bool]] = []
        self._ended = 0
        self.called_original = False

    def __enter__(self) -> None:
        self._handles = [
            torch_module.register_module_forward_pre_hook(self._begin),
            torch_module.register_module_forward_hook(
                self._end, with_kwargs=True, always_call=True
            ),
        ]

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
            # PyTorch's handle forgets this one, and torch.compile then warns of global hooks.
            torch_module._global_forward_hooks_with_kwargs.pop(handle.id, None)

    def _owner(self) -> tuple[str, bool]:
        """The innermost registered module that is running, and whether it came in another mode."""
        for module, _, switched in reversed(self._stack):
            if id(module) in self._names:
                return self._names[id(module)], switched
        return "", False

    def _begin(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        key = id(module)
        registered = key in self._names
        switched = registered and self._modes[key] != module.training
        if not registered:
            if key in self._subject._original:
                self.called_original = True
            self._subject.guard(module)
        elif switched and module.training and self._stack:
            owner, already = self._owner()
            if not already and owner not in self._run.switched:
                self._run.switched.append(owner)
        if self._measure:
            self._note_received(module, args)
        index = None
        if self._trace:
            index = len(self._run.calls)
            name = self._names[key] if registered else self._owner()[0]
            parent = self._stack[-1][1] if self._stack else None
            call = Call(name, type(module).__name__, registered, parent)
            call.inputs = _kept(args)
            call.modes_before = self._flags()
            self._run.calls.append(call)
        self._stack.append((module, index, switched))

    def _end(self, module: nn.Module, args: Any, *rest: Any) -> Any:
        # After an error PyTorch leaves the keyword arguments out.
        kwargs, output = rest if len(rest) == 2 else ({}, None)
        while self._stack:
            top, index, _ = self._stack.pop()
            if top is module:
                break
        else:
            return None
        if index is None:
            return None
        if index in self._held:
            output = _kept(self._held[index])
        call = self._run.calls[index]
        call.inputs = (call.inputs, _kept(kwargs))
        call.outputs = _kept(output)
        call.modes_after = self._flags()
        self._ended += 1
        call.ended = self._ended
        return output if index in self._held else None

    def _flags(self) -> tuple[bool, ...]:
        return tuple(module.training for module in self._modules)

    def _note_received(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        mean = getattr(module, "running_mean", None)
        if not isinstance(mean, Tensor) or not args or not isinstance(args[0], Tensor):
            return
        values = args[0].detach()
        if not values.is_floating_point() or values.dim() < 2 or len(mean) != values.shape[1]:
            return
        dims = [d for d in range(values.dim()) if d != 1]
        count = values.numel() // max(values.shape[1], 1)
        if count < 2:
            return
        with torch.no_grad():
            variance, average = torch.var_mean(values.float(), dims, correction=0)
        name = self._names.get(id(module), self._owner()[0])
        self._run.received.setdefault(name, []).append((count, average, variance))


def _kept(value: Any) -> Any:
    return map_tensors(value, lambda t: t.detach().clone())


def blame(one: Run, other: Run, differ: Callable[[Any, Any], bool]) -> list[Call]:
    """Find the innermost calls that made two runs part ways.

    Parameters
    ----------
    one, other
        Two traced runs.
    differ
        Says whether two inputs, or two outputs, differ by more than they should.

    Returns
    -------
    list of Call
        Calls with the same inputs and different outputs, none of which contains another.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    >>> with Subject(net, (torch.ones(1, 2),)) as subject, randomness_kept():
    ...     runs = [subject.run(training=True, seed=seed, trace=True) for seed in (3, 4)]
    >>> [call.name for call in blame(*runs, lambda a, b: difference(a, b) > 0)]
    ['1']
    """
    suspects: set[int] = set()
    for index, (a, b) in enumerate(zip(one.calls, other.calls, strict=False)):
        if (a.name, a.kind) != (b.name, b.kind):
            break
        if not differ(a.inputs, b.inputs) and differ(a.outputs, b.outputs):
            suspects.add(index)
    outer: set[int] = set()
    for index in suspects:
        parent = one.calls[index].parent
        while parent is not None:
            outer.add(parent)
            parent = one.calls[parent].parent
    return [one.calls[index] for index in sorted(suspects - outer)]


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep random states and quiet warnings, and leave global switches as they were.

    Examples
    --------
    >>> with undisturbed():
    ...     _ = torch.rand(1)
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    grad, dtype = torch.is_grad_enabled(), torch.get_default_dtype()
    with randomness_kept(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
            torch.set_grad_enabled(grad)
            torch.set_default_dtype(dtype)
