"""What is wrong with a recorded program, decided from its segments when it has ended.

Four principles carry the verdicts, and each excuse below follows from one of them:

1. *What was consumed is no evaluation.* A forward is judged only where no backward pass, no
   network in training and no gradient for an input used its output.
2. *A part's history decides, not its neighbours.* A part that is trained at other times, or
   whose weights follow another network's, may run in train mode in between; a frozen one may not.
3. *What somebody set inside a model in eval mode is on purpose*, Monte Carlo dropout for one; so
   is a momentum that was changed while the program ran.
4. *An evaluation is a run*, or comes turn and turn about with training: a batch that training
   skips is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from ..findings import first_few
from ..kinds import KINDS, PACKAGE
from ..torch_internals import version
from .measured import Measured
from .model_map import ModelMap, ancestors, are_apart
from .report import LoopFinding, Place
from .segments import Segment
from .situations import Situation

SituationSegment: TypeAlias = Segment[Situation]

CURE_FOR_MIXED = (
    f"put the model in eval mode around this loop: with {PACKAGE}.modes.evaluating(model), which "
    "gives each layer its own mode back; model.train() would thaw what is in eval mode"
)
"""Where some layers were in eval mode already."""


@dataclass(frozen=True)
class Evidence:
    """All that a verdict may look at.

    Attributes
    ----------
    segments
        In the order in which they began.
    model
        The model.
    measured
        Of each situation.
    steps
        How many steps of an optimiser there were.
    """

    segments: list[SituationSegment]
    model: ModelMap
    measured: Mapping[Situation, Measured]
    steps: int

    def learned_in(self, situation: Situation) -> int:
        """How many forwards of a situation were learned from."""
        return sum(s.forwards for s in self.segments if s.situation is situation and s.learned)

    def stepped_in(self, situation: Situation) -> bool:
        """Whether a step was made of a forward of a situation."""
        return any(s.situation is situation and s.use == "step" for s in self.segments)

    def part_is_trained(self, name: str) -> bool:
        """Whether something was learned from a forward of a part."""
        return any(s.learned and s.situation.module == name for s in self.segments)


# -- excuses: why a forward in train mode that nothing learned from is none the less right --------


def was_fed_to_training(segment: SituationSegment, evidence: Evidence) -> bool:
    """Principle 1: fakes that a discriminator is trained on; not features of a frozen part."""
    fed = segment.fed_to_trained_network == segment.forwards
    return fed and segment.situation.has_trainable_weights


def carries_no_weights(segment: SituationSegment, evidence: Evidence) -> bool:
    """Principle 1: a layer without weights before a network, whose gradient never comes so far."""
    situation = segment.situation
    return not situation.has_weights and situation.gradients == "on" and not segment.graphs


def feeds_the_next_part(segment: SituationSegment, evidence: Evidence) -> bool:
    """Principle 2: one forward of a trained part, each time before another part learns from it."""
    name = segment.situation.module
    if not name or segment.longest > 1 or not evidence.part_is_trained(name):
        return False
    return bool(segment.followers) and all(
        following.learned and are_apart(following.situation.module, name)
        for following in segment.followers
    )


def follows_another_network(segment: SituationSegment, evidence: Evidence) -> bool:
    """Principle 2: a teacher whose weights are an average of the student's, beside each step."""
    situation = segment.situation
    if not situation.module or not situation.has_weights or segment.longest > 2:
        return False
    weights = list(evidence.model.parts[situation.module].parameters())
    frozen = not any(weight.requires_grad for weight in weights)
    return frozen and any(version(weight) > situation.version for weight in weights)


def was_set_in_eval(segment: SituationSegment, evidence: Evidence) -> bool:
    """Principle 3: some layers in train mode under a root in eval mode.

    A root whose whole inside is in train mode is no such thing, where its statistics move.
    """
    situation = segment.situation
    if situation.lone_layer:
        return True
    moved = evidence.measured[situation].moved
    return not situation.training and not (situation.all_below_in_train and moved)


def averages_before_training(segment: SituationSegment, evidence: Evidence) -> bool:
    """Principle 3: statistics that are taken as plain averages, of a model that never trained."""
    return segment.situation.plain_average and not evidence.steps


