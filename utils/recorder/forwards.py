"""Forwards while the program runs: when they begin and end, and what becomes of their output."""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from ..nested import iter_leaves
from ..torch_internals import (
    graph_bytes,
    has_wrapped_tensors,
    in_backward_pass,
    last_value,
    storage,
    versions,
    weak_memory,
)
from .callers import CallerFinder
from .measured import Measured, StatisticsWatch
from .model_map import ModelMap
from .segments import Segment, Segments
from .situations import Situation, SituationFinder

MAX_PENDING = 256
"""Forwards that may wait for their backward pass before they count as not used."""
REGULAR = 16
"""Forwards of a situation, each with its own step, after which the next is taken to have one.

A hook in the backward pass of a small network costs as much as one of its layers. Where the step
does not come before the next forward, the one that was taken for granted counts as not used, and
all are watched again.
"""


@dataclass(slots=True)
class Forward:
    """One outermost forward, until it is known what became of its output.

    Attributes
    ----------
    situation, index
        What is known of it from the beginning, and its number.
    use
        ``"none"``, ``"backward"`` or ``"step"``, so far.
    input_needs_gradient
        Whether an input asked for a gradient, as for saliency or an attack.
    graph
        Whether a graph was recorded.
    fed_to_trained_network
        Whether a network in training took its output in, as a discriminator does with fakes.
    used_by_another_step
        Whether an optimiser of other weights stepped on it.
    gradients_cleared
        Whether the weights had no gradient any more when the next forward began.
    segment
        Where it was counted.
    """

    situation: Situation
    index: int
    use: str = "none"
    input_needs_gradient: bool = False
    graph: bool = False
    fed_to_trained_network: bool = False
    used_by_another_step: bool = False
    gradients_cleared: bool = False
    segment: Segment[Situation] | None = None


