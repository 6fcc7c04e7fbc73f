"""One run of a model, traced: every call, what it took and gave, and which of them to blame."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

from .nested import map_tensors
from .snapshot import attributes
from .torch_internals import (
    forget_forward_hook,
    has_wrapped_tensors,
    own_buffers,
    own_parameters,
    storage,
)


class Owner(Protocol):
    """Whoever runs the model, and puts back what others than its copy have lost."""

    def is_original(self, module: nn.Module) -> bool: ...

    def protect(self, module: nn.Module) -> None: ...


@dataclass
class Call:
    """One call of a module in a traced run."""

    name: str
    class_name: str
    registered: bool
    parent: int | None
    inputs: Any = None
    outputs: Any = None
    modes_before: tuple[bool, ...] = ()
    modes_after: tuple[bool, ...] = ()
    ended: int = 0
    weights: tuple[float, ...] = ()


@dataclass
class RunRecord:
    """What one forward pass gave, and what was seen while it ran.

    Attributes
    ----------
    output
        A copy of what the model returned.
    used_randomness
        Whether it drew a random number from a global generator.
    switched_children
        Names of modules whose forward ran a submodule in train mode that had been put in eval.
    modes_changed
        Whether some module was in another mode afterwards than before.
    changed_its_input
        Whether the inputs were others afterwards, if that was measured.
    norm_inputs
        Mean and variance of each channel that reached a layer with running statistics, and the
        number of values behind them: one entry for each call.
    calls
        Every call of a module, if it was traced.
    """

    output: Any = None
    used_randomness: bool = False
    switched_children: list[str] = field(default_factory=list)
    modes_changed: bool = False
    changed_its_input: bool = False
    norm_inputs: dict[str, list[tuple[int, Tensor, Tensor]]] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)

    def as_ended(self) -> list[Call]:
        """The calls in the order in which they ended: a child before its parent."""
        return sorted(self.calls, key=lambda call: call.ended)


class RunTracer:
    """Global hooks for the time of one run."""

    def __init__(
        self,
        owner: Owner,
        model: nn.Module,
        run: RunRecord,
        *,
        trace: bool,
        measure: bool,
        forced_outputs: Mapping[int, Any],
    ) -> None:
        self._owner_of_runs, self._run, self._forced_outputs = owner, run, forced_outputs
        self._trace, self._measure = trace, measure
        named = list(model.named_modules())
        self._modules = [module for _, module in named]
        self._names = {id(module): name for name, module in named}
        self._modes = {id(module): module.training for module in self._modules}
        self._stack: list[tuple[nn.Module, int | None, bool]] = []
        self._ended = 0
        self.called_original = False

    def __enter__(self) -> None:
        self._handles = [
            register_module_forward_pre_hook(self._begin),
            register_module_forward_hook(self._end, with_kwargs=True, always_call=True),
        ]

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            forget_forward_hook(handle)

    def _owner(self) -> tuple[str, bool]:
        """The innermost registered module that is running, and whether it came in another mode."""
        for module, _, came_switched in reversed(self._stack):
            if id(module) in self._names:
                return self._names[id(module)], came_switched
        return "", False

    def _begin(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if has_wrapped_tensors():  # under torch.func, tensors are not what they seem
            self._stack.append((module, None, False))
            return
        key = id(module)
        registered = key in self._names
        came_switched = registered and self._modes[key] != module.training
        if not registered:
            if self._owner_of_runs.is_original(module):
                self.called_original = True
            self._owner_of_runs.protect(module)
        elif came_switched and module.training and self._stack:
            owner, already = self._owner()
            if not already and owner not in self._run.switched_children:
                self._run.switched_children.append(owner)
        if self._measure:
            self._note_received(module, args)
        index = None
        if self._trace:
            index = len(self._run.calls)
            name = self._names[key] if registered else self._owner()[0]
            parent = self._stack[-1][1] if self._stack else None
            call = Call(name, type(module).__name__, registered, parent)
            call.inputs = detached_copy(args)
            call.modes_before = self._flags()
            call.weights = _fingerprint(module)
            self._run.calls.append(call)
        self._stack.append((module, index, came_switched))

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
        if index in self._forced_outputs:
            output = detached_copy(self._forced_outputs[index])
        call = self._run.calls[index]
        call.inputs = (call.inputs, detached_copy(kwargs))
        call.outputs = detached_copy(output)
        call.modes_after = self._flags()
        self._ended += 1
        call.ended = self._ended
        return output if index in self._forced_outputs else None

    def modes_changed(self) -> bool:
        """Whether some module is in another mode than at the beginning."""
        return any(module.training != self._modes[id(module)] for module in self._modules)

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
        self._run.norm_inputs.setdefault(name, []).append((count, average, variance))


def detached_copy(value: Any) -> Any:
    return map_tensors(value, lambda t: t.detach().clone())


def _fingerprint(module: nn.Module) -> tuple[float, ...]:
    """The sums of the tensors that a module holds itself: enough to see that they are others."""
    held: list[Any] = [*own_parameters(module).values(), *own_buffers(module).values()]
    held += [value for value in attributes(module).values() if isinstance(value, Tensor)]
    with torch.no_grad():
        return tuple(
            float(tensor.double().sum())
            for tensor in held
            if storage(tensor) is not None and not tensor.is_meta and not tensor.is_complex()
        )


def blame(
    one: RunRecord,
    other: RunRecord,
    differ: Callable[[Any, Any], bool],
    *,
    weights_count: bool = True,
) -> list[Call]:
    """Find the innermost calls that made two runs part ways.

    Parameters
    ----------
    one, other
        Two traced runs.
    differ
        Says whether two inputs, or two outputs, differ by more than they should.
    weights_count
        Whether a call whose weights differ is excused: somebody else wrote them.

    Returns
    -------
    list of Call
        Calls with the same inputs and different outputs, none of which contains another.

    Examples
    --------
    >>> from utils.nested import relative_gap
    >>> from utils.random_state import randomness_kept
    >>> from utils.rerun import RerunModel
    >>> net = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    >>> with RerunModel(net, (torch.ones(1, 2),)) as rerun, randomness_kept():
    ...     runs = [rerun.run(training=True, seed=seed, trace=True) for seed in (3, 4)]
    >>> [call.name for call in blame(*runs, lambda a, b: relative_gap(a, b) > 0)]
    ['1']
    """
    suspects: set[int] = set()
    for index, (a, b) in enumerate(zip(one.calls, other.calls, strict=False)):
        if (a.name, a.class_name) != (b.name, b.class_name):
            break
        if weights_count and a.weights != b.weights:
            continue
        if not differ(a.inputs, b.inputs) and differ(a.outputs, b.outputs):
            suspects.add(index)
    outer: set[int] = set()
    for index in suspects:
        parent = one.calls[index].parent
        while parent is not None:
            outer.add(parent)
            parent = one.calls[parent].parent
    return [one.calls[index] for index in sorted(suspects - outer)]
