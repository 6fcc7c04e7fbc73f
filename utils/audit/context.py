"""One examination of a model: its runs, what counts as a difference, and what is reported."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..findings import Finding, first_line
from ..kinds import KINDS
from ..listening import listens
from ..nested import iter_leaves, map_tensors, relative_gap
from ..rerun import RerunModel, put_in_mode, submodule
from ..snapshot import attributes
from ..tracing import Call, RunRecord, blame
from .perturb import in_double, to_double

MODE_FLAG_NAMES = re.compile("train|eval|infer|phase|mode|test|determin|sampl|stoch", re.IGNORECASE)
"""Names of attributes that may stand for the mode."""
MAX_BLAME_ROUNDS = 8
"""How many calls in a row are looked for at most, each behind the one before."""
HALF_PRECISION_EPS = 1e-4
"""A type that rounds more coarsely has half precision."""
NEVER_CERTAIN = math.inf
"""For differences of which double precision is always asked."""
CERTAIN_IN_DOUBLE = 1e-9
"""A difference that stands for flipped whole numbers is real if it is larger than this."""
WHOLE_MODEL = Call("", "", True, None)
"""Stands for the whole model where no call inside it can be blamed."""

CONSEQUENCES_OF_TRAIN_MODE = ("random-in-eval", "depends-on-batch", "moves-in-eval")
"""What a layer does that is left in train mode."""


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


class AuditContext:
    """What the detectors share: the model's runs, their judgement, and the findings so far.

    Attributes
    ----------
    rerun
        The model and its inputs, to be run again and again from one state.
    modules
        The model's modules by qualified name.
    modes
        Which of them were in train mode when the model was handed over.
    base
        The first run in eval mode, with which others are compared.
    random
        Whether two calls on one input were found to differ.
    repeatable
        Whether two calls with one seed agree.
    """

    def __init__(self, rerun: RerunModel) -> None:
        self.rerun = rerun
        self.modules = dict(rerun.model.named_modules())
        self.modes = {name: module.training for name, module in self.modules.items()}
        self.findings: list[ModelFinding] = []
        self.notes: list[str] = []
        self.random = False
        self.repeatable = True
        try:
            self.base = rerun.run(training=False, seed=1, measure=True)
        except Exception as error:
            raise ValueError(
                f"inputs: {type(rerun.model).__name__} fails on them in eval mode with "
                f"{type(error).__name__}: {first_line(error)}"
            ) from error

    def run_or_note(self, what: str, **kwargs: Any) -> RunRecord | None:
        """A run that may fail: then it is noted, and what it would decide stays open."""
        try:
            return self.rerun.run(**kwargs)
        except Exception as error:
            note = f"{what}: the model fails with {type(error).__name__}: {first_line(error)}"
            if note not in self.notes:
                self.notes.append(note)
            return None

    def run_or_none(self, **kwargs: Any) -> RunRecord | None:
        """A run that may fail without a word."""
        try:
            return self.rerun.run(**kwargs)
        except Exception:
            return None

    def exceeds_rounding(
        self,
        apart: float,
        again: Callable[[RerunModel], float | None],
        certain_above: float = 0.02,
    ) -> bool:
        """Whether a difference is more than rounding explains.

        ``again`` makes the same trial on another model, here one in double precision. Above
        ``certain_above`` no doubt is left, unless the type rounds coarsely or the answer is
        in whole numbers, which rounding may flip: then double precision is asked.
        """
        eps = coarsest([self.base.output, *self.rerun.model.parameters()])
        low, high = 64 * eps, max(certain_above, 50 * eps)
        if eps > HALF_PRECISION_EPS:  # its rounding is as large as many a real difference
            low, high = eps, math.inf
        if apart <= low:
            return False
        if math.isfinite(apart) and apart >= high:
            return True
        finer = self._in_double(again)
        if finer is not None:
            return finer > (apart / 50 if math.isfinite(apart) else CERTAIN_IN_DOUBLE)
        return apart > 30 * self._noise(eps)

    def _in_double(self, again: Callable[[RerunModel], float | None]) -> float | None:
        """The same difference in double precision, if the model can be run in it."""
        copied = self.rerun.own_copy()
        try:
            with in_double(copied or self.rerun.pristine_copy()) as model:
                args, kwargs = map_tensors((self.rerun.args, self.rerun.kwargs), to_double)
                with RerunModel(model, args, kwargs) as finer:
                    output = finer.run(training=False, seed=1).output
                    return None if coarsest([output]) > 1e-12 else again(finer)
        except Exception:
            return None

    def _noise(self, eps: float) -> float:
        """How far the answer moves when every weight moves by a rounding error."""
        model = self.rerun.pristine_copy()
        if model is self.rerun.model:
            return eps  # its own weights are not touched
        put_in_mode(model, False)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.is_floating_point():
                    signs = torch.rand(parameter.shape, generator=generator).to(parameter.device)
                    parameter.mul_(1 + (4 * eps * (signs - 0.5)).to(parameter.dtype))
        run = self.run_or_none(training=False, seed=1, model=model)
        apart = relative_gap(self.base.output, run.output) if run else 0.0
        return max(eps, apart)

    def blamed(
        self, one: Mapping[str, Any], other: Mapping[str, Any], differ: Callable[[Any, Any], bool]
    ) -> list[Call]:
        """Find the calls to blame; behind each that is found, look again with its output held."""
        first = self.run_or_none(training=False, trace=True, **one)
        found: list[Call] = []
        forced_outputs: dict[int, Any] = {}
        for _ in range(MAX_BLAME_ROUNDS):
            second = self.run_or_none(
                training=False, trace=True, forced_outputs=forced_outputs, **other
            )
            new = blame(first, second, differ) if first and second else []
            if first is None or not new:
                break
            found += new
            blamed = {id(call) for call in new}
            forced_outputs |= {i: c.outputs for i, c in enumerate(first.calls) if id(c) in blamed}
        return distinct(found)

    def report(
        self,
        kind: str,
        call: Call,
        evidence: str,
        again: Callable[[RerunModel], float | None],
    ) -> None:
        """Add a finding; say so where the layer is unregistered or a flag of its own decides."""
        name = call.name
        if not call.registered:
            self.add(
                kind,
                name,
                f"{evidence}; it runs a {call.class_name} that is not registered, so eval() "
                "does not reach it",
                "assign it to an attribute in __init__, or hold it in nn.ModuleList or "
                "nn.ModuleDict",
            )
            return
        flag = self._own_flag(name, again)
        if flag:
            self.add("mode-from-elsewhere", name, f"{evidence}; with {flag} they are the same")
        else:
            self.add(kind, name, evidence)

    def _own_flag(self, name: str, again: Callable[[RerunModel], float | None]) -> str | None:
        """A flag of the module's own that stops it, if there is one."""
        if self.rerun.in_place:
            return None
        opposite = {True: False, False: True, "train": "eval", "training": "eval"}
        for flag, value in _flags(self.modules[name]):
            word = value.lower() if isinstance(value, str) else value
            if (
                not isinstance(value, (bool, str))
                or word not in opposite
                or not MODE_FLAG_NAMES.search(flag)
            ):
                continue
            try:
                model = self.rerun.own_copy()
                if model is None:
                    return None
                _set_flag(submodule(model, name), flag, opposite[word])
                with RerunModel(model, self.rerun.args, self.rerun.kwargs) as other:
                    apart = again(other)
            except Exception:
                continue
            if apart is not None and apart <= rounding(coarsest([self.base.output])):
                return f"{flag} = {opposite[word]!r}"
        return None

    def add(self, kind: str, module: str, evidence: str, cure: str = "") -> None:
        """Add a finding about a module, as it is."""
        while module not in self.modules:  # a layer that was made in the first call
            module = module.rpartition(".")[0]
        if kind in CONSEQUENCES_OF_TRAIN_MODE and self._still_trains(module):
            cure = "it runs in train mode in spite of eval(): mend that first"
        made = ModelFinding(kind, evidence, cure or KINDS[kind].cure, module)
        if not any((f.kind, f.module) == (kind, module) for f in self.findings):
            self.findings.append(made)

    def _still_trains(self, name: str) -> bool:
        """Whether a layer that listens was seen in train mode although eval() had been called."""
        astray = self.found("eval-not-followed") or self.found("switches-mode")
        return bool(astray) and listens(self.modules[name])

    def found(self, kind: str) -> set[str]:
        """The modules about which there is a finding of a kind."""
        return {finding.module for finding in self.findings if finding.kind == kind}


def coarsest(values: Iterable[Any]) -> float:
    """The largest rounding error among the floating types of some nested values."""
    kinds = {
        leaf.dtype
        for value in values
        for _, leaf in iter_leaves(value)
        if isinstance(leaf, Tensor) and leaf.is_floating_point() and not leaf.is_quantized
    }
    return max((torch.finfo(kind).eps for kind in kinds), default=1e-7)


def rounding(eps: float) -> float:
    """How far rounding may move an answer, by the precision of its type."""
    return (8 if eps > HALF_PRECISION_EPS else 64) * eps


def beyond_rounding(one: Any, other: Any) -> bool:
    return relative_gap(one, other) > rounding(coarsest([one, other]))


def distinct(calls: Iterable[Call]) -> list[Call]:
    return list({call.name: call for call in calls}.values())


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
