"""Is a model right in eval mode? Decided by running it.

In a shell, with a function that makes the model and the shape of an input::

    python -m utils.audit mypackage.models:make_model --input 8,3,32,32

In a test suite, in one line::

    audit(model, inputs).raise_for_findings()
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import itertools
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from utils.findings import Finding, Report, first_few
from utils.modes import check_module, listens
from utils.trials import (
    GENERATORS,
    Call,
    Run,
    Subject,
    attributes,
    batch_size,
    blame,
    difference,
    leaves,
    map_tensors,
    own_state,
    put_in_mode,
    rows_apart,
    seed_everything,
    select_rows,
    undisturbed,
)

FLAG = re.compile("train|eval|infer|phase|mode|test|determin|sampl|stoch", re.IGNORECASE)
"""Names of attributes that may stand for the mode."""
FORMAL = 40
"""Seeds that are tried on a model that draws random numbers in eval mode."""
FAR = 3.0
"""A mean that is further from the running mean, in standard deviations, is far off."""
RATIO = 10.0
"""A variance that is so many times the running variance, or its inverse, is far off."""

INDICES = (torch.int64, torch.int32, torch.int16, torch.uint8, torch.int8)
ROOT = Call("", "", True, None)
"""Stands for the whole model where no call inside it can be blamed."""

CURES = {
    "random-in-eval": "pass training=self.training (or multiply the rate by it), or use a "
    "registered nn.Dropout; sample in train mode only",
    "depends-on-batch": "use running statistics in eval mode (track_running_stats=True), or "
    "normalise each sample by itself (layer or group norm)",
    "moves-in-eval": "update it only where self.training is true",
    "depends-on-history": "keep nothing between calls that changes an answer; pass state in and "
    "return it",
    "mode-from-elsewhere": "ask self.training, the one flag that train() and eval() set",
    "switches-mode": "leave modes alone in forward; set them outside, once",
    "non-finite-output": "look at this module's inputs and weights: a division by zero, a log of "
    "zero, an overflow, or a running variance that is not finite",
}


@dataclass(frozen=True)
class ModelFinding(Finding):
    """A finding about one module of a model.

    Attributes
    ----------
    module
        Qualified name of the module to blame, the innermost that can be; ``""`` for the root.
    kind, evidence, cure
        See :class:`utils.findings.Finding`.
    """

    module: str

    @property
    def place(self) -> str:
        """The qualified name, or ``(root)``."""
        return self.module or "(root)"


class Audit(Report):
    """What :func:`audit` found; prints as a table."""

    findings: list[ModelFinding]  # type: ignore[assignment]

    def __init__(self, model: nn.Module, findings: list[ModelFinding], notes: list[str]) -> None:
        self.findings, self.notes = findings, notes
        self._name = type(model).__name__

    def headline(self) -> str:
        """Name the model's class and the number of findings."""
        return f"audit of {self._name}: {self.tally()}"


def audit(model: nn.Module, inputs: Any, kwargs: Mapping[str, Any] | None = None) -> Audit:
    """Run a model in both modes and report what is wrong with the way it listens to them.

    Everything happens on copies. The model, its modes, buffers, gradients and hooks and every
    global random state are left as they were.

    Parameters
    ----------
    model
        Any module.
    inputs
        What to call it with: a tensor, or a tuple of positional arguments. Anything else, such
        as a dict or a list of images, is passed as one argument. Samples lie along the first
        dimension; two or more are needed to see whether they influence each other. Data like
        that of training lets running statistics be judged.
    kwargs
        Keyword arguments of the call.

    Returns
    -------
    Audit
        With ``findings``, each a :class:`ModelFinding`, and ``notes``.

    Raises
    ------
    TypeError
        If ``model`` is not a module.
    ValueError
        If the model has lazy parameters, lies on another device than the inputs, or fails on
        them in eval mode.

    References
    ----------
    https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html

    Examples
    --------
    >>> class Net(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.layer = nn.Linear(4, 4)
    ...     def forward(self, x):
    ...         return nn.functional.dropout(self.layer(x))
    >>> [(f.kind, f.module) for f in audit(Net(), torch.ones(8, 4)).findings]
    [('random-in-eval', '')]
    >>> audit(nn.Sequential(nn.Linear(4, 4), nn.Dropout()), torch.ones(8, 4)).findings
    []
    """
    check_module("model", model)
    model = getattr(model, "_orig_mod", model)
    args = inputs if type(inputs) is tuple else (inputs,)
    _check_ready(model, (args, dict(kwargs or {})))
    with undisturbed():
        torch.backends.mha.set_fastpath_enabled(False)
        with Subject(model, args, kwargs) as subject:
            examination = _Examination(subject)
            examination.examine()
    return Audit(model, examination.findings, examination.notes)


def _check_ready(model: nn.Module, inputs: Any) -> None:
    named = [*model.named_parameters(), *model.named_buffers()]
    lazy = [name for name, tensor in named if nn.parameter.is_lazy(tensor)]
    if lazy:
        raise ValueError(
            f"model has lazy parameters ({', '.join(lazy[:3])}); expected a model that has been "
            "run once, so that their shapes are known."
        )
    devices = {tensor.device for _, tensor in named}
    for path, leaf in leaves(inputs):
        if isinstance(leaf, Tensor) and devices and leaf.device not in devices:
            raise ValueError(
                f"inputs{path} is on {leaf.device}, the model on "
                f"{', '.join(sorted(map(str, devices)))}; expected them on one device."
            )
        if isinstance(leaf, Tensor) and leaf.is_meta:
            raise ValueError(f"inputs{path} is on meta; expected a tensor with values.")


