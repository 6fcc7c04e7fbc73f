"""Whether ``eval()`` and ``train()`` reach every module, return it, and are left alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from ..findings import first_few, in_one_line, off_by
from ..listening import listens
from ..nested import relative_gap
from ..rerun import put_in_mode, submodule
from .context import AuditContext


def detect_mixed_modes(context: AuditContext) -> None:
    """Modes that are mixed now, and what the next ``train()`` would thaw."""
    odd = [
        (name, module)
        for name, module in context.modules.items()
        if context.modes[name] != context.modes[""] and listens(module)
    ]
    if not odd:
        return
    if not context.modes[""]:
        names = [name for name, _ in odd]
        context.add(
            "mixed-modes",
            _top(names),
            f"the model is in eval mode, {_list(names)} in train mode",
        )
        return
    copied = context.rerun.pristine_copy()
    put_in_mode(copied, True)
    thawed = [name for name, _ in odd if submodule(copied, name).training]
    if thawed:
        context.add(
            "thaws-with-train",
            _top(thawed),
            f"{_list(thawed)} in eval mode in a model in train mode; the next train() puts "
            f"{'it' if len(thawed) == 1 else 'them'} back in train mode",
        )


def detect_unfollowed_switches(context: AuditContext) -> None:
    """Whether ``eval()`` and ``train()`` reach every submodule and return the module."""
    if context.program == "exported":
        return  # both raise an error, and a note has said so
    for training, call in ((False, "eval"), (True, "train")):
        missed = _missed(context, training)
        if missed is None:
            continue
        if training:
            missed = [name for name in missed if not _frozen_on_purpose(context, name)]
        for culprit, unreached in _culprits(context, missed, training).items():
            what = "itself" if unreached == [culprit] else _list(unreached)
            wrong, right = ("train", "eval") if call == "eval" else ("eval", "train")
            context.add(
                f"{call}-not-followed",
                culprit,
                f"after {call}() from {wrong} mode, {what} still in {wrong} mode",
                f"in an override of {'train' if call == 'eval' else call}(), call "
                f"super().train(mode) and return self, so that every child is put in "
                f"{right} mode",
            )
    for name, call in _overrides(context):
        module = submodule(context.rerun.pristine_copy(), name)
        try:
            returned = getattr(module, call)()
        except Exception as error:
            _cannot_switch(context, call, name, error)
            continue
        if returned is not module:
            context.add(
                f"{call}-not-followed",
                name,
                f"{call}() does not return the module: model = model.{call}() loses it",
                f"end the override of {call}() with: return self",
            )


def detect_dead_eval(context: AuditContext) -> None:
    """An ``eval()`` of a part that does more than ``train(False)``, which is what is called."""
    for name, module in context.modules.items():
        own = type(module).eval is not nn.Module.eval or "eval" in vars(module)
        if not name or not own or isinstance(module, torch.jit.ScriptModule):
            continue
        model = context.rerun.pristine_copy()
        put_in_mode(model, False)
        try:
            submodule(model, name).eval()
        except Exception:
            continue  # said where overrides are called
        run = context.run_or_none(training=False, seed=1, model=model)
        apart = relative_gap(context.base.output, run.output) if run else 0.0
        if apart > 0 and context.exceeds_rounding(apart, lambda _: None):
            context.add(
                "eval-not-followed",
                name,
                f"its own eval() changes the answer {off_by(apart)}, and eval() of the model "
                "never calls it",
                "move what it does into train(mode), which eval() of the model calls with False",
            )


def detect_repeated_eval(context: AuditContext) -> None:
    """Whether eval() is done when it is done: once more, or after train(), is the same."""
    overriding = [name for name, _ in _overrides(context)]
    if not overriding or context.base.used_randomness or context.program == "exported":
        return
    for calls in ((False, False), (False, True, False)):
        model = context.rerun.pristine_copy()
        for training in calls:
            put_in_mode(model, training)
        run = context.run_or_none(training=False, seed=1, model=model)
        apart = relative_gap(context.base.output, run.output) if run else 0.0
        if apart > 0 and context.exceeds_rounding(apart, lambda _: None):
            words = " then ".join("train()" if training else "eval()" for training in calls)
            context.add(
                "eval-not-followed",
                overriding[0],
                f"after {words} the answer is off {off_by(apart)} from that after one eval()",
                "an override of train() that changes weights must do nothing where the mode "
                "is already the one asked for",
            )
            return


def detect_forward_that_switches(context: AuditContext) -> None:
    """A forward that leaves, or finds, submodules in another mode."""
    for name in context.base.switched_children:
        context.add(
            "switches-mode", name, "in eval mode, its forward runs a submodule in train mode"
        )
    for training in (False, True):
        run = context.run_or_none(training=True, seed=1) if training else context.base
        if run is None or not run.modes_changed:
            continue
        traced = context.run_or_none(training=training, seed=1, trace=True)
        calls = traced.calls if traced else []
        changed = [i for i, c in enumerate(calls) if c.modes_before != c.modes_after]
        outer = {calls[i].parent for i in changed}
        for name in [calls[i].name for i in changed if i not in outer] or [""]:
            mode = "train" if training else "eval"
            context.add(
                "switches-mode",
                name,
                f"a forward in {mode} mode leaves submodules in the other mode",
            )


def _overrides(context: AuditContext) -> Iterator[tuple[str, str]]:
    """Modules with a ``train()`` or an ``eval()`` of their own, and which of the two."""
    for name, module in context.modules.items():
        for call in ("train", "eval"):
            own = getattr(type(module), call) is not getattr(nn.Module, call)
            scripted = isinstance(module, torch.jit.ScriptModule)
            if call in vars(module) or (own and not scripted):
                yield name, call


def _missed(context: AuditContext, training: bool) -> list[str] | None:
    """Names of the modules that the call leaves in the other mode, from where they can be."""
    call = "train" if training else "eval"
    try:
        model = context.rerun.pristine_copy()
        before = [module.training for module in model.modules()]
        put_in_mode(model, not training)
        for module, mode in zip(model.modules(), before, strict=True):
            if mode != training:
                module.training = mode
        model.train() if training else model.eval()
    except Exception as error:
        _cannot_switch(context, call, "", error)
        return None
    return [name for name, module in model.named_modules() if module.training != training]


def _cannot_switch(context: AuditContext, call: str, name: str, error: Exception) -> None:
    if any(f.kind == f"{call}-not-followed" for f in context.findings):
        return
    context.add(
        f"{call}-not-followed",
        name,
        f"{call}() raises {in_one_line(error)}",
        "an override is def train(self, mode=True), and eval() calls it with False",
    )


def _culprits(context: AuditContext, missed: Sequence[str], training: bool) -> dict[str, list[str]]:
    """For each innermost module whose own call misses something: what it misses."""
    culprits: dict[str, list[str]] = {}
    for name in missed:
        chain = [name]
        while chain[-1]:
            chain.append(chain[-1].rpartition(".")[0])
        for ancestor in chain:
            model = context.rerun.pristine_copy()
            module, target = submodule(model, ancestor), submodule(model, name)
            for inside in module.modules():
                inside.training = not training
            put_in_mode(module, training)
            if target.training != training:
                culprits.setdefault(ancestor, []).append(name)
                break
    return culprits


def _frozen_on_purpose(context: AuditContext, name: str) -> bool:
    """A part that ``train()`` leaves in eval mode because someone wanted it so."""
    original = context.modules[name]
    if not any(listens(inside) for inside in original.modules()):
        return True
    parameters = list(original.parameters())
    if parameters and not any(p.requires_grad for p in parameters):
        return True
    if getattr(original, "running_mean", None) is not None:
        return True
    if name:
        model = context.rerun.pristine_copy()
        for inside in model.modules():
            inside.training = True
        put_in_mode(model, True)
        if not submodule(model, name).training:
            return True
    module = submodule(context.rerun.pristine_copy(), name)
    for inside in module.modules():
        inside.training = False
    put_in_mode(module, True)
    held = "train" in vars(module)
    by_itself = not module.training and (held or name != "")
    above = name.rpartition(".")[0]
    return by_itself or (name != "" and above != "" and _frozen_on_purpose(context, above))


def _list(names: Sequence[str]) -> str:
    shown = first_few([name or "the model itself" for name in names])
    return f"{shown} {'is' if len(names) == 1 else 'are'}"


def _top(names: Sequence[str]) -> str:
    """The outermost module below the root that holds all of the names, or their common one."""
    levels = zip(*(name.split(".") for name in names), strict=False)
    shared = itertools.takewhile(lambda parts: len(set(parts)) == 1, levels)
    return ".".join(parts[0] for parts in shared)