EXCUSES: tuple[Callable[[SituationSegment, Evidence], bool], ...] = (
    was_fed_to_training,
    carries_no_weights,
    feeds_the_next_part,
    follows_another_network,
    was_set_in_eval,
    averages_before_training,
)


def is_idle(segment: SituationSegment, evidence: Evidence) -> bool:
    """Principles 1 and 4: nothing learned from it, and it is no batch that training skipped."""
    if segment.learned or segment.situation.purpose:
        return False
    learned = evidence.learned_in(segment.situation)
    if not learned:
        return True
    if segment.longest > 1 and 4 * segment.forwards >= learned:
        return True
    if segment.forwards > 2 and 2 * segment.forwards >= learned:
        return evidence.stepped_in(segment.situation)
    return segment.stretches > 1 and segment.longest > 2


def only_looks(segment: SituationSegment, evidence: Evidence) -> bool:
    """Whether gradients were asked for the inputs alone, as for saliency."""
    return (
        segment.use == "backward"
        and segment.input_needs_gradient == segment.forwards
        and not segment.used_by_another_step
        and not segment.situation.purpose
        and not evidence.stepped_in(segment.situation)
    )


# -- verdicts: one for each kind of finding -------------------------------------------------------


def judge_idle_in_train_mode(evidence: Evidence) -> Iterable[LoopFinding]:
    """Forwards that nothing learned from, with layers that listen in train mode."""
    guilty = [
        segment
        for segment in evidence.segments
        if segment.situation.in_train
        and (is_idle(segment, evidence) or only_looks(segment, evidence))
        and not any(excuse(segment, evidence) for excuse in EXCUSES)
    ]
    for where, segments in _by_line(guilty):
        in_train = {name for segment in segments for name in segment.situation.in_train}
        listening = {
            name
            for segment in segments
            for name, _ in evidence.model.layers_of(segment.situation.module)
        }
        classes = {type(evidence.model.listening[name]).__name__ for name in in_train}
        text = (
            f"nothing learned from {_count(segments)}, and {len(in_train)} of "
            f"{len(listening)} layers that listen to the mode were in train mode "
            f"({first_few(sorted(classes))})"
        )
        moved: dict[str, float] = {}
        for segment in segments:
            for name, far in evidence.measured[segment.situation].moved.items():
                moved[name] = max(far, moved.get(name, 0.0))
        if moved:
            name = max(moved, key=lambda n: moved[n])
            text += (
                f"; the running statistics of {len(moved)} of them moved, those of {name!r} by "
                f"{moved[name]:.2g} standard deviations"
            )
        mixed = len(in_train) < len(listening)
        yield _finding("evaluated-in-train-mode", where, text, CURE_FOR_MIXED if mixed else "")


def judge_unused_graphs(evidence: Evidence) -> Iterable[LoopFinding]:
    """Forwards that nothing learned from, with a graph."""
    unused = [s for s in evidence.segments if s.graphs and is_idle(s, evidence)]
    for where, segments in _by_line(unused):
        held = [evidence.measured[segment.situation].graph_bytes for segment in segments]
        size = max((count for count in held if count is not None), default=None)
        words = "" if size is None else f", which held {_size(size)} for a batch"
        yield _finding(
            "graph-never-used",
            where,
            f"{_count(segments)} recorded a graph that no backward pass used{words}",
        )


def judge_training_in_eval_mode(evidence: Evidence) -> Iterable[LoopFinding]:
    """Steps made of forwards with the whole model in eval mode."""
    guilty = [
        segment
        for segment in evidence.segments
        if segment.use == "step" and segment.situation.whole_in_eval and segment.situation.trainable
    ]
    listening = evidence.model.listening.items()
    names = first_few([f"{name!r} ({type(layer).__name__})" for name, layer in listening])
    for where, segments in _by_line(guilty):
        yield _finding(
            "trained-in-eval-mode",
            where,
            f"{_count(segments)} with the whole model in eval mode led to optimiser "
            f"steps; layers that listen to the mode: {names}",
        )


