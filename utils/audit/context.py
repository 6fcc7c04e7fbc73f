"""One examination of a model: its runs, what counts as a difference, and what is reported."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..findings import Finding, in_one_line
from ..kinds import KINDS
from ..listening import listens
from ..rerun import RerunModel, submodule
from ..snapshot import attributes
from ..torch_internals import program_kind
from ..tracing import Call, RunRecord, blame
from .rounding import Trial, coarsest, exceeds_rounding, rounding

MODE_FLAG_NAMES = re.compile("train|eval|infer|phase|mode|test|determin|sampl|stoch", re.IGNORECASE)
"""Names of attributes that may stand for the mode."""
MAX_BLAME_ROUNDS = 8
"""How many calls in a row are looked for at most, each behind the one before."""
WHOLE_MODEL = Call("", "", True, None)
"""Stands for the whole model where no call inside it can be blamed."""

CONSEQUENCES_OF_TRAIN_MODE = ("random-in-eval", "depends-on-batch", "moves-in-eval")
"""What a layer does that is left in train mode."""


UNSEEN = {
    "exported": "modes: an exported program does what the model did in the mode in which it was "
    "exported, and cannot be switched",
    "traced": "modes: a trace does what the model did in the mode in which it was traced, whatever "
    "its flags say",
    "scripted": "what is inside a scripted layer: its code cannot be read here",
}
"""What cannot be seen of a program that was written down."""
WRITTEN_IN_A_MODE = ("exported", "traced")


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
    program
        As :func:`utils.torch_internals.program_kind`.
    """

    def __init__(self, rerun: RerunModel) -> None:
        self.rerun = rerun
        self.modules = dict(rerun.model.named_modules())
        self.modes = {name: module.training for name, module in self.modules.items()}
        self.findings: list[ModelFinding] = []
        self.notes: list[str] = []
        self.random = False
        self.repeatable = True
        self.program = program_kind(rerun.model)
        self.notes += filter(None, [UNSEEN.get(self.program or "")])
        self.base = self._first_run()
        if self.base.changed_its_input:
            self.notes.append(
                "the input: a call changes it in place, so that whoever keeps it, and asks again, "
                "asks something else; each run here got a copy"
            )

    def _first_run(self) -> RunRecord:
        """A run without gradients, or with them for a model that takes some itself."""
        try:
            return self.rerun.run(training=False, seed=1, measure=True)
        except Exception as without:
            self.rerun.usual_grad = "grad"
            with contextlib.suppress(Exception):
                run = self.rerun.run(training=False, seed=1, measure=True)
                self.notes.append(
                    f"eval mode without gradients: the model fails with {in_one_line(without)}"
                )
                return run
            raise ValueError(
                f"inputs: {type(self.rerun.model).__name__} fails on them in eval mode with "
                f"{in_one_line(without)}"
            ) from without

    def run_or_note(self, what: str, **kwargs: Any) -> RunRecord | None:
        """A run that may fail: then it is noted, and what it would decide stays open."""
        try:
            return self.rerun.run(**kwargs)
        except Exception as error:
            note = f"{what}: the model fails with {in_one_line(error)}"
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
        again: Trial,
        certain_above: float = 0.02,
    ) -> bool:
        """As :func:`utils.audit.rounding.exceeds_rounding`, beside the first run in eval mode."""
        return exceeds_rounding(self.rerun, self.base.output, apart, again, certain_above)

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
        again: Trial,
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

    def _own_flag(self, name: str, again: Trial) -> str | None:
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
                    other.usual_grad = self.rerun.usual_grad
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
        if kind in CONSEQUENCES_OF_TRAIN_MODE and self.program in WRITTEN_IN_A_MODE:
            verb = "export" if self.program == "exported" else "trace"
            cure = f"{verb} the model again, after model.eval(): this was written in train mode"
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