class ForwardLog:
    """Collects the forwards of one model, and asks what became of each.

    Attributes
    ----------
    segments
        The forwards whose use is known.
    measured
        What was measured in each situation.
    forwards, steps
        How many there were.
    calls_from_other_threads
        Whether there were any, which are not watched.
    calls_of_copies
        How many were seen, and not watched.
    """

    def __init__(self, model: ModelMap) -> None:
        self.model = model
        self.segments: Segments[Situation] = Segments()
        self.measured: dict[Situation, Measured] = {}
        self.forwards = self.steps = 0
        self.calls_from_other_threads, self.calls_of_copies = False, 0
        self._callers, self._situations = CallerFinder(), SituationFinder(model)
        self._statistics = StatisticsWatch(model.listening)
        self._thread = threading.get_ident()
        self._current: Forward | None = None
        self._pending: deque[Forward] = deque()
        self._used: deque[Forward] = deque(maxlen=16 * MAX_PENDING)
        self._recent: deque[tuple[int, Any, Forward]] = deque(maxlen=2)
        self._regular: Counter[Situation] = Counter()
        self._granted: Forward | None = None
        self._strangers: dict[int, bool] = {}
        self._owned: WeakKeyDictionary[Optimizer, bool] = WeakKeyDictionary()
        self._last_optimizer: tuple[ref[Optimizer] | None, bool] = (None, False)
        self._watched_weights = model.watched_weights()
        self._versions: list[int] = []
        self._values: list[complex | None] | None = self._weight_values()

    # -- calls -------------------------------------------------------------------------------

    def begin(self, module: nn.Module, args: tuple[Any, ...], frame: FrameType) -> bool:
        """Note a call that begins; say whether it is one to look at.

        Parameters
        ----------
        module, args
            What was called, and on what.
        frame
            Where the call stands.
        """
        if self._recent:
            self._notice_feeding(module, args)
        found = self.model.find(module)
        if found is None:
            self._notice_stranger(module)
            return False
        if threading.get_ident() != self._thread:
            self.calls_from_other_threads = True
            return False
        if args and isinstance(args[0], torch.fx.Proxy):  # torch.fx reads the model, with no data
            return False
        if in_backward_pass():  # a checkpoint that runs again
            return False
        if self._granted is not None:
            self._granted = None
            self._regular.clear()
        if self._used:
            self._notice_steps_by_hand()
            self._notice_cleared_gradients()
        situation = self._situations.find(self._callers.find(frame), module, *found)
        measured = self.measured.get(situation)
        if measured is None:
            measured = self.measured[situation] = Measured()
        self._statistics.enter(situation, measured)
        self._current = Forward(situation, self.forwards)
        self.forwards += 1
        return True

    def abandon(self) -> Forward | None:
        """Close what a call has opened; all that is left to do where it ended with an error."""
        forward, self._current = self._current, None
        return forward

    def end(self, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Note what a call gave, and ask to be told what becomes of it."""
        forward = self.abandon()
        if forward is None:
            return
        situation = forward.situation
        if self._regular[situation] >= REGULAR:
            self._granted, forward.graph = forward, True
            self._wait(forward)
            return
        forward.input_needs_gradient = _needs_gradient(args, kwargs)
        outputs = _tensors(output)
        if situation.gradients == "on":
            measured = self.measured[situation]
            if measured.graph_bytes is None and not has_wrapped_tensors():
                measured.graph_bytes = graph_bytes(outputs, self.model.weights)
        for tensor in outputs:
            if situation.in_train:
                memory = weak_memory(tensor)
                if memory is not None:
                    self._recent.append((*memory, forward))
            if tensor.grad_fn is not None:
                forward.graph = True
                self._watch_backward(tensor.grad_fn, forward)
        self._wait(forward)

    def _wait(self, forward: Forward) -> None:
        """Keep a forward open, in the order in which they came."""
        self._pending.append(forward)
        if len(self._pending) > MAX_PENDING:
            self._settle(self._pending.popleft())

    def close(self, *, midway: bool = False) -> None:
        """Settle what is open: nothing more will become of it.

        Parameters
        ----------
        midway
            Whether the program goes on with the last outputs: then nothing is said of those.
        """
        self._notice_steps_by_hand()
        self._statistics.close(last=True)
        while midway and self._pending and self._pending[-1].graph:
            if self._pending[-1].use != "none":
                break
            self._pending.pop()
            self.forwards -= 1
        while self._pending:
            self._settle(self._pending.popleft())

    def _settle(self, forward: Forward) -> None:
        """Count a forward whose use is known, or given up on."""
        forward.segment = self.segments.add(forward.situation, forward)

    def _notice_feeding(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """An output that another network is trained on, as a discriminator is on fakes."""
        for value in args:
            given = storage(value)
            if given is None:
                continue
            for place, memory, forward in self._recent:
                alive = place == given.data_ptr() and not memory.expired()
                if alive and torch.is_grad_enabled():
                    forward.fed_to_trained_network |= module.training and any(
                        p.requires_grad for p in module.parameters()
                    )

    def _notice_stranger(self, module: nn.Module) -> None:
        """A module that is no part of the model, and may be a copy of it."""
        if type(module) is not type(self.model.root):
            return
        is_copy = self._strangers.get(id(module))
        if is_copy is None:
            is_copy = self._strangers[id(module)] = self.model.resembles(module)
        self.calls_of_copies += is_copy

    # -- backward passes and steps -----------------------------------------------------------

    def _watch_backward(self, node: Any, forward: Forward) -> None:
        """Learn of a backward pass through an output.

        The hook is on the node of the graph, not on the tensor, which can be saved as without.
        """

        def used(gradients: Any) -> None:
            if forward.use == "none":
                forward.use = "backward"
                if not self._used:  # steps by hand are looked for from here on
                    self._versions = versions(self._watched_weights)
                self._used.append(forward)
                if forward.segment is not None:
                    forward.segment.backward_after_settling += 1

        node.register_prehook(used)

    def on_optimizer_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Note a step: of the model's weights, or of somebody else's."""
        last, owned = self._last_optimizer
        if last is None or last() is not optimizer:
            owned = self._owns(optimizer)
            self._last_optimizer = ref(optimizer), owned
        if owned:
            self._notice_regularity()
            self._count_step()
            self._values = None  # to be read again only where a step by hand may have been
        else:
            for forward in self._used:
                forward.used_by_another_step = True

    def _notice_regularity(self) -> None:
        """Whether one forward has led to this step, and to nothing else."""
        if self._granted is not None:
            self._granted.use, self._granted = "step", None
        elif len(self._used) == 1 and self._used[0].index == self.forwards - 1:
            forward = self._used[0]
            beside = forward.fed_to_trained_network or forward.used_by_another_step
            if not (beside or forward.input_needs_gradient or forward.gradients_cleared):
                self._regular[forward.situation] += 1
        elif self._used:
            self._regular.clear()

    def _owns(self, optimizer: Optimizer) -> bool:
        """Whether an optimiser has a weight of the model among its own."""
        owned = self._owned.get(optimizer)
        if owned is None:
            # Those of now too: loading may have replaced weights.
            ours = {*map(id, self.model.weights), *map(id, self.model.root.parameters())}
            owned = self._owned[optimizer] = any(
                id(weight) in ours for group in optimizer.param_groups for weight in group["params"]
            )
        return owned

    def _count_step(self) -> None:
        self.steps += 1
        # A gradient taken in eval mode, for saliency or an attack, is not what a step is made of
        # where there is one of train mode too, and it was for the input or has been cleared.
        all_in_eval = all([forward.situation.whole_in_eval for forward in self._used])
        for forward in self._used:
            beside = forward.input_needs_gradient or forward.gradients_cleared
            if all_in_eval or not (forward.situation.whole_in_eval and beside):
                forward.use = "step"
        self._used.clear()
        self._recent.clear()

    def _notice_cleared_gradients(self) -> None:
        """Gradients that were set to None since the last backward pass."""
        if any(w.requires_grad and w.grad is not None for w in self._watched_weights):
            return
        for forward in self._used:
            forward.gradients_cleared = True

    def _notice_steps_by_hand(self) -> None:
        """Weights that were changed without an optimiser since the last backward pass."""
        if not self._used:
            return
        # What is changed by way of ``.data`` keeps its version, and has other values.
        if has_wrapped_tensors():
            return
        before, self._values = self._values, self._weight_values()
        if versions(self._watched_weights) != self._versions or before not in (None, self._values):
            self._count_step()
            self._versions = versions(self._watched_weights)

    def _weight_values(self) -> list[complex | None]:
        return [last_value(weight) for weight in self._watched_weights]


def _tensors(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    if type(output) in (tuple, list) and all(isinstance(item, Tensor) for item in output):
        return list(output)
    return [leaf for _, leaf in iter_leaves(output) if isinstance(leaf, Tensor)]


def _needs_gradient(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    if len(args) == 1 and not kwargs and isinstance(args[0], Tensor):
        return args[0].requires_grad
    return any(t.requires_grad for t in _tensors((args, kwargs)))