def judge_thawing(evidence: Evidence) -> Iterable[LoopFinding]:
    """Layers that training kept in eval mode, or that came in it, and that training thaws."""
    trained = [
        segment
        for segment in evidence.segments
        if segment.use == "step"
        and not segment.situation.whole_in_eval
        and not segment.situation.purpose
        and segment.input_needs_gradient < segment.forwards  # a gradient in a mode of its own
    ]
    for segment in trained:
        situation = segment.situation
        thawed: dict[str, str] = {}
        for name in situation.in_train:
            before = _frozen_before(name, segment, trained, evidence)
            if before:
                thawed[name] = before
        if thawed:
            first = next(iter(thawed.values()))
            names = first_few([repr(name) for name in thawed])
            verbs = ("was", "is") if len(thawed) == 1 else ("were", "are")
            yield _finding(
                "thawed",
                situation.where,
                f"{names} {verbs[0]} in eval mode {first}, and {verbs[1]} in train mode here",
            )


def _frozen_before(
    name: str, segment: SituationSegment, trained: list[SituationSegment], evidence: Evidence
) -> str:
    """When a layer had been in eval mode on purpose before a segment ended, in words."""
    now_trainable = name in segment.situation.trainable
    for earlier in trained:
        inside = {layer for layer, _ in evidence.model.layers_of(earlier.situation.module)}
        if (
            earlier.first < segment.last
            and name in inside
            and name not in earlier.situation.in_train
            and not (now_trainable and name not in earlier.situation.trainable)
        ):
            return f"while the model was trained at {earlier.situation.where}"
    if name in evidence.model.frozen_at_start and not now_trainable:
        return "when the recording began"
    return ""


def judge_frozen_parts(evidence: Evidence) -> Iterable[LoopFinding]:
    """Layers whose weights are frozen, and whose running statistics moved while others learned."""
    for segment in evidence.segments:
        situation = segment.situation
        if segment.use != "step" or situation.purpose:
            continue
        frozen = [name for name in situation.in_train if name not in situation.trainable]
        moved = evidence.measured[situation].moved
        moving = [name for name in frozen if name in moved and not _changes(name, evidence)]
        if moving:
            names = first_few([repr(name) for name in moving])
            farthest = max(moving, key=lambda name: moved[name])
            yield _finding(
                "frozen-part-in-train-mode",
                situation.where,
                f"{names} {'has' if len(moving) == 1 else 'have'} frozen weights, and the running "
                f"statistics of {len(moving)} moved while the rest was trained, those of "
                f"{farthest!r} by {moved[farthest]:.2g} standard deviations",
            )


def _changes(name: str, evidence: Evidence) -> bool:
    """Principle 2: whether the part is trained at other times, or follows another network."""
    outer = [part for part in ancestors(name)[:-1] if evidence.model.frozen_weights_changed(part)]
    trained = [s for s in evidence.segments if s.learned and name in s.situation.trainable]
    return bool(outer or trained)


VERDICTS: tuple[Callable[[Evidence], Iterable[LoopFinding]], ...] = (
    judge_idle_in_train_mode,
    judge_unused_graphs,
    judge_training_in_eval_mode,
    judge_thawing,
    judge_frozen_parts,
)


def judge(evidence: Evidence) -> list[LoopFinding]:
    """Apply every verdict; a line has one finding of a kind."""
    found: dict[tuple[str, Place], LoopFinding] = {}
    for verdict in VERDICTS:
        for finding in verdict(evidence):
            found.setdefault((finding.kind, finding.where), finding)
    thawed = {where for kind, where in found if kind == "thawed"}
    return [
        finding
        for (kind, where), finding in found.items()
        if kind != "frozen-part-in-train-mode" or where not in thawed  # which says it already
    ]


def _by_line(
    segments: Iterable[SituationSegment],
) -> Iterable[tuple[Place, list[SituationSegment]]]:
    lines: dict[Place, list[SituationSegment]] = {}
    for segment in segments:
        lines.setdefault(segment.situation.where, []).append(segment)
    return lines.items()


def _count(segments: Iterable[SituationSegment]) -> str:
    count = sum(segment.forwards for segment in segments)
    return f"{count} forward{'' if count == 1 else 's'}"


def _finding(kind: str, where: Place, evidence: str, cure: str = "") -> LoopFinding:
    return LoopFinding(kind, evidence, cure or KINDS[kind].cure, where)


def _size(count: float) -> str:
    """Write a number of bytes with three digits.

    Examples
    --------
    >>> _size(5432), _size(7e9)
    ('5.43 kB', '7 GB')
    """
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"
