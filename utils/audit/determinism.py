"""Whether eval mode gives one finite answer: in every call, after others, in any gradient mode."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..findings import off_by
from ..nested import count_non_finite, has_floats, iter_leaves, relative_gap
from ..random_state import GENERATORS
from ..rerun import RerunModel, blame, put_in_mode, submodule
from ..snapshot import own_state
from .context import WHOLE_MODEL, AuditContext, beyond_rounding
from .perturb import other_values

SEEDS = 40
"""How many are tried on a model that draws random numbers in eval mode; a quarter of them on a
large one."""
LARGE = 1_000_000
"""Parameters of a large model."""
CURE_FOR_CARRIED_STATE = (
    "update it only where self.training is true; if it carries something from call to call on "
    "purpose, pass it in and return it"
)


def detect_non_finite_output(context: AuditContext) -> None:
    """Outputs that are not finite, also by way of attention's inference path."""
    run = context.base
    if any("Transformer" in type(m).__name__ for m in context.rerun.model.modules()):
        torch.backends.mha.set_fastpath_enabled(True)
        run = context.run_or_note("the inference path", training=False, seed=1) or run
        torch.backends.mha.set_fastpath_enabled(False)
    count = count_non_finite(run.output)
    if not count or count_non_finite((context.rerun.args, context.rerun.kwargs)):
        return
    traced = context.rerun.run(training=False, seed=1, trace=True)
    guilty = next(
        (c for c in traced.as_ended() if not _finite(c.outputs) and _finite(c.inputs)),
        None,
    )
    name = guilty.name if guilty else ""
    context.add("non-finite-output", name, f"{count} values of the output are nan or infinite")