class _Examination:
    """The detectors, in the order in which they run."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.findings: list[ModelFinding] = []
        self.notes: list[str] = []
        self.modules = dict(subject.model.named_modules())

    def examine(self) -> None:
        self.modes_now()
        self.switch_itself()
        self.base = self.first_run()
        self.finite()
        self.statistics()
        self.forward_that_switches()
        self.switch_again()
        random = self.randomness()
        self.state_and_history()
        self.gradient_mode()
        self.rows(random)
        order = {name: index for index, name in enumerate(self.modules)}
        self.findings.sort(key=lambda finding: order.get(finding.module, -1))

    def add(self, kind: str, module: str, evidence: str, cure: str = "") -> None:
        made = ModelFinding(kind, evidence, cure or CURES[kind], module)
        if not any((f.kind, f.module) == (kind, module) for f in self.findings):
            self.findings.append(made)

    def found(self, kind: str) -> set[str]:
        return {finding.module for finding in self.findings if finding.kind == kind}

    # -- modes, without a forward pass ------------------------------------------------------

    def modes_now(self) -> None:
        """Modes that are mixed now, and what the next ``train()`` would thaw."""
        model = self.subject.model
        odd = [
            (name, module)
            for name, module in self.modules.items()
            if module.training != model.training and listens(module)
        ]
        if not odd:
            return
        if not model.training:
            names = [name for name, _ in odd]
            self.add(
                "mixed-modes",
                _top(names),
                f"the model is in eval mode, {_list(names)} in train mode",
                "call eval() on the whole model before evaluating",
            )
            return
        copied = self.subject.fresh()
        put_in_mode(copied, True)
        thawed = [name for name, _ in odd if _named(copied, name).training]
        if thawed:
            self.add(
                "thaws-with-train",
                _top(thawed),
                f"{_list(thawed)} in eval mode in a model in train mode; the next train() puts "
                f"{'it' if len(thawed) == 1 else 'them'} back in train mode",
                "freeze with utils.modes.keep_in_eval, or override train() in the model",
            )

    def switch_itself(self) -> None:
        """Whether ``eval()`` and ``train()`` reach every submodule and return the module."""
        for training, call in ((False, "eval"), (True, "train")):
            missed = self._missed(training)
            if missed is None:
                continue
            if training:
                missed = [name for name in missed if not self._frozen_on_purpose(name)]
            for culprit, unreached in self._culprits(missed, training).items():
                what = "itself" if unreached == [culprit] else _list(unreached)
                wrong, right = ("train", "eval") if call == "eval" else ("eval", "train")
                self.add(
                    f"{call}-not-followed",
                    culprit,
                    f"after {call}() from {wrong} mode, {what} still in {wrong} mode",
                    f"in an override of {'train' if call == 'eval' else call}(), call "
                    f"super().train(mode) and return self, so that every child is put in "
                    f"{right} mode",
                )
        for name, call in self._overrides():
            module = _named(self.subject.fresh(), name)
            try:
                returned = getattr(module, call)()
            except Exception as error:
                self._cannot_switch(call, name, error)
                continue
            if returned is not module:
                self.add(
                    f"{call}-not-followed",
                    name,
                    f"{call}() does not return the module: model = model.{call}() loses it",
                    f"end the override of {call}() with: return self",
                )

    def switch_again(self) -> None:
        """Whether eval() is done when it is done: once more, or after train(), is the same."""
        overriding = [name for name, _ in self._overrides()]
        if not overriding or self.base.drew:
            return
        for calls in ((False, False), (False, True, False)):
            model = self.subject.fresh()
            for training in calls:
                put_in_mode(model, training)
            run = self._quietly(training=False, seed=1, model=model)
            apart = difference(self.base.output, run.output) if run else 0.0
            if apart > 0 and self.real(apart, lambda _: None):
                words = " then ".join("train()" if training else "eval()" for training in calls)
                self.add(
                    "eval-not-followed",
                    overriding[0],
                    f"after {words} the answer is off {_by(apart)} from that after one eval()",
                    "an override of train() that changes weights must do nothing where the mode "
                    "is already the one asked for",
                )
                return

    def _overrides(self) -> Iterator[tuple[str, str]]:
        """Modules with a ``train()`` or an ``eval()`` of their own, and which of the two."""
        for name, module in self.modules.items():
            for call in ("train", "eval"):
                own = getattr(type(module), call) is not getattr(nn.Module, call)
                scripted = isinstance(module, torch.jit.ScriptModule)
                if call in vars(module) or (own and not scripted):
                    yield name, call

    def _missed(self, training: bool) -> list[str] | None:
        """Names of the modules that the call leaves in the other mode, from where they can be."""
        call = "train" if training else "eval"
        try:
            model = self.subject.fresh()
            before = [module.training for module in model.modules()]
            model.eval() if training else model.train()
            for module, mode in zip(model.modules(), before, strict=True):
                if mode != training:
                    module.training = mode
            model.train() if training else model.eval()
        except Exception as error:
            self._cannot_switch(call, "", error)
            return None
        return [name for name, module in model.named_modules() if module.training != training]

    def _cannot_switch(self, call: str, name: str, error: Exception) -> None:
        if any(f.kind == f"{call}-not-followed" for f in self.findings):
            return
        self.add(
            f"{call}-not-followed",
            name,
            f"{call}() raises {type(error).__name__}: {_short(error)}",
            "an override is def train(self, mode=True), and eval() calls it with False",
        )

    def _culprits(self, missed: Sequence[str], training: bool) -> dict[str, list[str]]:
        """For each innermost module whose own call misses something: what it misses."""
        culprits: dict[str, list[str]] = {}
        for name in missed:
            chain = [name]
            while chain[-1]:
                chain.append(chain[-1].rpartition(".")[0])
            for ancestor in chain:
                model = self.subject.fresh()
                module, target = _named(model, ancestor), _named(model, name)
                for inside in module.modules():
                    inside.training = not training
                put_in_mode(module, training)
                if target.training != training:
                    culprits.setdefault(ancestor, []).append(name)
                    break
        return culprits

    def _frozen_on_purpose(self, name: str) -> bool:
        """A part that ``train()`` leaves in eval mode because someone wanted it so."""
        original = self.modules[name]
        if not any(listens(inside) for inside in original.modules()):
            return True
        parameters = list(original.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            return True
        if getattr(original, "running_mean", None) is not None:
            return True
        if name:
            model = self.subject.fresh()
            for inside in model.modules():
                inside.training = True
            put_in_mode(model, True)
            if not _named(model, name).training:
                return True
        module = _named(self.subject.fresh(), name)
        for inside in module.modules():
            inside.training = False
        put_in_mode(module, True)
        held = "train" in vars(module)
        by_itself = not module.training and (held or name != "")
        above = name.rpartition(".")[0]
        return by_itself or (name != "" and above != "" and self._frozen_on_purpose(above))

    # -- one forward pass ------------------------------------------------------------------

    def first_run(self) -> Run:
        model = self.subject.model
        try:
            return self.subject.run(training=False, seed=1, measure=True)
        except Exception as error:
            raise ValueError(
                f"inputs: {type(model).__name__} fails on them in eval mode with "
                f"{type(error).__name__}: {_short(error)}"
            ) from error

    def finite(self) -> None:
        """Outputs that are not finite, also by way of attention's inference path."""
        run = self.base
        if any("Transformer" in type(m).__name__ for m in self.subject.model.modules()):
            torch.backends.mha.set_fastpath_enabled(True)
            run = self.attempt("the inference path", training=False, seed=1) or run
            torch.backends.mha.set_fastpath_enabled(False)
        count = _bad_values(run.output)
        if not count or _bad_values((self.subject.args, self.subject.kwargs)):
            return
        traced = self.subject.run(training=False, seed=1, trace=True)
        guilty = next(
            (c for c in traced.as_ended() if not _finite(c.outputs) and _finite(c.inputs)),
            None,
        )
        name = guilty.name if guilty else ""
        self.add("non-finite-output", name, f"{count} values of the output are nan or infinite")

    def statistics(self) -> None:
        """Running statistics: finite, updated, and like what the layer receives."""
        model = self.subject.model
        layers = {
            name: module
            for name, module in self.modules.items()
            if isinstance(getattr(module, "running_mean", None), Tensor)
            and isinstance(getattr(module, "running_var", None), Tensor)
        }
        for name, buffer in model.named_buffers():
            owner, _, own = name.rpartition(".")
            running = own.startswith("running_")
            if not buffer.is_floating_point() or buffer.is_meta:
                continue
            bad = ~buffer.isfinite() if running else buffer.isnan()
            if own == "running_var":
                bad |= buffer < 0
            if bool(bad.any()):
                self.add(
                    "non-finite-statistics",
                    owner,
                    f"{int(bad.sum())} of {bad.numel()} values of {own} are nan, infinite or "
                    "a negative variance",
                    "find the batch that did it (an overflow, a nan in the data), reset the "
                    "statistics and estimate them again",
                )
        bad_layers = self.found("non-finite-statistics")
        received = {
            name: calls
            for name, calls in self.base.received.items()
            if name in layers and name not in bad_layers
        }
        untouched = {name for name in received if _untouched(layers[name])}
        new = untouched == set(received) and all(_unscaled(layers[n]) for n in received)
        far = {name: why for name in received if (why := _far(layers[name], received[name]))}
        lagging = [n for n in received if _rest(layers[n]) > 1e-3 and n not in untouched]
        if new:
            far = {}
        elif len(far) > 1 or (far and lagging):
            far = self._far_by_itself(layers, far, bool(lagging))
        for name, text in far.items():
            if name in untouched:
                self._never_updated(name, text)
            else:
                self.add(
                    "statistics-far-off",
                    name,
                    text,
                    "estimate them again in train mode on data like this "
                    "(utils.batch_norm.reestimate), or pass data prepared as in training",
                )
        if not new:
            for name in untouched - set(far):
                self._never_updated(name, "mean 0 and variance 1 as it was made")
        for name, calls in received.items():
            text = _unlike(calls, layers[name])
            if text:
                self.add(
                    "shared-by-unlike-inputs",
                    name,
                    text,
                    "give each stream its own normalisation; the weights of other layers can "
                    "stay shared",
                )
        if new and untouched:
            self.notes.append(
                "running statistics: no layer has been trained yet, none can be judged"
            )
        elif lagging:
            self.notes.append(
                f"running statistics: {len(lagging)} of {len(received)} layers have seen so few "
                "batches that their first values still count"
            )

    def _never_updated(self, name: str, text: str) -> None:
        self.add(
            "statistics-never-updated",
            name,
            f"its running statistics have never been updated: {text}",
            "train with the layer in train mode, load its buffers, or estimate them "
            "(utils.batch_norm.reestimate)",
        )

    def _far_by_itself(
        self, layers: Mapping[str, nn.Module], far: Mapping[str, str], lagging: bool
    ) -> dict[str, str]:
        """Leave out layers that are far off only because one before them is."""
        run = self.attempt("train mode", training=True, seed=1, measure=True)
        if run is not None:
            alone = {
                name: why
                for name in far
                if name in run.received and (why := _far(layers[name], run.received[name]))
            }
            if alone or lagging:
                return alone
        first = next(iter(far))
        return {first: far[first]}

    # -- several forward passes -------------------------------------------------------------

    def attempt(self, what: str, **kwargs: Any) -> Run | None:
        """A run that may fail: then it is noted, and what it would decide stays open."""
        try:
            return self.subject.run(**kwargs)
        except Exception as error:
            note = f"{what}: the model fails with {type(error).__name__}: {_short(error)}"
            if note not in self.notes:
                self.notes.append(note)
            return None

    def forward_that_switches(self) -> None:
        """A forward that leaves, or finds, submodules in another mode."""
        for name in self.base.switched:
            self.add(
                "switches-mode", name, "in eval mode, its forward runs a submodule in train mode"
            )
        for training in (False, True):
            run = self._quietly(training=True, seed=1) if training else self.base
            if run is None or not run.left_switched:
                continue
            traced = self._quietly(training=training, seed=1, trace=True)
            calls = traced.calls if traced else []
            changed = [i for i, c in enumerate(calls) if c.modes_before != c.modes_after]
            outer = {calls[i].parent for i in changed}
            for name in [calls[i].name for i in changed if i not in outer] or [""]:
                mode = "train" if training else "eval"
                self.add(
                    "switches-mode",
                    name,
                    f"a forward in {mode} mode leaves submodules in the other mode",
                )

    def _quietly(self, **kwargs: Any) -> Run | None:
        try:
            return self.subject.run(**kwargs)
        except Exception:
            return None

    def randomness(self) -> bool:
        """Two calls on one input, in eval mode, with different seeds."""
        seeds = range(2, FORMAL + 1) if self.base.drew else (2,)
        for seed in seeds:
            other = self.attempt("a second call", training=False, seed=seed)
            if other is None:
                return False
            apart = difference(self.base.output, other.output)
            if apart > 0 and self.real(apart, partial(_two_seeds, seed=seed)):
                calls = self.blamed({"seed": 1}, {"seed": seed}, lambda a, b: difference(a, b) > 0)
                check = partial(_two_seeds, seed=seed)
                for call in calls or [ROOT]:
                    self.report(
                        "random-in-eval", call, f"two calls on one input differ {_by(apart)}", check
                    )
                return True
        if self.base.drew:
            self.notes.append(
                f"random numbers: eval mode draws them, and {FORMAL} seeds gave one answer"
            )
        return False

    def state_and_history(self) -> None:
        """What one call leaves behind, and whether it changes a later answer."""
        model = self.subject.fresh()
        put_in_mode(model, False)
        states = []
        outputs: list[Any] = []
        other = _other_values((self.subject.args, self.subject.kwargs))
        states.append(own_state(model))
        for inputs in (other, None, None):
            if len(outputs) == 2 and self._left_alone(states, outputs[1]):
                return
            run = self._quietly(training=False, seed=1, model=model, inputs=inputs)
            if run is None and inputs is None:
                self.add("depends-on-history", "", "a later call on the same input raises an error")
                return
            outputs.append(run.output if run else None)
            states.append(own_state(model))
        before, after = states[2:]
        moved = [key for key in before if key in after and difference(before[key], after[key]) > 0]
        generators = set()
        for module_name, name, _ in moved:
            module = _named(model, module_name)
            if isinstance(vars(module).get(name), GENERATORS):
                generators.add(module_name)
                self.add(
                    "random-in-eval",
                    module_name,
                    f"each call in eval mode draws from its generator {name}",
                )
            elif name in module._buffers or name in module._parameters:
                kind = "buffer" if name in module._buffers else "parameter"
                self._moves(module_name, name, kind, before, after)
        apart = {
            "again": difference(outputs[1], outputs[2]),
            "after another input": difference(self.base.output, outputs[1]),
        }
        when = next((w for w, a in apart.items() if a > 0 and self.real(a, _history)), None)
        for key in moved:
            module_name, name, _ = key
            loose = isinstance(before[key], Tensor) and before[key].is_floating_point()
            if loose and module_name not in generators:
                self._moves(module_name, name, "attribute", before, after)
        if when and not (self.found("moves-in-eval") or generators):
            names = self._blame_history(after_other=when != "again")
            for name in names or [""]:
                self.add(
                    "depends-on-history",
                    name,
                    f"the same input {when} gives another answer, off {_by(apart[when])}",
                )
        elif moved and not when and not self.found("moves-in-eval") and not generators:
            self._moves_for_training(moved)
            self._counts_to_something(model, moved)

    def _left_alone(self, states: Sequence[Mapping[Any, Any]], output: Any) -> bool:
        """Whether two calls changed nothing, neither the model nor the answer."""
        first, *others = states
        return difference(self.base.output, output) == 0 and all(
            state.keys() == first.keys()
            and all(difference(first[key], state[key]) == 0 for key in first)
            for state in others
        )

    def _moves(self, module: str, name: str, kind: str, before: Any, after: Any) -> None:
        apart = max(
            difference(before[key], after[key])
            for key in before
            if key[:2] == (module, name) and key in after
        )
        if self.found("random-in-eval") & {module}:
            return
        self.add(
            "moves-in-eval", module, f"a call in eval mode changes the {kind} {name} {_by(apart)}"
        )

    def _moves_for_training(self, moved: Iterable[tuple[str, str, str]]) -> None:
        """Numbers that move in eval mode and change what train mode then answers."""
        first = self._quietly(training=True, seed=1)
        model = self.subject.fresh()
        put_in_mode(model, False)
        for _ in range(2):
            self._quietly(training=False, seed=1, model=model)
        put_in_mode(model, True)
        later = self._quietly(training=True, seed=1, model=model)
        if first is None or later is None or difference(first.output, later.output) == 0:
            return
        for module, name, _ in moved:
            self.add(
                "moves-in-eval",
                module,
                f"a call in eval mode changes the attribute {name}, which train mode uses",
            )

    def _counts_to_something(self, model: nn.Module, moved: Iterable[tuple[str, str, str]]) -> None:
        """Whether an answer changes after some more calls, where something counts them."""
        for _ in range(6):
            run = self._quietly(training=False, seed=1, model=model)
            apart = difference(self.base.output, run.output) if run else 0.0
            if apart > 0 and self.real(apart, lambda _: None):
                module, name, _ = next(iter(moved))
                self.add(
                    "depends-on-history",
                    module,
                    f"after some calls, counted in {name}, the answer is off {_by(apart)}",
                )
                return

    def _blame_history(self, *, after_other: bool) -> list[str]:
        first = self.subject.run(training=False, seed=1, trace=True)
        model = self.subject.fresh()
        put_in_mode(model, False)
        other = _other_values((self.subject.args, self.subject.kwargs)) if after_other else None
        self._quietly(training=False, seed=1, model=model, inputs=other)
        later = self.subject.run(training=False, seed=1, model=model, trace=True)
        calls = blame(first, later, lambda a, b: difference(a, b) > 1e-6)
        return list(dict.fromkeys(call.name for call in calls))

    def gradient_mode(self) -> None:
        """Whether eval mode answers alike with and without gradients."""
        for grad, words in (("grad", "with gradients on"), ("inference", "in inference mode")):
            run = self.attempt(f"eval mode {words}", training=False, seed=1, grad=grad)
            if run is None:
                continue
            apart = difference(self.base.output, run.output)
            if apart > 0 and self.real(apart, partial(_two_grad_modes, grad=grad)):
                calls = self.blamed({"seed": 1}, {"seed": 1, "grad": grad}, _beyond_rounding)
                for call in calls or [ROOT]:
                    self.add(
                        "mode-from-elsewhere",
                        call.name,
                        f"in eval mode, {words} the output differs from that under no_grad "
                        f"{_by(apart)}",
                    )

    def rows(self, random: bool) -> None:
        """Whether a sample's answer depends on the others in its batch, in eval mode."""
        given = (self.subject.args, self.subject.kwargs)
        size = batch_size(given)
        if size is None:
            self.notes.append("samples in a batch: the inputs have no dimension to hold them")
            return
        if size < 2:
            given = map_tensors(given, _doubled)
            size = batch_size(given)
            if size != 2 or self._quietly(training=False, seed=1, inputs=given) is None:
                self.notes.append("samples in a batch: give two or more to have them compared")
                return
        if _has_edges(given, size):
            self.notes.append("samples in a batch: rows are the nodes of a graph")
            return
        same = given[0] is self.subject.args
        trial = _RowTrial(given, size, 0)
        worst = trial.worst(
            self.subject, same_shapes_only=random, full=self.base.output if same else None
        )
        if worst is None:
            self.notes.append(
                "samples in a batch: the model does not take fewer of them, or its output has no "
                "row for each"
            )
            return
        apart, changed, text = worst
        if not self.real(apart, trial.again, sure=1e9) or self._samples_lie_along_one(
            given, random
        ):
            return
        calls = trial.blamed(self.subject, changed)
        for call in calls or [ROOT]:
            self.report(
                "depends-on-batch",
                call,
                f"a sample's answer changes {_by(apart)} {text}",
                trial.again,
            )

    def _samples_lie_along_one(self, given: Any, random: bool) -> bool:
        """Whether dimension 1 holds the samples, as in recurrent layers by default."""
        layers = list(self.subject.model.modules())
        first = next((t for _, t in leaves(given) if isinstance(t, Tensor) and t.dim() > 1), None)
        if first is None or first.shape[1] < 2:
            return False
        told = any(getattr(layer, "batch_first", None) is False for layer in layers)
        looks_so = first.dim() > 2 and any(
            isinstance(out, Tensor) and out.shape[:2] == first.shape[:2]
            for _, out in leaves(self.base.output)
        )
        norms = any(isinstance(layer, nn.modules.batchnorm._NormBase) for layer in layers)
        if not told and (norms or not looks_so):
            return False
        trial = _RowTrial(given, first.shape[1], 1)
        worst = trial.worst(self.subject, same_shapes_only=random)
        return worst is not None and not self.real(worst[0], trial.again)

    # -- judging --------------------------------------------------------------------------

    def real(
        self, apart: float, again: Callable[[Subject], float | None], sure: float = 0.02
    ) -> bool:
        """Whether a difference is more than rounding explains; above ``sure`` no doubt is left."""
        coarsest = _coarsest([self.base.output, *self.subject.model.parameters()])
        low, high = 64 * coarsest, max(sure, 50 * coarsest)
        if not low < apart < high:
            return apart >= high
        finer = self._in_double(again)
        if finer is not None:
            return finer > apart / 50
        return apart > 30 * self._noise(coarsest)

    def _in_double(self, again: Callable[[Subject], float | None]) -> float | None:
        """The same difference in double precision, if the model can be run in it."""
        try:
            model = self.subject.fresh()
            if model is self.subject.model:
                return None
            args, kwargs = map_tensors((self.subject.args, self.subject.kwargs), _to_double)
            with Subject(model.double(), args, kwargs) as finer:
                output = finer.run(training=False, seed=1).output
                if _coarsest([output]) > 1e-12:
                    return None
                return again(finer)
        except Exception:
            return None

    def _noise(self, coarsest: float) -> float:
        """How far the answer moves when every weight moves by a rounding error."""
        model = self.subject.fresh()
        put_in_mode(model, False)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.is_floating_point():
                    signs = torch.rand(parameter.shape, generator=generator).to(parameter.device)
                    parameter.mul_(1 + (4 * coarsest * (signs - 0.5)).to(parameter.dtype))
        run = self._quietly(training=False, seed=1, model=model)
        apart = difference(self.base.output, run.output) if run else 0.0
        return max(coarsest, apart if math.isfinite(apart) else 0.0)

    def blamed(
        self, one: Mapping[str, Any], other: Mapping[str, Any], differ: Callable[[Any, Any], bool]
    ) -> list[Call]:
        runs = [self._quietly(training=False, trace=True, **how) for how in (one, other)]
        first, second = runs
        return _distinct(blame(first, second, differ)) if first and second else []

    def report(
        self,
        kind: str,
        call: Call,
        evidence: str,
        again: Callable[[Subject], float | None],
    ) -> None:
        """Add a finding; say so where the layer is unregistered or a flag of its own decides."""
        name = call.name
        if not call.registered:
            self.add(
                kind,
                name,
                f"{evidence}; it runs a {call.kind} that is not registered, so eval() does not "
                "reach it",
                "assign it to an attribute in __init__, or hold it in nn.ModuleList or "
                "nn.ModuleDict",
            )
            return
        flag = self._own_flag(name, again)
        if flag:
            self.add("mode-from-elsewhere", name, f"{evidence}; with {flag} they are the same")
        else:
            self.add(kind, name, evidence)

    def _own_flag(self, name: str, again: Callable[[Subject], float | None]) -> str | None:
        """A flag of the module's own that stops it, if there is one."""
        if self.subject.in_place:
            return None
        opposite = {True: False, False: True, "train": "eval", "training": "eval"}
        for flag, value in _flags(self.modules[name]):
            word = value.lower() if isinstance(value, str) else value
            if not isinstance(value, (bool, str)) or word not in opposite or not FLAG.search(flag):
                continue
            try:
                model = self.subject.fresh()
                _set_flag(_named(model, name), flag, opposite[word])
                with Subject(model, self.subject.args, self.subject.kwargs) as other:
                    apart = again(other)
            except Exception:
                continue
            if apart is not None and apart <= 64 * _coarsest([self.base.output]):
                return f"{flag} = {opposite[word]!r}"
        return None


