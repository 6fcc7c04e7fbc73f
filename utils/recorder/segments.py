"""Stretches of forwards that are alike: counted while they come in, without torch."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

MAX_BARS = 1000
"""Stretches that are kept for the timeline."""


class Settled(Protocol):
    """A forward of which it is known what became of its output."""

    index: int
    use: str
    graph: bool
    input_needs_gradient: bool
    fed_to_trained_network: bool
    used_by_another_step: bool


SituationT = TypeVar("SituationT")


@dataclass(eq=False)
class Segment(Generic[SituationT]):
    """All forwards of one situation and one use.

    Attributes
    ----------
    situation
        What makes forwards alike, but for their use.
    use
        ``"step"``, ``"backward"`` or ``"none"``.
    first, last
        Index of the first and of the last forward.
    forwards, stretches, longest
        How many there were, in how many stretches without another forward between them, and how
        many in the longest one.
    backward_after_settling
        Of how many the output was used after all, later than anyone waited for.
    graphs, input_needs_gradient, fed_to_trained_network, used_by_another_step
        How many recorded a graph; had an input that asked for a gradient; were taken in by a
        network in training; led to the step of an optimiser of somebody else's weights.
    followers
        Which segments came next, and after how many stretches.
    """

    situation: SituationT
    use: str
    first: int
    last: int = 0
    forwards: int = 0
    stretches: int = 0
    longest: int = 0
    backward_after_settling: int = 0
    graphs: int = 0
    input_needs_gradient: int = 0
    fed_to_trained_network: int = 0
    used_by_another_step: int = 0
    followers: Counter[Segment[SituationT]] = field(default_factory=Counter)

    @property
    def learned(self) -> bool:
        """Whether a backward pass used one of its outputs."""
        return self.use != "none" or self.backward_after_settling > 0


@dataclass
class Bar(Generic[SituationT]):
    """One stretch of the timeline."""

    first: int
    segment: Segment[SituationT]
    forwards: int = 0


class Segments(Generic[SituationT]):
    """The segments of a recording, in the order in which they began.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> segments = Segments()
    >>> for index, where in enumerate(["train", "train", "look", "train"]):
    ...     forward = SimpleNamespace(index=index, use="none", graph=True,
    ...         input_needs_gradient=False, fed_to_trained_network=False,
    ...         used_by_another_step=False)
    ...     segment = segments.add(where, forward)
    >>> [(s.situation, s.forwards, s.stretches, s.longest) for s in segments]
    [('train', 3, 2, 2), ('look', 1, 1, 1)]
    """

    def __init__(self) -> None:
        self._by_key: dict[tuple[int, str], Segment[SituationT]] = {}
        self._current: Segment[SituationT] | None = None
        self._in_a_row = 0
        self.bars: list[Bar[SituationT]] = []

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self._by_key.values())

    def add(self, situation: SituationT, forward: Settled) -> Segment[SituationT]:
        """Count one more forward; return its segment."""
        segment = self._current
        if segment is None or segment.situation is not situation or segment.use != forward.use:
            segment = self._begin(situation, forward)
        self._in_a_row += 1
        segment.forwards += 1
        segment.last = forward.index
        if self._in_a_row > segment.longest:
            segment.longest = self._in_a_row
        segment.graphs += forward.graph
        segment.input_needs_gradient += forward.input_needs_gradient
        segment.fed_to_trained_network += forward.fed_to_trained_network
        segment.used_by_another_step += forward.used_by_another_step
        if self.bars[-1].segment is segment:
            self.bars[-1].forwards += 1
        return segment

    def _begin(self, situation: SituationT, forward: Settled) -> Segment[SituationT]:
        key = id(situation), forward.use  # the segment holds the situation: its id stays its own
        segment = self._by_key.get(key)
        if segment is None:
            segment = self._by_key[key] = Segment(situation, forward.use, forward.index)
        if self._current is not None:
            self._current.followers[segment] += 1
        self._current, self._in_a_row = segment, 0
        segment.stretches += 1
        if len(self.bars) < MAX_BARS:
            self.bars.append(Bar(forward.index, segment))
        return segment
