"""A model run again and again from one state, and what is seen while it runs."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

from .nested import map_tensors
from .random_state import global_random_state, randomness_kept, seed_everything
from .snapshot import Snapshot, attributes, calls_back, copy_model, tensors_of
from .torch_internals import (
    forget_forward_hook,
    is_traced,
    own_buffers,
    own_parameters,
    storage,
)

MAX_YIELDED = 1000
"""How many values of a forward that yields are asked for."""


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
    used_randomness: bool = False
    switched_children: list[str] = field(default_factory=list)
    modes_changed: bool = False
    norm_inputs: dict[str, list[tuple[int, Tensor, Tensor]]] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)

    def as_ended(self) -> list[Call]:
        """The calls in the order in which they ended: a child before its parent."""
        return sorted(self.calls, key=lambda call: call.ended)


class RerunModel:
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
    >>> from utils.nested import relative_gap
    >>> with RerunModel(nn.Dropout(), (torch.ones(4),)) as rerun:
    ...     relative_gap(rerun.run(training=False, seed=0).output, torch.ones(4))
    0.0
    """

    def __init__(
        self, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None
    ) -> None:
        self.model, self.args, self.kwargs = model, args, dict(kwargs or {})
        self.in_place = calls_back(model)
        self._original = {id(module) for module in model.modules()}
        self._saved: dict[int, Snapshot] = {}
        self._copy: nn.Module | None = None

    def __enter__(self) -> RerunModel:
        return self

    def __exit__(self, *_: object) -> None:
        self._put_back()

    def _put_back(self) -> None:
        for saved in self._saved.values():
            saved.put_back()

    def pristine_copy(self) -> nn.Module:
        """The model in the state in which it was given; a copy where that is possible.

        There is one copy: to ask for it again puts it back into that state.
        """
        self._put_back()
        if not self.in_place and self._copy is None:
            self._copy = self.own_copy()
            self.in_place = self._copy is None
            if self._copy is not None:
                self._saved[id(self._copy)] = Snapshot(self._copy, like=self.model)
        model = self.model if self.in_place or self._copy is None else self._copy
        if id(model) not in self._saved:
            self._saved[id(model)] = Snapshot(model)
        return model

    def unchanged(self) -> set[int]:
        """Ids of the tensors that are as they were in the state that was given."""
        return {kept for saved in self._saved.values() for kept in saved.unchanged()}

    def own_copy(self) -> nn.Module | None:
        """A copy to do with what one likes; None where none can be made."""
        if self.in_place:
            return None
        try:
            return copy_model(self.model)
        except Exception:
            return None

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
        forced_outputs: Mapping[int, Any] | None = None,
    ) -> RunRecord:
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
            Positional and keyword arguments, where not those that were given.
        grad
            ``"no_grad"``, ``"grad"`` or ``"inference"``.
        trace, measure
            Whether to keep every call, or what reaches layers with running statistics.
        held
            Outputs that some calls shall give, by the number of the call in a traced run.
        """
        if model is None:
            model = self.pristine_copy()
            put_in_mode(model, training)
        args, kwargs = inputs or (self.args, self.kwargs)
        args = map_tensors(args, _private_copy)
        kwargs = map_tensors(kwargs, _private_copy)
        run = RunRecord()
        watch = _RunTracer(
            self, model, run, trace=trace, measure=measure, forced_outputs=forced_outputs or {}
        )
        contexts: dict[str, Any] = {
            "no_grad": torch.no_grad,
            "grad": torch.enable_grad,
            "inference": torch.inference_mode,
        }
        seed_everything(seed)
        before = global_random_state()
        with contexts[grad](), watch:
            output = model(*args, **kwargs)
            if isinstance(output, Iterator):  # a forward that yields has not run yet
                output = list(itertools.islice(output, MAX_YIELDED))
        after = global_random_state()
        run.modes_changed = watch.modes_changed()
        run.used_randomness = not torch.equal(before[0], after[0]) or before[1:] != after[1:]
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
                forced_outputs=forced_outputs,
            )
        with torch.no_grad():
            run.output = _detached_copy(output)
        return run

    def protect(self, module: nn.Module) -> None:
        """Keep the state of a module that does not belong to the copy, to put it back."""
        if any(tensor.is_inference() for tensor in tensors_of(module)):
            return  # made in this very run
        if not any(id(module) in saved.holds for saved in self._saved.values()):
            self._saved[id(module)] = Snapshot(module)


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


def _private_copy(tensor: Tensor) -> Tensor:
    """A copy of an input that a model may change in place."""
    if tensor.is_leaf and tensor.requires_grad:
        return tensor.detach().clone().requires_grad_()
    return tensor.detach().clone()


class _RunTracer:
    """Global hooks for the time of one run."""

    def __init__(
        self,
        rerun: RerunModel,
        model: nn.Module,
        run: RunRecord,
        *,
        trace: bool,
        measure: bool,
        forced_outputs: Mapping[int, Any],
    ) -> None:
        self._rerun, self._run, self._forced_outputs = rerun, run, forced_outputs
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
        for module, _, switched_children in reversed(self._stack):
            if id(module) in self._names:
                return self._names[id(module)], switched_children
        return "", False

    def _begin(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if is_traced():  # under torch.func, tensors are not what they seem
            self._stack.append((module, None, False))
            return
        key = id(module)
        registered = key in self._names
        switched_children = registered and self._modes[key] != module.training
        if not registered:
            if key in self._rerun._original:
                self.called_original = True
            self._rerun.protect(module)
        elif switched_children and module.training and self._stack:
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
            call.inputs = _detached_copy(args)
            call.modes_before = self._flags()
            call.weights = _fingerprint(module)
            self._run.calls.append(call)
        self._stack.append((module, index, switched_children))

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
            output = _detached_copy(self._forced_outputs[index])
        call = self._run.calls[index]
        call.inputs = (call.inputs, _detached_copy(kwargs))
        call.outputs = _detached_copy(output)
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


def _detached_copy(value: Any) -> Any:
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
