"""Whether eval mode gives one finite answer: in every call, after others, in any gradient mode."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..findings import first_few, off_by
from ..nested import count_non_finite, has_floats, iter_leaves, relative_gap
from ..outside import Place
from ..random_state import GENERATORS
from ..rerun import RerunModel, put_in_mode
from ..snapshot import StateKey, held_state, own_state
from ..torch_internals import own_buffers, own_parameters
from ..tracing import RunRecord, blame
from .context import WHOLE_MODEL, AuditContext, distinct
from .perturb import move_weights, other_values
from .rounding import NEVER_CERTAIN, beyond_rounding

SEEDS_TRIED = 40
"""How many are tried on a model that draws random numbers in eval mode; a quarter of them on a
large one."""
LARGE_MODEL = 1_000_000
"""Parameters of a large model."""
FAST_PATH_ROUNDING = 1e-3
"""How far another order of operations may move an answer."""
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
        apart = relative_gap(context.base.output, run.output)
        if apart > FAST_PATH_ROUNDING:
            context.notes.append(
                "attention's fast path, taken in eval mode without gradients: the answer is "
                f"another one, off {off_by(apart)}; at padded positions it writes zeros"
            )
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
    """Two calls on one input, in eval mode, with different seeds.

    Where the first one drew no random numbers, a call with the same seed decides: see
    :func:`detect_state_and_history`.
    """
    if not context.base.used_randomness:
        return
    large = sum(parameter.numel() for parameter in context.rerun.model.parameters()) > LARGE_MODEL
    last = SEEDS_TRIED // 4 if large else SEEDS_TRIED
    _try_seeds(context, last)
    if not context.random:
        context.notes.append(
            f"random numbers: eval mode draws them, and {last} seeds gave one answer"
        )


def _try_seeds(context: AuditContext, last: int) -> None:
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


def _repeat(context: AuditContext) -> None:
    """Note where one seed gives two answers: nothing can be compared then."""
    again = context.run_or_none(training=False, seed=1)
    if again is not None and relative_gap(context.base.output, again.output) > 0:
        context.repeatable = False
        context.notes.append(
            "history, gradient mode and samples in a batch: two calls with one seed differ"
        )


def detect_state_and_history(context: AuditContext) -> None:
    """What a call leaves behind, and whether it changes a later answer."""
    history = ThreeCalls(context)
    if not history.run():
        return
    _note_constant_output(context, history)
    if history.left_alone():
        return
    if not context.base.used_randomness:
        _try_seeds(context, 2)  # a source of its own, that no seed governs
        if not context.repeatable:
            return
    moved = history.changed(2, 3)
    generators = set()
    for module_name, name, _ in moved:
        if history.is_generator(module_name, name):
            generators.add(module_name)
            context.random = True
            context.add(
                "random-in-eval",
                module_name,
                f"each call in eval mode draws from its generator {name}",
            )
        elif history.is_registered(module_name, name):
            _report_move(context, history, module_name, name, (2, 3))
    apart = {
        "again": relative_gap(history.outputs[1], history.outputs[2]),
        "after another input": relative_gap(context.base.output, history.outputs[1]),
    }
    when = next(
        (w for w, a in apart.items() if a > 0 and context.exceeds_rounding(a, _history)), None
    )
    for key in history.changed(0, 1):
        module_name, name, _ = key
        if not when and history.is_registered(module_name, name) and history.keeps_its_shape(key):
            _report_move(context, history, module_name, name, (0, 1))
    for module_name, name, _ in history.changed(2, 3, floats_only=True):
        if module_name not in generators:
            cure = CURE_FOR_CARRIED_STATE if when else ""
            _report_move(context, history, module_name, name, (2, 3), cure)
    if when and not (context.found("moves-in-eval") or generators):
        names = _blame_history(context, after_other=when != "again")
        kept = history.kept_outside()
        for name in names or [""]:
            context.add(
                "depends-on-history",
                name,
                f"the same input {when} gives another answer, off {off_by(apart[when])}"
                + (f"; the calls change the {kept}, outside the model" if kept else ""),
            )
    elif moved and not when and not context.found("moves-in-eval") and not generators:
        _moves_for_training(context, moved)
        _counts_to_something(context, moved)


def _note_constant_output(context: AuditContext, history: ThreeCalls) -> None:
    """Note that nothing of what happens inside can be seen."""
    floats = [leaf for _, leaf in iter_leaves(context.base.output) if has_floats(leaf)]
    if floats and relative_gap(context.base.output, history.outputs[0]) == 0:
        context.notes.append(
            "what happens inside: the output does not depend on the input (a last layer of zeros?)"
        )


class ThreeCalls:
    """Three calls of one model in eval mode: on another input, then twice on the given one.

    Attributes
    ----------
    outputs
        Of each call.
    """

    def __init__(self, context: AuditContext) -> None:
        self._context = context
        self._model = context.rerun.pristine_copy()
        original = context.rerun.model
        self._like = None if self._model is original else original
        self._at_first = own_state(original) if self._like is None else held_state(original)
        self._outside = context.rerun.outside
        self._at_first |= self._outside.state()
        self._states: list[dict[StateKey, Any]] = [{} if self._like else self._at_first]
        self.outputs: list[Any] = []
        self._modules: dict[str, nn.Module] = {}

    def run(self) -> bool:
        """Make the calls; False where a later one fails, which is said."""
        put_in_mode(self._model, False)
        rerun = self._context.rerun
        # What entering eval mode changes is not changed by a call.
        same = rerun.unchanged() if self._like else ()
        self._states[0] = own_state(self._model, self._like, same) | self._outside.state()
        for inputs in (other_values((rerun.args, rerun.kwargs)), None, None):
            if len(self.outputs) == 2 and self.left_alone():
                break
            run = self._context.run_or_none(
                training=False, seed=1, model=self._model, inputs=inputs
            )
            if run is None and inputs is None:
                text = "a later call on the same input raises an error"
                self._context.add("depends-on-history", "", text)
                return False
            self.outputs.append(run.output if run else None)
            same = rerun.unchanged() if self._like else ()
            state = own_state(self._model, self._like, same)
            self._states.append(state | self._outside.state())
        self._modules = dict(self._model.named_modules())  # some may have been made in forward
        return True

    def left_alone(self) -> bool:
        """Whether two calls changed nothing, neither the model nor the answer."""
        unchanged = not self.changed(0, 1) and not self.changed(1, 2)
        return unchanged and relative_gap(self._context.base.output, self.outputs[1]) == 0

    def value(self, when: int, key: StateKey) -> Any:
        """What stood in a place before the first call (0) or after so many; None if nothing."""
        return self._states[when].get(key, self._at_first.get(key))

    def changed(self, one: int, other: int, *, floats_only: bool = False) -> list[StateKey]:
        """The places in which something stood both times, and not the same."""
        places = dict.fromkeys([*self._states[one], *self._states[other]])
        found = []
        for key in places:
            before, after = self.value(one, key), self.value(other, key)
            if before is None or after is None or relative_gap(before, after) == 0:
                continue
            if not floats_only or (isinstance(before, Tensor) and before.is_floating_point()):
                found.append(key)
        return found

    def keeps_its_shape(self, key: StateKey) -> bool:
        """Whether a place holds numbers of one shape, before the first call and after."""
        before, after = self.value(0, key), self.value(1, key)
        both = isinstance(before, Tensor) and isinstance(after, Tensor)
        return both and before.shape == after.shape and before.dtype == after.dtype

    def is_registered(self, module: str, name: str) -> bool:
        """Whether a name is a parameter or a buffer."""
        return self.kind(module, name) in ("buffer", "parameter")

    def kind(self, module: str, name: str) -> str:
        """``"buffer"``, ``"parameter"``, ``"attribute"``, or nothing: outside, its name says it."""
        if self._outside.place(module, name):
            return ""
        found = self._modules.get(module)
        if found is not None and name in own_buffers(found):
            return "buffer"
        return "parameter" if found is not None and name in own_parameters(found) else "attribute"

    def kept_outside(self) -> str:
        """Name what the calls changed outside the model, if they did."""
        places = {self._outside.place(*key[:2]) for key in self._states[-1]} - {None}
        names = [
            place.label
            for place in places
            if place and relative_gap(self._at(0, place), self._at(-1, place)) > 0
        ]
        return first_few(sorted(names))

    def _at(self, when: int, place: Place) -> dict[str, Any]:
        """What stood in a place outside the model, by where it stood in that."""
        key = (place.module, place.label)
        return {path: leaf for (*name, path), leaf in self._states[when].items() if (*name,) == key}

    def is_generator(self, module: str, name: str) -> bool:
        """Whether an attribute, or what stands outside the model, draws random numbers."""
        place = self._outside.place(module, name)
        value = place.get() if place else vars(self._modules[module]).get(name)
        return isinstance(value, GENERATORS)


def _report_move(
    context: AuditContext,
    history: ThreeCalls,
    module: str,
    name: str,
    between: tuple[int, int],
    cure: str = "",
) -> None:
    """Report that a parameter, a buffer or an attribute moved between two of the calls."""
    apart = max(
        relative_gap(history.value(between[0], key), history.value(between[1], key))
        for key in history.changed(*between)
        if key[:2] == (module, name)
    )
    if context.found("random-in-eval") & {module}:
        return
    what = f"{history.kind(module, name)} {name}".strip()
    evidence = f"a call in eval mode changes the {what} {off_by(apart)}"
    context.add("moves-in-eval", module, evidence, cure)


def _moves_for_training(context: AuditContext, moved: Iterable[StateKey]) -> None:
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


def _counts_to_something(context: AuditContext, moved: Iterable[StateKey]) -> None:
    """Whether an answer changes after some more calls, where something counts them."""
    model = context.rerun.pristine_copy()
    put_in_mode(model, False)
    for _ in range(9):
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
    calls = blame(first, later, beyond_rounding, weights_count=False)
    return list(dict.fromkeys(call.name for call in calls))


def detect_stale_weights(context: AuditContext) -> None:
    """Whether eval mode answers with the weights that it has now, also after more training.

    The same training step is made on two copies, one of which has answered in eval mode before.
    """
    explained = ("depends-on-history", "moves-in-eval", "eval-not-followed")
    if context.random or any(map(context.found, explained)):
        return
    try:
        apart = _stale(context.rerun)
    except Exception:
        return  # it cannot be put through a training step here
    if apart > 0 and context.exceeds_rounding(apart, _stale):
        fresh = _after_training(context.rerun, trace=True)
        used = _after_training(context.rerun, answers_first=True, trace=True)
        calls = distinct(blame(fresh, used, beyond_rounding, weights_count=False))
        for call in calls or [WHOLE_MODEL]:
            context.add(
                "depends-on-history",
                call.name,
                "after one answer in eval mode and a training step, eval mode still uses what it "
                f"made of the old weights, off {off_by(apart)}",
                "what is made of the weights in eval mode is to be made anew: throw it away in "
                "train(mode)",
            )


def _after_training(
    rerun: RerunModel, *, answers_first: bool = False, trace: bool = False
) -> RunRecord:
    """An answer in eval mode after a training step, and perhaps after an answer before that."""
    model = rerun.pristine_copy()
    if answers_first:
        put_in_mode(model, False)
        rerun.run(training=False, seed=1, model=model)
    put_in_mode(model, True)
    with contextlib.suppress(Exception):
        rerun.run(training=True, seed=1, model=model)
    move_weights(model)
    put_in_mode(model, False)
    return rerun.run(training=False, seed=1, model=model, trace=trace)


def detect_gradient_mode(context: AuditContext) -> None:
    """Whether eval mode answers alike with and without gradients."""
    if context.rerun.usual_grad == "grad":
        return  # it answers in one of them only
    for grad, words in (("grad", "with gradients on"), ("inference", "in inference mode")):
        run = context.run_or_note(f"eval mode {words}", training=False, seed=1, grad=grad)
        if run is None:
            continue
        apart = relative_gap(context.base.output, run.output)
        if apart > 0 and context.exceeds_rounding(
            apart, partial(_two_grad_modes, grad=grad), certain_above=NEVER_CERTAIN
        ):
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


def _stale(rerun: RerunModel) -> float:
    used = _after_training(rerun, answers_first=True)
    return relative_gap(_after_training(rerun).output, used.output)


def _finite(value: Any) -> bool:
    return all(bool(leaf.isfinite().all()) for _, leaf in iter_leaves(value) if has_floats(leaf))
