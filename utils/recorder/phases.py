"""From segments to what is printed: one phase for each line of code and way of calling there."""

from __future__ import annotations

from collections.abc import Iterable

from ..findings import first_few
from .model_map import ModelMap
from .report import Phase, Recording
from .segments import Segment
from .situations import Situation


def phases_of(segments: Iterable[Segment[Situation]]) -> dict[Segment[Situation], Phase]:
    """Join the segments that a reader would not tell apart; give the phase of each."""
    phases: dict[tuple[object, ...], Phase] = {}
    found: dict[Segment[Situation], Phase] = {}
    modules: dict[int, dict[str, None]] = {}
    for segment in segments:
        situation = segment.situation
        mode = _mode_of(situation)
        use = "backward" if segment.use == "none" and segment.learned else segment.use
        key = (situation.where, mode, situation.gradients, use)
        phase = phases.get(key)
        if phase is None:
            phase = phases[key] = Phase(
                where=situation.where,
                module=situation.module,
                mode=mode,
                in_train=situation.in_train,
                gradients=situation.gradients,
                use=use,
                forwards=0,
                rounds=0,
                first=segment.first,
                last=segment.last,
            )
        phase.forwards += segment.forwards
        phase.rounds += segment.stretches
        phase.last = max(phase.last, segment.last)
        modules.setdefault(id(phase), {})[situation.module or "(root)"] = None
        found[segment] = phase
    for phase in phases.values():
        names = list(modules[id(phase)])
        if len(names) > 1:
            phase.module = first_few(names)
    return found


def _mode_of(situation: Situation) -> str:
    if situation.listening and 0 < len(situation.in_train) < situation.listening:
        return "mixed"
    if situation.listening:
        return "train" if situation.in_train else "eval"
    return "train" if situation.training else "eval"


def frozen_parts_inside(
    segments: Iterable[Segment[Situation]], model: ModelMap, recording: Recording
) -> list[str]:
    """Note parts with frozen weights that ran in train mode inside the model that was trained.

    Their calls stand in the model's own ``forward``: whether they are meant so, a recording of
    the loop cannot tell.
    """
    told = {finding.where for finding in (*recording.findings, *recording.declared)}
    frozen: dict[str, None] = {}
    for segment in segments:
        situation = segment.situation
        if segment.use == "step" and situation.where not in told:
            layers = [name for name in situation.in_train if name not in situation.trainable]
            frozen |= dict.fromkeys(model.frozen_inside(situation.module, layers))
    if not frozen:
        return []
    has = "has" if len(frozen) == 1 else "have"
    return [
        f"whether {first_few([repr(name) for name in frozen])}, which {has} frozen weights, "
        "should run in train mode inside the forward of a model that is trained"
    ]
