"""A model run again and again from one state, and what is seen while it runs."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .nested import map_tensors, relative_gap
from .outside import OutsideState
from .random_state import global_random_state, randomness_kept, seed_everything
from .snapshot import Snapshot, calls_back, copy_model, tensors_of
from .tracing import RunRecord, RunTracer, detached_copy

MAX_YIELDED = 1000
"""How many values of a forward that yields are asked for."""


class RerunModel:
    """A model under examination: runs start from the state in which it was given.

    Runs happen on copies. Where a copy would call back into the original (a lambda that holds
    the model), or cannot be made, they happen on the model itself, and its tensors, modes and
    attributes are put back after each. So is what its code keeps outside of it. Use it in a
    ``with`` block.

    Parameters
    ----------
    model
        Any module.
    args, kwargs
        What to call it with.

    Attributes
    ----------
    outside
        What the model's code keeps outside of it.
    usual_grad
        The gradient mode of a run: ``"no_grad"``, unless the model takes gradients itself.

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
        self.outside = OutsideState(model)
        self.usual_grad = "no_grad"
        self._original = {id(module) for module in model.modules()}
        self._saved: dict[int, Snapshot] = {}
        self._copy: nn.Module | None = None

    def __enter__(self) -> RerunModel:
        return self

    def __exit__(self, *_: object) -> None:
        self._put_back()

    def _put_back(self) -> None:
        self.outside.put_back()
        # The first that was kept has the last word.
        for saved in reversed(self._saved.values()):
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
        self.outside.put_back()  # it is shared with every copy
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
        grad: str | None = None,
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
            A model from :meth:`pristine_copy` to go on with.
        inputs
            Positional and keyword arguments, where not those that were given.
        grad
            ``"no_grad"``, ``"grad"`` or ``"inference"``; ``usual_grad`` if None.
        trace, measure
            Whether to keep every call, or what reaches layers with running statistics.
        forced_outputs
            Outputs that some calls shall give, by the number of the call in a traced run.
        """
        if model is None:
            model = self.pristine_copy()
            put_in_mode(model, training)
        args, kwargs = inputs or (self.args, self.kwargs)
        args = map_tensors(args, _private_copy)
        kwargs = map_tensors(kwargs, _private_copy)
        run = RunRecord()
        watch = RunTracer(
            self, model, run, trace=trace, measure=measure, forced_outputs=forced_outputs or {}
        )
        contexts: dict[str, Any] = {
            "no_grad": torch.no_grad,
            "grad": torch.enable_grad,
            "inference": torch.inference_mode,
        }
        seed_everything(seed)
        before = global_random_state()
        with contexts[grad or self.usual_grad](), watch:
            output = model(*args, **kwargs)
            if isinstance(output, Iterator):  # a forward that yields has not run yet
                output = list(itertools.islice(output, MAX_YIELDED))
        after = global_random_state()
        run.modes_changed = watch.modes_changed()
        given = inputs or (self.args, self.kwargs)
        run.changed_its_input = measure and relative_gap((args, kwargs), given) > 0
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
            run.output = detached_copy(output)
        return run

    def is_original(self, module: nn.Module) -> bool:
        """Whether a module belongs to the model itself, and not to a copy."""
        return id(module) in self._original

    def protect(self, module: nn.Module) -> None:
        """Keep the state of a module that does not belong to the copy, to put it back."""
        tensors = tensors_of(module)
        if any(tensor.is_inference() for tensor in tensors):
            return  # made in this very run
        saved = self._saved.values()
        if any(id(module) in snapshot.holds for snapshot in saved):
            return
        kept = {id(tensor) for snapshot in saved for tensor in snapshot.tensors()}
        if tensors and all(id(tensor) in kept for tensor in tensors):
            return  # a new container around parts of the model
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