class _RowTrial:
    """The same sample in different company."""

    def __init__(self, given: Any, size: int, dim: int) -> None:
        self.given, self.size, self.dim = given, size, dim
        self._grown: set[str] = set()

    def _variants(self, same_shapes_only: bool) -> Iterator[tuple[Any, slice, int, str]]:
        """Inputs, the rows of the batch to look at, the samples in it, and what was done."""
        size = self.size
        half = max(1, size // 2)
        for rows in (slice(0, half), slice(size - half, size), slice(0, 1)):
            part = select_rows(self.given, size, rows, dim=self.dim)
            text = f"in a batch of {rows.stop - rows.start} instead of {size}"
            if not same_shapes_only:
                yield part, rows, rows.stop - rows.start, text
        ends = slice(0, size, size - 1)
        for kept in (ends,) if size > 2 else (slice(0, 1), slice(1, 2)):
            changed = map_tensors(self.given, partial(self._other_company, kept=kept))
            yield changed, kept, size, "when the others in its batch change"

    def _other_company(self, tensor: Tensor, kept: slice) -> Tensor:
        if tensor.layout != torch.strided or tensor.dim() <= self.dim:
            return tensor
        if tensor.shape[self.dim] != self.size:
            return tensor
        moved = tensor.movedim(self.dim, 0)
        if tensor.is_floating_point() and not _is_mask(tensor):
            new = 0.5 * moved if bool(moved.any()) else moved + 0.5
        elif tensor.dtype in INDICES and moved.dim() > 1 and not bool((moved < 0).any()):
            new = moved // 2 if bool((moved != moved[:1]).any()) else moved.roll(1, -1)
        else:
            return tensor
        new = new.clone()
        new[kept] = moved[kept]
        return new.movedim(0, self.dim)

    def worst(
        self, subject: Subject, *, same_shapes_only: bool = False, full: Any = None
    ) -> tuple[float, tuple[Any, slice, int], str] | None:
        """The largest difference, the inputs that made it, and what was done to them.

        None if nothing could be compared, or if the model never takes fewer samples: then what
        lies along the dimension are no samples.
        """
        if full is None:
            full = subject.run(training=False, seed=1, inputs=self.given).output
        found: tuple[float, tuple[Any, slice, int], str] | None = None
        taken = same_shapes_only
        for inputs, rows, size, text in self._variants(same_shapes_only):
            if size == self.size and not taken:
                return None
            try:
                part = subject.run(training=False, seed=1, inputs=inputs).output
            except Exception:
                continue
            if size < self.size:
                taken = True
                self._note_growth(full, part)
            apart = self._apart(full, part, rows, size)
            if apart is not None and (found is None or apart > found[0]):
                found = apart, (inputs, rows, size), text
        return found

    def _note_growth(self, full: Any, part: Any) -> None:
        """Parts of the output whose rows get longer with the batch: similarities within it."""
        if self.dim != 0:
            return
        fewer = dict(leaves(part))
        self._grown |= {
            path
            for path, leaf in leaves(full)
            if isinstance(leaf, Tensor)
            and isinstance(fewer.get(path), Tensor)
            and leaf.dim()
            and fewer[path].dim()
            and (
                (leaf.shape[1:] != fewer[path].shape[1:] and self.size in leaf.shape[1:])
                or len(leaf) == len(fewer[path])
            )
        }

    def _apart(self, full: Any, part: Any, rows: slice, size: int) -> float | None:
        if self._grown:
            full, part = (
                [leaf for path, leaf in leaves(value) if path not in self._grown]
                for value in (full, part)
            )
        if self.dim == 0:
            return rows_apart(full, part, self.size, rows, size=size)
        turned = (_turned(full, self.size), _turned(part, size))
        return rows_apart(*turned, self.size, rows, size=size)

    def again(self, subject: Subject) -> float | None:
        """The same trial on another subject, whose precision or flags differ."""
        given = map_tensors(self.given, lambda t: _like(t, (subject.args, subject.kwargs)))
        worst = _RowTrial(given, self.size, self.dim).worst(subject)
        return worst[0] if worst else None

    def blamed(self, subject: Subject, changed: tuple[Any, slice, int]) -> list[Call]:
        inputs, rows, size = changed
        try:
            full = subject.run(training=False, seed=1, inputs=self.given, trace=True)
            part = subject.run(training=False, seed=1, inputs=inputs, trace=True)
        except Exception:
            return []
        picked = rows if size == self.size else slice(None)
        for call in full.calls:
            call.inputs, call.outputs = _rows_of((call.inputs, call.outputs), self.size, rows)
        for call in part.calls:
            call.inputs, call.outputs = _rows_of((call.inputs, call.outputs), size, picked)
        return _distinct(blame(full, part, _beyond_rounding))


def _has_edges(inputs: Any, nodes: int) -> bool:
    """Whether an input names pairs of rows: two lists of indices of equal length."""
    return nodes != 2 and any(
        leaf.dtype == torch.int64
        and leaf.dim() == 2
        and len(leaf) == 2
        and leaf.numel() > 0
        and 0 <= int(leaf.min()) <= int(leaf.max()) < nodes
        for _, leaf in leaves(inputs)
        if isinstance(leaf, Tensor) and leaf.layout == torch.strided
    )


def _is_mask(tensor: Tensor) -> bool:
    """Whether a tensor of floats says which values count, by 0 and 1 or by minus infinity."""
    ones_and_zeros = bool(((tensor == 0) | (tensor == 1)).all()) and len(tensor.unique()) == 2
    return ones_and_zeros or not bool(tensor.isfinite().all())


def _turned(value: Any, batch: int) -> Any:
    """Outputs with their samples along dimension 0."""

    def turn(tensor: Tensor) -> Tensor:
        along_one = tensor.dim() > 1 and tensor.shape[1] == batch
        return tensor.movedim(1, 0) if along_one else tensor

    return map_tensors(value, turn)


def _rows_of(value: Any, batch: int, rows: slice) -> Any:
    """The values that belong to some samples, wherever the batch lies."""

    def view(tensor: Tensor) -> Tensor:
        if tensor.dim() and len(tensor) and len(tensor) % batch == 0:
            return tensor.reshape(batch, len(tensor) // batch, *tensor.shape[1:])[rows]
        if tensor.dim() > 1 and tensor.shape[1] == batch:
            return tensor[:, rows]
        return tensor

    return map_tensors(value, view)


def _like(tensor: Tensor, inputs: Any) -> Tensor:
    """A tensor in the precision of a subject's inputs."""
    double = any(isinstance(t, Tensor) and t.dtype == torch.float64 for _, t in leaves(inputs))
    return tensor.double() if double and tensor.is_floating_point() else tensor


def _two_seeds(subject: Subject, *, seed: int) -> float:
    one = subject.run(training=False, seed=1)
    return difference(one.output, subject.run(training=False, seed=seed).output)


def _two_grad_modes(subject: Subject, *, grad: str) -> float:
    one = subject.run(training=False, seed=1)
    return difference(one.output, subject.run(training=False, seed=1, grad=grad).output)


def _history(subject: Subject) -> float:
    model = subject.fresh()
    put_in_mode(model, False)
    first = subject.run(training=False, seed=1, model=model)
    other = _other_values((subject.args, subject.kwargs))
    with contextlib.suppress(Exception):
        subject.run(training=False, seed=1, model=model, inputs=other)
    later = subject.run(training=False, seed=1, model=model)
    return difference(first.output, later.output)


def _other_values(inputs: Any) -> Any:
    """Inputs of the same kind with larger numbers in another order."""

    def change(tensor: Tensor) -> Tensor:
        if not tensor.dim() or tensor.dtype == torch.bool or tensor.layout != torch.strided:
            return tensor
        if tensor.is_nested:
            return tensor
        turned = tensor.flip(0)
        return 2 * turned if tensor.is_floating_point() and not _is_mask(tensor) else turned

    return map_tensors(inputs, change)


def _doubled(tensor: Tensor) -> Tensor:
    """One sample and another one."""
    if not tensor.dim() or len(tensor) != 1:
        return tensor
    return torch.cat([tensor, tensor * 0.5 if tensor.is_floating_point() else tensor])


def _to_double(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def _coarsest(values: Iterable[Any]) -> float:
    """The largest rounding error among the floating types of some nested values."""
    kinds = {
        leaf.dtype
        for value in values
        for _, leaf in leaves(value)
        if isinstance(leaf, Tensor) and leaf.is_floating_point() and not leaf.is_quantized
    }
    return max((torch.finfo(kind).eps for kind in kinds), default=1e-7)


def _beyond_rounding(one: Any, other: Any) -> bool:
    return difference(one, other) > 64 * _coarsest([one, other])


def _bad_values(value: Any) -> int:
    """Count nan and infinite values; minus infinity beside finite ones is a mask."""
    count = 0
    for _, leaf in leaves(value):
        if isinstance(leaf, float):
            count += not math.isfinite(leaf)
        if not _has_floats(leaf):
            continue
        bad = leaf.isnan() | (leaf == float("inf"))
        rows = leaf.reshape(-1, leaf.shape[-1]) if leaf.dim() else leaf.reshape(1, 1)
        hidden = (rows == float("-inf")).all(1)
        count += int(bad.sum()) + int(hidden.sum()) * (leaf.shape[-1] if leaf.dim() else 1)
    return count


def _finite(value: Any) -> bool:
    return all(bool(leaf.isfinite().all()) for _, leaf in leaves(value) if _has_floats(leaf))


def _has_floats(leaf: Any) -> bool:
    """Whether it is a tensor of floats, plain and not empty."""
    return (
        isinstance(leaf, Tensor)
        and leaf.layout == torch.strided
        and not leaf.is_nested
        and leaf.is_floating_point()
        and leaf.numel() > 0
    )


def _distinct(calls: Iterable[Call]) -> list[Call]:
    return list({call.name: call for call in calls}.values())


def _untouched(layer: Any) -> bool:
    """Whether the running statistics are as they were made."""
    var = layer.running_var
    return bool((layer.running_mean == 0).all()) and bool(((var == 1) | (var == 0)).all())


def _unscaled(layer: Any) -> bool:
    """Whether weight and bias are as they were made."""
    tracked = getattr(layer, "num_batches_tracked", None)
    if tracked is not None and int(tracked):
        return False
    bias = getattr(layer, "bias", None)
    weight = getattr(layer, "weight", None)
    if bias is not None:
        return bool((bias == 0).all())
    return weight is None or bool((weight == weight.flatten()[0]).all())


def _far(layer: Any, calls: Sequence[tuple[int, Tensor, Tensor]]) -> str | None:
    """Compare what reached a layer with its running statistics; None if they fit."""
    if sum(n for n, _, _ in calls) < 8 or len(calls) > 1:
        return None
    _, average, variance = calls[0]
    mean, var = layer.running_mean.float(), layer.running_var.float()
    rest = _rest(layer)
    if 1e-3 < rest < 1:
        # Take out what is left of the values 0 and 1 that the layer was made with.
        mean, var = mean / (1 - rest), ((var - rest) / (1 - rest)).clamp(min=0)
    eps = float(getattr(layer, "eps", 1e-5))
    shifts = (average - mean).abs() / (var + eps).sqrt()
    ratios = ((variance + eps) / (var + eps))[(variance > eps) | (var > eps)]
    if not bool(shifts.isfinite().all()) or not bool(ratios.isfinite().all()):
        return None
    off = max(float(shifts.median()), float(shifts.max()) / 20)
    ratio = float(ratios.median()) if len(ratios) else 1.0
    size = max(ratio, 1 / max(ratio, 1e-12))
    if isinstance(layer, nn.modules.instancenorm._InstanceNorm):
        size = 1.0
    if size > RATIO:
        which = "larger" if ratio > 1 else "smaller"
        return f"it receives a variance {_round(size)} times {which} than the running variance"
    if off > FAR:
        return (
            f"it receives a mean {_round(float(shifts.max()))} standard deviations from the "
            "running mean, in the channel that is furthest"
        )
    return None


def _rest(layer: Any) -> float:
    """How much of its first values is still in a layer's running statistics."""
    tracked, momentum = getattr(layer, "num_batches_tracked", None), getattr(layer, "momentum", 0)
    if tracked is None or not momentum:
        return 0.0
    return (1 - momentum) ** int(tracked)


def _unlike(calls: Sequence[tuple[int, Tensor, Tensor]], layer: nn.Module) -> str:
    """Say how two streams that share a layer differ, if they do."""
    if len(calls) < 2 or min(n for n, _, _ in calls) < 8:
        return ""
    eps = float(getattr(layer, "eps", 1e-5))
    for index, (n, mean, var) in enumerate(calls):
        for m, other_mean, other_var in calls[index + 1 :]:
            pooled = ((var + other_var) / 2 + eps).sqrt()
            shift = float(((mean - other_mean).abs() / pooled).median())
            ratio = float(((var + eps) / (other_var + eps)).median())
            ratio = max(ratio, 1 / ratio)
            spread = math.sqrt(2 / min(n, m))
            if shift > max(1.0, 4 * spread) or ratio > max(4.0, math.exp(6 * spread)):
                return (
                    f"{len(calls)} calls in one forward share it, and two of them bring means "
                    f"{_round(shift)} standard deviations apart, variances in the ratio "
                    f"{_round(ratio)}"
                )
    return ""


def _flags(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Attributes of a module, and those of the dicts and objects that it holds."""
    for name, value in attributes(module).items():
        yield name, value
        inner = value if isinstance(value, dict) else getattr(value, "__dict__", {})
        if not isinstance(value, (Tensor, nn.Module)) and not callable(value):
            yield from ((f"{name}.{key}", item) for key, item in inner.items())


def _set_flag(module: nn.Module, flag: str, value: Any) -> None:
    name, _, key = flag.partition(".")
    holder = vars(module)[name] if key else module
    if isinstance(holder, dict):
        holder[key] = value
    else:
        object.__setattr__(holder, key or name, value)


def _named(model: nn.Module, name: str) -> nn.Module:
    """``get_submodule``, which scripted modules do not have."""
    return dict(model.named_modules())[name]


def _top(names: Sequence[str]) -> str:
    """The outermost module below the root that holds all of the names, or their common one."""
    levels = zip(*(name.split(".") for name in names), strict=False)
    shared = itertools.takewhile(lambda parts: len(set(parts)) == 1, levels)
    return ".".join(parts[0] for parts in shared)


def _list(names: Sequence[str]) -> str:
    shown = first_few([name or "the model itself" for name in names])
    return f"{shown} {'is' if len(names) == 1 else 'are'}"


def _by(apart: float) -> str:
    if not math.isfinite(apart):
        return "in more than value"
    return f"by {_round(apart)} of the largest value"


def _round(value: float) -> str:
    return f"{value:.2g}" if value < 100 else f"{float(f'{value:.2g}'):.0f}"


def _short(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else ""


def _load(target: str) -> nn.Module:
    path, _, name = target.partition(":")
    if not name:
        raise SystemExit(f"model is {target!r}; expected module:function, such as nets:make_model")
    sys.path.insert(0, os.getcwd())
    try:
        found = importlib.import_module(path)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise SystemExit(f"model is {target!r}; {error}") from error
    model = found if isinstance(found, nn.Module) else found()  # type: ignore[operator]
    if not isinstance(model, nn.Module):
        raise SystemExit(f"{target} gave a {type(model).__name__}; expected a torch.nn.Module")
    return model


def _example(text: str) -> Tensor:
    """Make an input from ``8,3,32,32`` (normal noise) or ``8,16:1000`` (indices below 1000)."""
    shape, _, below = text.partition(":")
    try:
        sizes = [int(size) for size in shape.split(",")]
        return torch.randint(int(below), sizes) if below else torch.randn(sizes)
    except (ValueError, RuntimeError) as error:
        raise argparse.ArgumentTypeError(
            f"{text!r}; expected sizes such as 8,3,32,32, or 8,16:1000 for indices below 1000"
        ) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Audit a model from a shell; the exit status is 1 where something was found.

    Examples
    --------
    >>> main(["torch.nn:Identity", "--input", "8,4"])
    audit of Identity: no findings
    0
    """
    parser = argparse.ArgumentParser(
        prog="python -m utils.audit", description="Run a model and report mode bugs."
    )
    parser.add_argument("model", help="module:factory, a function or class that makes the model")
    parser.add_argument(
        "--input",
        action="append",
        required=True,
        metavar="SIZES",
        help="8,3,32,32 for normal noise, 8,16:1000 for indices below 1000; once for each argument",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed for model and inputs")
    given = parser.parse_args(arguments)
    with undisturbed():
        seed_everything(given.seed)
        try:
            inputs = tuple(_example(text) for text in given.input)
        except argparse.ArgumentTypeError as error:
            parser.error(f"--input is {error}")
        model = _load(given.model)
    try:
        report = audit(model, inputs)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(report)
    return 1 if report.findings else 0


if __name__ == "__main__":
    raise SystemExit(main())