def detect_randomness(context: AuditContext) -> None:
    """Two calls on one input, in eval mode, with different seeds."""
    large = sum(parameter.numel() for parameter in context.rerun.model.parameters()) > LARGE
    last = (SEEDS // 4 if large else SEEDS) if context.base.used_randomness else 2
    for seed in range(2, last + 1):
        other = context.run_or_note("a second call", training=False, seed=seed)
        if other is None:
            return
        apart = relative_gap(context.base.output, other.output)
        if apart > 0 and context.exceeds_rounding(apart, partial(_two_seeds, seed=seed)):
            calls = context.blamed({"seed": 1}, {"seed": seed}, lambda a, b: relative_gap(a, b) > 0)
            check = partial(_two_seeds, seed=seed)
            for call in calls or [WHOLE_MODEL]:
                context.report(
                    "random-in-eval", call, f"two calls on one input differ {off_by(apart)}", check
                )
            context.random = True
            _repeat(context)
            return
    if context.base.used_randomness:
        context.notes.append(
            f"random numbers: eval mode draws them, and {last} seeds gave one answer"
        )


def _repeat(context: AuditContext) -> None:
    """Note where one seed gives two answers: nothing can be compared then."""
    again = context.run_or_none(training=False, seed=1)
    if again is not None and relative_gap(context.base.output, again.output) > 0:
        context.repeatable = False
        context.notes.append(
            "history, gradient mode and samples in a batch: two calls with one seed differ"
        )


def detect_state_and_history(context: AuditContext) -> None:
    """What one call leaves behind, and whether it changes a later answer."""
    model = context.rerun.pristine_copy()
    put_in_mode(model, False)
    states = []
    outputs: list[Any] = []
    other = other_values((context.rerun.args, context.rerun.kwargs))
    states.append(own_state(model))
    for inputs in (other, None, None):
        if len(outputs) == 2 and _left_alone(context, states, outputs[1]):
            return
        run = context.run_or_none(training=False, seed=1, model=model, inputs=inputs)
        if run is None and inputs is None:
            context.add("depends-on-history", "", "a later call on the same input raises an error")
            return
        outputs.append(run.output if run else None)
        states.append(own_state(model))
    before, after = states[2:]
    moved = [key for key in before if key in after and relative_gap(before[key], after[key]) > 0]
    generators = set()
    for module_name, name, _ in moved:
        module = submodule(model, module_name)
        if isinstance(vars(module).get(name), GENERATORS):
            generators.add(module_name)
            context.random = True
            context.add(
                "random-in-eval",
                module_name,
                f"each call in eval mode draws from its generator {name}",
            )
        elif name in module._buffers or name in module._parameters:
            kind = "buffer" if name in module._buffers else "parameter"
            _moves(context, module_name, name, kind, before, after)
    apart = {
        "again": relative_gap(outputs[1], outputs[2]),
        "after another input": relative_gap(context.base.output, outputs[1]),
    }
    when = next(
        (w for w, a in apart.items() if a > 0 and context.exceeds_rounding(a, _history)), None
    )
    for key in moved:
        module_name, name, _ = key
        loose = isinstance(before[key], Tensor) and before[key].is_floating_point()
        if loose and module_name not in generators:
            _moves(
                context,
                module_name,
                name,
                "attribute",
                before,
                after,
                CURE_FOR_CARRIED_STATE if when else "",
            )
    if when and not (context.found("moves-in-eval") or generators):
        names = _blame_history(context, after_other=when != "again")
        for name in names or [""]:
            context.add(
                "depends-on-history",
                name,
                f"the same input {when} gives another answer, off {off_by(apart[when])}",
            )
    elif moved and not when and not context.found("moves-in-eval") and not generators:
        _moves_for_training(context, moved)
        _counts_to_something(context, model, moved)


def _left_alone(context: AuditContext, states: Sequence[Mapping[Any, Any]], output: Any) -> bool:
    """Whether two calls changed nothing, neither the model nor the answer."""
    first, *others = states
    return relative_gap(context.base.output, output) == 0 and all(
        state.keys() == first.keys()
        and all(relative_gap(first[key], state[key]) == 0 for key in first)
        for state in others
    )


def _moves(
    context: AuditContext,
    module: str,
    name: str,
    kind: str,
    before: Any,
    after: Any,
    cure: str = "",
) -> None:
    apart = max(
        relative_gap(before[key], after[key])
        for key in before
        if key[:2] == (module, name) and key in after
    )
    if context.found("random-in-eval") & {module}:
        return
    evidence = f"a call in eval mode changes the {kind} {name} {off_by(apart)}"
    context.add("moves-in-eval", module, evidence, cure)


def _moves_for_training(context: AuditContext, moved: Iterable[tuple[str, str, str]]) -> None:
    """Numbers that move in eval mode and change what train mode then answers."""
    first = context.run_or_none(training=True, seed=1)
    model = context.rerun.pristine_copy()
    put_in_mode(model, False)
    for _ in range(2):
        context.run_or_none(training=False, seed=1, model=model)
    put_in_mode(model, True)
    later = context.run_or_none(training=True, seed=1, model=model)
    if first is None or later is None or relative_gap(first.output, later.output) == 0:
        return
    for module, name, _ in moved:
        context.add(
            "moves-in-eval",
            module,
            f"a call in eval mode changes the attribute {name}, which train mode uses",
        )


def _counts_to_something(
    context: AuditContext, model: nn.Module, moved: Iterable[tuple[str, str, str]]
) -> None:
    """Whether an answer changes after some more calls, where something counts them."""
    for _ in range(6):
        run = context.run_or_none(training=False, seed=1, model=model)
        apart = relative_gap(context.base.output, run.output) if run else 0.0
        if apart > 0 and context.exceeds_rounding(apart, lambda _: None):
            module, name, _ = next(iter(moved))
            context.add(
                "depends-on-history",
                module,
                f"after some calls, counted in {name}, the answer is off {off_by(apart)}",
            )
            return


def _blame_history(context: AuditContext, *, after_other: bool) -> list[str]:
    """Trace the two calls that differed: after another input the same one, once or twice."""
    first = context.rerun.run(training=False, seed=1, trace=True)
    model = context.rerun.pristine_copy()
    put_in_mode(model, False)
    other = other_values((context.rerun.args, context.rerun.kwargs))
    context.run_or_none(training=False, seed=1, model=model, inputs=other)
    if not after_other:
        first = context.rerun.run(training=False, seed=1, model=model, trace=True)
    later = context.rerun.run(training=False, seed=1, model=model, trace=True)
    calls = blame(first, later, lambda a, b: relative_gap(a, b) > 1e-6)
    return list(dict.fromkeys(call.name for call in calls))


def detect_gradient_mode(context: AuditContext) -> None:
    """Whether eval mode answers alike with and without gradients."""
    for grad, words in (("grad", "with gradients on"), ("inference", "in inference mode")):
        run = context.run_or_note(f"eval mode {words}", training=False, seed=1, grad=grad)
        if run is None:
            continue
        apart = relative_gap(context.base.output, run.output)
        if apart > 0 and context.exceeds_rounding(apart, partial(_two_grad_modes, grad=grad)):
            calls = context.blamed({"seed": 1}, {"seed": 1, "grad": grad}, beyond_rounding)
            for call in calls or [WHOLE_MODEL]:
                context.add(
                    "mode-from-elsewhere",
                    call.name,
                    f"in eval mode, {words} the output differs from that under no_grad "
                    f"{off_by(apart)}",
                )


def _two_seeds(rerun: RerunModel, *, seed: int) -> float:
    one = rerun.run(training=False, seed=1)
    return relative_gap(one.output, rerun.run(training=False, seed=seed).output)


def _two_grad_modes(rerun: RerunModel, *, grad: str) -> float:
    one = rerun.run(training=False, seed=1)
    return relative_gap(one.output, rerun.run(training=False, seed=1, grad=grad).output)


def _history(rerun: RerunModel) -> float:
    model = rerun.pristine_copy()
    put_in_mode(model, False)
    first = rerun.run(training=False, seed=1, model=model)
    other = other_values((rerun.args, rerun.kwargs))
    with contextlib.suppress(Exception):
        rerun.run(training=False, seed=1, model=model, inputs=other)
    later = rerun.run(training=False, seed=1, model=model)
    return relative_gap(first.output, later.output)


def _finite(value: Any) -> bool:
    return all(bool(leaf.isfinite().all()) for _, leaf in iter_leaves(value) if has_floats(leaf))
