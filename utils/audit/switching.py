"""Whether ``eval()`` and ``train()`` reach every module, return it, and are left alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from utils.audit.examination import Examination
from utils.findings import first_few, first_line, off_by
from utils.modes import listens
from utils.trials import difference, put_in_mode, submodule


def modes_now(exam: Examination) -> None:
    """Modes that are mixed now, and what the next ``train()`` would thaw."""
    model = exam.subject.model
    odd = [
        (name, module)
        for name, module in exam.modules.items()
        if module.training != model.training and listens(module)
    ]
    if not odd:
        return
    if not model.training:
        names = [name for name, _ in odd]
        exam.add(
            "mixed-modes",
            _top(names),
            f"the model is in eval mode, {_list(names)} in train mode",
            "call eval() on the whole model before evaluating",
        )
        return
    copied = exam.subject.fresh()
    put_in_mode(copied, True)
    thawed = [name for name, _ in odd if submodule(copied, name).training]
    if thawed:
        exam.add(
            "thaws-with-train",
            _top(thawed),
            f"{_list(thawed)} in eval mode in a model in train mode; the next train() puts "
            f"{'it' if len(thawed) == 1 else 'them'} back in train mode",
            "freeze with utils.modes.keep_in_eval, or override train() in the model",
        )


def eval_and_train(exam: Examination) -> None:
    """Whether ``eval()`` and ``train()`` reach every submodule and return the module."""
    for training, call in ((False, "eval"), (True, "train")):
        missed = _missed(exam, training)
        if missed is None:
            continue
        if training:
            missed = [name for name in missed if not _frozen_on_purpose(exam, name)]
        for culprit, unreached in _culprits(exam, missed, training).items():
            what = "itself" if unreached == [culprit] else _list(unreached)
            wrong, right = ("train", "eval") if call == "eval" else ("eval", "train")
            exam.add(
                f"{call}-not-followed",
                culprit,
                f"after {call}() from {wrong} mode, {what} still in {wrong} mode",
                f"in an override of {'train' if call == 'eval' else call}(), call "
                f"super().train(mode) and return self, so that every child is put in "
                f"{right} mode",
            )
    for name, call in _overrides(exam):
        module = submodule(exam.subject.fresh(), name)
        try:
            returned = getattr(module, call)()
        except Exception as error:
            _cannot_switch(exam, call, name, error)
            continue
        if returned is not module:
            exam.add(
                f"{call}-not-followed",
                name,
                f"{call}() does not return the module: model = model.{call}() loses it",
                f"end the override of {call}() with: return self",
            )


def eval_again(exam: Examination) -> None:
    """Whether eval() is done when it is done: once more, or after train(), is the same."""
    overriding = [name for name, _ in _overrides(exam)]
    if not overriding or exam.base.drew:
        return
    for calls in ((False, False), (False, True, False)):
        model = exam.subject.fresh()
        for training in calls:
            put_in_mode(model, training)
        run = exam.quietly(training=False, seed=1, model=model)
        apart = difference(exam.base.output, run.output) if run else 0.0
        if apart > 0 and exam.real(apart, lambda _: None):
            words = " then ".join("train()" if training else "eval()" for training in calls)
            exam.add(
                "eval-not-followed",
                overriding[0],
                f"after {words} the answer is off {off_by(apart)} from that after one eval()",
                "an override of train() that changes weights must do nothing where the mode "
                "is already the one asked for",
            )
            return


def forward_that_switches(exam: Examination) -> None:
    """A forward that leaves, or finds, submodules in another mode."""
    for name in exam.base.switched:
        exam.add("switches-mode", name, "in eval mode, its forward runs a submodule in train mode")
    for training in (False, True):
        run = exam.quietly(training=True, seed=1) if training else exam.base
        if run is None or not run.left_switched:
            continue
        traced = exam.quietly(training=training, seed=1, trace=True)
        calls = traced.calls if traced else []
        changed = [i for i, c in enumerate(calls) if c.modes_before != c.modes_after]
        outer = {calls[i].parent for i in changed}
        for name in [calls[i].name for i in changed if i not in outer] or [""]:
            mode = "train" if training else "eval"
            exam.add(
                "switches-mode",
                name,
                f"a forward in {mode} mode leaves submodules in the other mode",
            )


def _overrides(exam: Examination) -> Iterator[tuple[str, str]]:
    """Modules with a ``train()`` or an ``eval()`` of their own, and which of the two."""
    for name, module in exam.modules.items():
        for call in ("train", "eval"):
            own = getattr(type(module), call) is not getattr(nn.Module, call)
            scripted = isinstance(module, torch.jit.ScriptModule)
            if call in vars(module) or (own and not scripted):
                yield name, call


def _missed(exam: Examination, training: bool) -> list[str] | None:
    """Names of the modules that the call leaves in the other mode, from where they can be."""
    call = "train" if training else "eval"
    try:
        model = exam.subject.fresh()
        before = [module.training for module in model.modules()]
        put_in_mode(model, not training)
        for module, mode in zip(model.modules(), before, strict=True):
            if mode != training:
                module.training = mode
        model.train() if training else model.eval()
    except Exception as error:
        _cannot_switch(exam, call, "", error)
        return None
    return [name for name, module in model.named_modules() if module.training != training]


def _cannot_switch(exam: Examination, call: str, name: str, error: Exception) -> None:
    if any(f.kind == f"{call}-not-followed" for f in exam.findings):
        return
    exam.add(
        f"{call}-not-followed",
        name,
        f"{call}() raises {type(error).__name__}: {first_line(error)}",
        "an override is def train(self, mode=True), and eval() calls it with False",
    )


def _culprits(exam: Examination, missed: Sequence[str], training: bool) -> dict[str, list[str]]:
    """For each innermost module whose own call misses something: what it misses."""
    culprits: dict[str, list[str]] = {}
    for name in missed:
        chain = [name]
        while chain[-1]:
            chain.append(chain[-1].rpartition(".")[0])
        for ancestor in chain:
            model = exam.subject.fresh()
            module, target = submodule(model, ancestor), submodule(model, name)
            for inside in module.modules():
                inside.training = not training
            put_in_mode(module, training)
            if target.training != training:
                culprits.setdefault(ancestor, []).append(name)
                break
    return culprits


def _frozen_on_purpose(exam: Examination, name: str) -> bool:
    """A part that ``train()`` leaves in eval mode because someone wanted it so."""
    original = exam.modules[name]
    if not any(listens(inside) for inside in original.modules()):
        return True
    parameters = list(original.parameters())
    if parameters and not any(p.requires_grad for p in parameters):
        return True
    if getattr(original, "running_mean", None) is not None:
        return True
    if name:
        model = exam.subject.fresh()
        for inside in model.modules():
            inside.training = True
        put_in_mode(model, True)
        if not submodule(model, name).training:
            return True
    module = submodule(exam.subject.fresh(), name)
    for inside in module.modules():
        inside.training = False
    put_in_mode(module, True)
    held = "train" in vars(module)
    by_itself = not module.training and (held or name != "")
    above = name.rpartition(".")[0]
    return by_itself or (name != "" and above != "" and _frozen_on_purpose(exam, above))


def _list(names: Sequence[str]) -> str:
    shown = first_few([name or "the model itself" for name in names])
    return f"{shown} {'is' if len(names) == 1 else 'are'}"


def _top(names: Sequence[str]) -> str:
    """The outermost module below the root that holds all of the names, or their common one."""
    levels = zip(*(name.split(".") for name in names), strict=False)
    shared = itertools.takewhile(lambda parts: len(set(parts)) == 1, levels)
    return ".".join(parts[0] for parts in shared)
