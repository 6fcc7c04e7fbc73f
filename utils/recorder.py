"""Is the loop around a model right? Recorded while it runs, a framework's loop too."""

from __future__ import annotations

import os
import site
import sys
import sysconfig
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from glob import glob
from html import escape
from types import CodeType
from typing import Any, NamedTuple, TypeGuard
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch._dynamo import OptimizedModule
from torch._dynamo.eval_frame import skip_code
from torch.nn.parameter import is_lazy
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from utils.findings import Finding, Report, first_few
from utils.modes import check_module, listens
from utils.trials import leaves

WINDOW = 256
"""Forwards that may wait for their backward pass before they count as not used."""
BLOCK = 8
"""The longest cycle of phases that is folded into one round."""
MEASURED = 3
"""Segments of a kind whose running statistics are compared before and after."""
DRAWN = 1000
"""Segments that are kept for the timeline."""
TAKING_IN = (nn.Sequential, nn.Linear, nn.Conv1d, nn.Conv2d)
"""Classes with which a discriminator, say, begins."""
COMPREHENSIONS = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")
HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
TORCH = os.path.dirname(os.path.abspath(torch.__file__)) + os.sep


class Place(NamedTuple):
    """A line of code: file, line number and function."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        name = "cell" if self.file == "<cell>" else os.path.basename(self.file)
        return f"{name}:{self.line} in {self.function}"


@dataclass(frozen=True)
class LoopFinding(Finding):
    """A finding about one line of a training program.

    Attributes
    ----------
    where : Place
        File, line and function of the call of the model.
    kind, evidence, cure
        See :class:`utils.findings.Finding`. ``kind`` is one of ``"evaluated-in-train-mode"``,
        ``"trained-in-eval-mode"``, ``"graph-never-used"`` and ``"thawed"``.
    """

    where: Place

    @property
    def place(self) -> str:
        """File, line and function, in short."""
        return str(self.where)


@dataclass
class Phase:
    """Consecutive forwards that are alike; a cycle of phases is folded into one round each.

    Attributes
    ----------
    where : Place
        The line that called the model.
    module : str
        Qualified name of what was called, ``""`` for the model itself.
    mode : str
        ``"train"``, ``"eval"`` or ``"mixed"``, by the layers inside that listen to it; that of
        the module called where none does.
    in_train : tuple of str
        Which layers that listen were in train mode.
    gradients : str
        ``"on"``, ``"no_grad"`` or ``"inference"``.
    use : str
        ``"step"`` if an optimiser stepped on a backward pass through the output, ``"backward"``
        if only the backward pass came, else ``"none"``.
    forwards, rounds : int
        How many calls, in how many rounds of a cycle.
    first, last : int
        The first and the last of them, counted over the recording from 0.
    """

    where: Place
    module: str
    mode: str
    in_train: tuple[str, ...]
    gradients: str
    use: str
    forwards: int = 0
    rounds: int = 1
    first: int = 0
    last: int = 0


class _Caller(NamedTuple):
    """Who called a module: the innermost line outside PyTorch, and the line of the user's own."""

    file: str
    line: int
    where: Place
    purpose: str


@dataclass(frozen=True, eq=False)
class _Key:
    """What makes two forwards alike, but for their use."""

    where: Place
    purpose: str
    module: str
    in_train: tuple[str, ...]
    listening: int
    training: bool
    whole_in_eval: bool
    trainable: tuple[str, ...]
    gradients: str
    cumulative: bool
    lone_layer: bool
    all_below_in_train: bool
    version: int


@dataclass(slots=True)
class _Event:
    """One outermost forward, until it is known what became of its output."""

    key: _Key
    index: int
    use: str = "none"
    from_input: bool = False
    graph: bool = False
    fed: bool = False
    elsewhere: bool = False
    segment: _Segment | None = None


@dataclass
class _Segment:
    """Consecutive forwards with the same key and use."""

    key: _Key
    use: str
    first: int
    last: int
    forwards: int = 0
    rounds: int = 1
    longest: int = 0
    late: int = 0
    graph: bool = False
    attacks: int = 0
    fed: int = 0
    elsewhere: int = 0
    merged: _Segment | None = None

    @property
    def kept(self) -> _Segment:
        """The segment that this one was folded into."""
        segment = self
        while segment.merged is not None:
            segment = segment.merged
        return segment

    def take(self, other: _Segment) -> None:
        """Fold in a later segment of the same kind, as one more round."""
        self.forwards += other.forwards
        self.rounds += other.rounds
        self.longest = max(self.longest, other.longest)
        self.last, self.graph = other.last, self.graph or other.graph
        self.late += other.late
        self.attacks += other.attacks
        self.fed += other.fed
        self.elsewhere += other.elsewhere
        other.merged = self

    @property
    def learned(self) -> bool:
        """Whether a backward pass used one of its outputs."""
        return self.use != "none" or self.late > 0


@dataclass(slots=True)
class _Bar:
    """A stretch of the timeline: the forwards of one segment before it is folded into another."""

    first: int
    segment: _Segment
    forwards: int = 0


@dataclass
class _Measured:
    """What was measured of the forwards of one key, at the first few of them."""

    graph_bytes: int | None = None
    segments: int = 0
    statistics: list[tuple[str, Tensor, Tensor, Tensor | float, float]] = field(
        default_factory=list
    )

    @property
    def moved(self) -> dict[str, float]:
        """How far each layer's running mean moved at most, in standard deviations."""
        largest: dict[str, float] = {}
        for name, old, new, variance, eps in self.statistics:
            if not torch.equal(old, new):
                moved = float(((new.detach() - old).abs() / (variance + eps) ** 0.5).max())
                largest[name] = max(largest.get(name, 0.0), moved)
        return largest


class Recording(Report):
    """What :func:`record` saw: phases, and what is wrong with them; prints as a table.

    Attributes
    ----------
    phases : list of Phase
        In the order in which they began.
    findings : list of LoopFinding
    notes : list of str
    bars : list of tuple
        ``(first, forwards, phase)`` for each stretch of a timeline, the first thousand.
    """

    findings: list[LoopFinding]  # type: ignore[assignment]

    def __init__(self, name: str) -> None:
        self.phases: list[Phase] = []
        self.findings = []
        self.notes: list[str] = []
        self.bars: list[tuple[int, int, Phase]] = []
        self.forwards = self.steps = 0
        self._name = name

    def headline(self) -> str:
        """Count forwards, steps and findings."""
        return (
            f"recording of {self._name}: {self.forwards} forwards, {self.steps} optimiser steps, "
            f"{self.tally()}"
        )

    def _rows(self) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = [
            ("forwards", "rounds", "mode", "gradients", "use", "module", "where")
        ]
        for phase in self.phases:
            counts = (str(phase.forwards), str(phase.rounds))
            what = (phase.mode, phase.gradients, phase.use, phase.module or "(root)")
            rows.append((*counts, *what, str(phase.where)))
        return rows

    def __repr__(self) -> str:
        rows = self._rows()
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = [
            "  ".join(f"{cell:{w}}" for cell, w in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        head, *findings = super().__repr__().splitlines()
        return "\n".join([head, *lines, *findings])

    def _repr_html_(self) -> str:
        head, *rows = (
            "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row)
            for tag, row in zip(["th", *["td"] * len(self.phases)], self._rows(), strict=True)
        )
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        return super()._repr_html_() + table


@contextmanager
def record(model: nn.Module) -> Iterator[Recording]:
    """Watch a training program and report where it uses the wrong mode.

    The program is left as it is: same numbers, same modes. Forwards of the model, or of a part
    of it that is called from outside, are noted with the line that called it, the modes of the
    layers that listen, the gradient mode, and what became of the output.

    Parameters
    ----------
    model
        The model that the program trains or evaluates. Modules that are added to it later,
        and calls from other threads, are not seen.

    Yields
    ------
    Recording
        Complete when the block ends, also if it ends with an error.

    Raises
    ------
    TypeError
        If ``model`` is not a module.

    See Also
    --------
    utils.audit.audit : Asks whether the model itself is right.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    >>> with record(net) as recording:
    ...     with torch.no_grad():
    ...         _ = net(torch.ones(4, 2))
    >>> [finding.kind for finding in recording.findings]
    ['evaluated-in-train-mode']
    >>> recording.phases[0].mode, recording.phases[0].use
    ('train', 'none')
    """
    check_module("model", model)
    with _Recorder(model) as recording:
        yield recording


class _Recorder:
    """The hooks, and what they collect."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.recording = Recording(type(model).__name__)
        named = list(model.named_modules())
        self._by_name = dict(named)
        self.classes = _classes(self._by_name.values())
        self._listening = {name: module for name, module in named if listens(module)}
        self._inside = self._find_inside()
        self._with_momentum = [module for _, module in named if "momentum" in vars(module)]
        self._cumulative = {id(m) for m in self._with_momentum if m.momentum is None}
        self._all_parameters = list(model.parameters())
        self._owned: WeakKeyDictionary[Optimizer, bool] = WeakKeyDictionary()
        self._thread = threading.get_ident()
        self._callers: dict[tuple[int, int], tuple[CodeType, _Caller]] = {}
        self._event: _Event | None = None
        self._keys: dict[Any, _Key] = {}
        self._measured: dict[_Key, _Measured] = {}
        self._window: deque[_Event] = deque()
        self._used: deque[_Event] = deque(maxlen=16 * WINDOW)
        self._segments: list[_Segment] = []
        self._bars: list[_Bar] = []
        self._statistics: tuple[_Key, dict[str, Tensor]] | None = None
        self._recent: deque[tuple[Any, _Event]] = deque(maxlen=2)
        self._count = 0
        # The first and the last weight: enough to see that someone changed the weights.
        weights = [
            weight
            for weight in self._all_parameters
            if is_lazy(weight) or not weight.is_inference()
        ]
        self._weights = [*weights[:1], *weights[-1:]]
        self._versions = self._weight_versions()
        self._values: list[complex] | None = self._weight_values()

    def _find_inside(self) -> dict[int, tuple[str, list[tuple[str, nn.Module]]]]:
        """For each part with weights or layers that listen, its name and those layers."""
        inside: dict[str, list[tuple[str, nn.Module]]] = {}
        for name, module in self._by_name.items():
            hears = name in self._listening
            if hears or any(weight is not None for weight in module._parameters.values()):
                for part in _around(name):
                    layers = inside.setdefault(part, [])
                    if hears:
                        layers.append((name, module))
        return {id(self._by_name[part]): (part, layers) for part, layers in inside.items()}

    @cached_property
    def _core(self) -> list[nn.Module]:
        """The modules of the innermost part that holds every listening layer and every weight.

        What is around it are bare wrappers, whose mode says nothing.
        """
        core = self.model
        while type(core).train is nn.Module.train:  # or it may freeze what is inside on purpose
            inner = [m for m in core.children() if next(m.parameters(), None) is not None]
            if len(inner) != 1 or "train" in vars(inner[0]) or not inner[0]._modules:
                break
            inside = {id(module) for module in inner[0].modules()}
            own = next(core.parameters(recurse=False), None) is not None
            if own or not all(id(module) in inside for module in self._listening.values()):
                break
            core = inner[0]
        return list(core.modules())

    def __enter__(self) -> Recording:
        self._handle = register_optimizer_step_post_hook(self._stepped)
        _start(self)
        return self.recording

    def __exit__(self, *_: object) -> None:
        _stop(self)
        self._handle.remove()
        self._close()

    # -- while the program runs ----------------------------------------------------------

    def begin(self, module: nn.Module, args: tuple[Any, ...]) -> bool:
        """Note a call that begins; say whether it is one to look at."""
        if self._recent:
            self._notice_feeding(module, args)
        found = self._inside.get(id(module))
        if found is None and "_orig_mod" in module._modules:  # what torch.compile has wrapped
            found = self._inside.get(id(module._modules["_orig_mod"]))
        if found is None or threading.get_ident() != self._thread:
            return False
        if args and isinstance(args[0], torch.fx.Proxy):  # torch.fx reads the model, with no data
            return False
        if torch._C._current_graph_task_id() != -1:
            # A checkpoint that runs again during a backward pass.
            return False
        if self._used:
            self._notice_steps_by_hand()
        key = self._key(module, *found)
        self._watch_statistics(key, self._measured[key])
        self._event = _Event(key, self._count)
        self._count += 1
        _WAITING.remove(self)
        return True

    def finish(self) -> _Event | None:
        """Close what a call has opened; all that is left to do where it ended with an error."""
        event, self._event = self._event, None
        if self in _RUNNING:  # or the recording has ended inside the call
            _WAITING.append(self)
        return event

    def end(self, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Note what a call gave, and ask to be told what becomes of it."""
        event = self.finish()
        if event is None:
            return
        event.from_input = _needs_gradient(args, kwargs)
        outputs = _tensors(output)
        measured = self._measured[event.key]
        if measured.graph_bytes is None and event.key.gradients == "on" and not _is_traced():
            measured.graph_bytes = _graph_bytes(outputs, self._all_parameters)
        for tensor in outputs:
            if event.key.in_train:
                storage = _storage(tensor)
                if storage is not None:
                    self._recent.append((storage, event))
            if tensor.grad_fn is not None:
                event.graph = True
                self._ask(tensor.grad_fn, event)
        self._window.append(event)
        if len(self._window) > WINDOW:
            self._settle(self._window.popleft())

    def _notice_feeding(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """An output that another network is trained on, as a discriminator is on fakes."""
        for value in args:
            given = _storage(value)
            if given is None:
                continue
            for storage, event in self._recent:
                if storage.data_ptr() == given.data_ptr() and torch.is_grad_enabled():
                    event.fed |= module.training and any(
                        p.requires_grad for p in module.parameters()
                    )

    def _ask(self, node: Any, event: _Event) -> None:
        """Learn of a backward pass through an output.

        The hook is on the node of the graph, not on the tensor, which can be saved as without.
        """

        def used(gradients: Any) -> None:
            if event.use == "none":
                event.use = "backward"
                self._used.append(event)
                if event.segment is not None:
                    event.segment.kept.late += 1

        node.register_prehook(used)

    def _stepped(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        owned = self._owned.get(optimizer)
        if owned is None:
            # Those of now too: loading may have replaced weights.
            weights = {*map(id, self._all_parameters), *map(id, self.model.parameters())}
            owned = self._owned[optimizer] = any(
                id(weight) in weights
                for group in optimizer.param_groups
                for weight in group["params"]
            )
        if owned:
            self._step()
            self._values = None  # to be read again only where a step by hand may have been
        else:
            for event in self._used:
                event.elsewhere = True

    def _step(self) -> None:
        self.recording.steps += 1
        # A gradient that was taken in eval mode, for saliency or an attack, is not what a step
        # is made of where there is one of train mode too.
        all_in_eval = all([event.key.whole_in_eval for event in self._used])
        for event in self._used:
            if all_in_eval or not event.key.whole_in_eval:
                event.use = "step"
        self._used.clear()
        self._recent.clear()
        self._versions = self._weight_versions()

    def _notice_steps_by_hand(self) -> None:
        """Weights that were changed without an optimiser since the last backward pass."""
        if not self._used:
            return
        # What is changed by way of ``.data`` keeps its version, and has other values.
        if _is_traced():
            return
        before, self._values = self._values, self._weight_values()
        if self._weight_versions() != self._versions or before not in (None, self._values):
            self._step()

    def _weight_versions(self) -> list[int]:
        return [weight._version for weight in self._weights]

    def _weight_values(self) -> list[complex]:
        """The last number of each watched weight that has numbers to look at."""
        return [
            weight.detach()[(-1,) * weight.dim()].item()
            for weight in self._weights
            if _has_numbers(weight) and weight.numel()
        ]

    def _key(self, module: nn.Module, name: str, inside: list[tuple[str, nn.Module]]) -> _Key:
        """What is known of a call, looked up by what may have changed since the last one."""
        modes = [layer.training for _, layer in inside]
        caller = self._caller()
        state = (
            caller,
            name,
            module.training,
            True in modes or any([part.training for part in self._core]),
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            *modes,
            *[weight.requires_grad for weight in self._all_parameters],
            *[layer.momentum is None and layer.training for layer in self._with_momentum],
        )
        key = self._keys.get(state)
        if key is None:
            key = self._keys[state] = self._new_key(caller, module, name, inside)
        return key

    def _new_key(
        self, caller: _Caller, module: nn.Module, name: str, inside: list[tuple[str, nn.Module]]
    ) -> _Key:
        in_train = tuple([n for n, layer in inside if layer.training])
        if torch.is_grad_enabled():
            gradients = "on"
        else:
            gradients = "inference" if torch.is_inference_mode_enabled() else "no_grad"
        purpose = caller.purpose
        cumulative = in_train and [
            m for m in self._with_momentum if m.momentum is None and m.training
        ]
        if cumulative and any(id(m) not in self._cumulative for m in cumulative):
            purpose = purpose or "statistics"
        key = _Key(
            caller.where,
            purpose,
            name,
            in_train,
            len(inside),
            module.training,
            not in_train and not any([part.training for part in self._core]),
            tuple([n for n, layer in inside if self._is_trainable(n, layer)]),
            gradients,
            bool(cumulative),
            not self.model.training and not module._modules,
            all(m.training for m in module.modules() if m is not module),
            max(map(_version, module.parameters()), default=0),
        )
        self._measured[key] = _Measured()
        return key

    def _caller(self) -> _Caller:
        """The line that called, looked up once."""
        frame = sys._getframe(4)
        at = id(frame.f_code), frame.f_lasti
        known = self._callers.get(at)
        if known is None:
            known = code, caller = _find_caller(frame)
            if code is frame.f_code and not caller.purpose and not _is_library(caller.where.file):
                self._callers[at] = known  # which holds the code, so that its id stays its own
        return known[1]

    def _is_trainable(self, name: str, layer: nn.Module) -> bool:
        """Whether the layer, or the part that a layer without weights belongs to, is trained."""
        own = list(layer.parameters())
        if not own and name:
            own = list(self._by_name[name.rpartition(".")[0]].parameters())
        return any(p.requires_grad for p in own)

    def _watch_statistics(self, key: _Key, measured: _Measured) -> None:
        """Where a stretch of forwards ends, see how far it moved running statistics."""
        if self._statistics is not None and self._statistics[0] is key:
            return
        self._close_statistics()
        if measured.segments < MEASURED and key.in_train and not _is_traced():
            measured.segments += 1
            layers = {n: self._listening[n] for n in key.in_train}
            self._statistics = (
                key,
                {
                    name: layer.running_mean.detach().clone()
                    for name, layer in layers.items()
                    if _has_numbers(getattr(layer, "running_mean", None))
                },
            )

    def _close_statistics(self, last: bool = False) -> None:
        if self._statistics is None:
            return
        key, before = self._statistics
        self._statistics = None
        for name, old in before.items():
            layer = self._listening[name]
            new, variance = getattr(layer, "running_mean", None), getattr(layer, "running_var", 1.0)
            if not _has_numbers(new) or (new.shape, new.device) != (old.shape, old.device):
                continue  # it has been replaced, or has moved to another device
            if not last:
                new, variance = new.detach().clone(), torch.as_tensor(variance).detach().clone()
            eps = getattr(layer, "eps", 1e-5)
            self._measured[key].statistics.append((name, old, new, variance, eps))

    def _settle(self, event: _Event) -> None:
        """Put a forward whose use is known, or given up on, into its segment."""
        last = self._segments[-1] if self._segments else None
        if last is None or last.key is not event.key or last.use != event.use:
            last = _Segment(event.key, event.use, event.index, event.index)
            self._fold()
            self._segments.append(last)
            if len(self._bars) < DRAWN:
                self._bars.append(_Bar(event.index, last))
        last.forwards += 1
        last.longest = max(last.longest, last.forwards)
        last.last = event.index
        last.graph |= event.graph
        last.attacks += event.from_input
        last.fed += event.fed
        last.elsewhere += event.elsewhere
        if self._bars[-1].segment is last:
            self._bars[-1].forwards += 1
        event.segment = last

    def _fold(self) -> None:
        """Make one round of two equal blocks at the end of the list."""
        segments = self._segments
        for size in range(1, min(BLOCK, len(segments) // 2) + 1):
            old, new = segments[-2 * size : -size], segments[-size:]
            if all(a.key is b.key and a.use == b.use for a, b in zip(old, new, strict=True)):
                for a, b in zip(old, new, strict=True):
                    a.take(b)
                del segments[-size:]
                return

    # -- afterwards ------------------------------------------------------------------------

    def _close(self) -> None:
        """Settle what is open, and judge."""
        self._notice_steps_by_hand()
        self._close_statistics(last=True)
        while self._window:
            self._settle(self._window.popleft())
        self._fold()
        phases = {id(segment): self._phase(segment) for segment in self._segments}
        self.recording.phases = list(phases.values())
        self.recording.bars = [
            (bar.first, bar.forwards, phases[id(bar.segment.kept)]) for bar in self._bars
        ]
        self.recording.forwards = self._count
        self._judge()

    def _phase(self, segment: _Segment) -> Phase:
        key = segment.key
        if key.listening and 0 < len(key.in_train) < key.listening:
            mode = "mixed"
        else:
            mode = "train" if key.in_train or (not key.listening and key.training) else "eval"
        use = "backward" if segment.use == "none" and segment.learned else segment.use
        return Phase(
            key.where,
            key.module,
            mode,
            key.in_train,
            key.gradients,
            use,
            segment.forwards,
            segment.rounds,
            segment.first,
            segment.last,
        )

    def _judge(self) -> None:
        learned: dict[_Key, int] = {}
        for segment in self._segments:
            if segment.learned:
                learned[segment.key] = learned.get(segment.key, 0) + segment.forwards
        stepped = {segment.key for segment in self._segments if segment.use == "step"}
        idle = [
            segment
            for segment in self._segments
            if not segment.learned
            and not segment.key.purpose
            and (
                segment.key not in learned
                or _is_regular(segment, learned[segment.key], segment.key in stepped)
            )
        ]
        for segment in self._segments:
            only_looked = (
                segment.use == "backward"
                and segment.attacks == segment.forwards
                and not segment.elsewhere
                and segment.key not in stepped
            )
            if segment in idle or (only_looked and not segment.key.purpose):
                self._judge_mode(segment)
        for segment in idle:
            if segment.graph:
                self._judge_graph(segment)
        for segment in self._segments:
            key, taught = segment.key, segment.use == "step"
            if taught and key.whole_in_eval and key.trainable:
                names = first_few(
                    [f"{n!r} ({type(m).__name__})" for n, m in self._listening.items()]
                )
                self._add(
                    "trained-in-eval-mode",
                    key,
                    f"{segment.forwards} forwards with the whole model in eval mode led to "
                    f"optimiser steps; layers that listen to the mode: {names}",
                    "call model.train() before this loop, each time evaluation has ended",
                )
        self._judge_thawing()

    def _judge_mode(self, segment: _Segment) -> None:
        key = segment.key
        if not key.in_train or segment.fed == segment.forwards:
            return
        # Monte Carlo dropout, or statistics that are estimated again, in a model in eval mode.
        if not key.training and not (key.all_below_in_train and self._measured[key].moved):
            return
        if key.cumulative and not self.recording.steps:
            return
        averaged = segment.longest <= 2 and self._is_averaged(key)
        if key.lone_layer or self._feeds_the_next(segment) or averaged:
            return
        kinds = sorted({type(self._listening[name]).__name__ for name in key.in_train})
        moved = self._measured[key].moved
        text = (
            f"nothing learned from {segment.forwards} forwards, and {len(key.in_train)} of "
            f"{key.listening} layers that listen to the mode were in train mode "
            f"({first_few(kinds)})"
        )
        if moved:
            name = max(moved, key=lambda n: moved[n])
            text += (
                f"; the running statistics of {len(moved)} of them moved, those of {name!r} by "
                f"{moved[name]:.2g} standard deviations"
            )
        self._add(
            "evaluated-in-train-mode",
            key,
            text,
            "put the model in eval mode around this loop: with utils.modes.evaluating(model), or "
            "model.eval() before and model.train() after",
        )

    def _feeds_the_next(self, segment: _Segment) -> bool:
        """Whether one forward of a part is followed, each time, by training of another part.

        So it is with a generator that makes fakes. A part that is never trained itself, such as
        a teacher, has no business in train mode.
        """
        place = self._segments.index(segment) + 1
        name = segment.key.module
        if not any(s.learned and s.key.module == name for s in self._segments):
            return False
        if not name or segment.forwards != segment.rounds or place == len(self._segments):
            return False
        following = self._segments[place]
        return (
            following.learned
            and following.key.module != ""
            and not f"{following.key.module}.".startswith(f"{name}.")
            and not f"{name}.".startswith(f"{following.key.module}.")
        )

    def _is_averaged(self, key: _Key) -> bool:
        """Whether a part without gradients has weights that follow another network's."""
        weights = list(self._by_name[key.module].parameters()) if key.module else []
        frozen = bool(weights) and not any(weight.requires_grad for weight in weights)
        return frozen and any(_version(weight) > key.version for weight in weights)

    def _judge_graph(self, segment: _Segment) -> None:
        bytes_held = self._measured[segment.key].graph_bytes
        size = "" if bytes_held is None else f", which held {_size(bytes_held)} for a batch"
        self._add(
            "graph-never-used",
            segment.key,
            f"{segment.forwards} forwards recorded a graph that no backward pass used{size}",
            "put this loop under torch.inference_mode() or torch.no_grad()",
        )

    def _judge_thawing(self) -> None:
        """A layer that a training phase kept in eval mode, and a later one does not."""
        frozen: dict[str, _Key] = {}
        for segment in self._segments:
            key = segment.key
            if segment.use != "step" or key.whole_in_eval or key.purpose:
                continue
            if segment.attacks == segment.forwards:
                continue  # a gradient for the input, taken in a mode of its own
            thawed = [
                name
                for name in key.in_train
                if name in frozen
                and not (name in key.trainable and name not in frozen[name].trainable)
            ]
            if thawed:
                self._add(
                    "thawed",
                    key,
                    f"{first_few(thawed)} in eval mode while the model was trained at "
                    f"{frozen[thawed[0]].where}, and in train mode here",
                    "freeze with utils.modes.keep_in_eval, which model.train() leaves alone, or "
                    "override train() in the model",
                )
            _, inside = next(v for v in self._inside.values() if v[0] == key.module)
            for name, _ in inside:
                if name in key.in_train:
                    frozen.pop(name, None)
                else:
                    frozen.setdefault(name, key)

    def _add(self, kind: str, key: _Key, evidence: str, cure: str) -> None:
        if not any((f.kind, f.where) == (kind, key.where) for f in self.recording.findings):
            self.recording.findings.append(LoopFinding(kind, evidence, cure, key.where))


def _is_regular(segment: _Segment, learned: int, stepped: bool) -> bool:
    """Whether forwards at a line that also trains are an evaluation.

    A few batches that training skips, one or two in a row, are none; nor is a second call in
    the line of an attack, whose gradient is not asked for.
    """
    if segment.longest > 1 and 4 * segment.forwards >= learned:
        return True
    if stepped and segment.forwards > 2 and 2 * segment.forwards >= learned:
        return True
    return segment.rounds > 1 and segment.longest > 2


class _Recorders(list[_Recorder]):
    """Recorders of this process: none goes with a class that is sent to another one."""

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return _Recorders, ()


_LOCK = threading.Lock()
_RUNNING = _Recorders()
_WAITING = _Recorders()
"""Those of them that are not inside a call which they note."""
_STAND_INS: dict[type, tuple[Any, Any]] = {}
"""For each class that is watched: what stands in for its ``__call__``, and its own, if any."""


def _stand_in(cls: type, own: Any) -> Callable[..., Any]:
    """Make what stands in for the ``__call__`` of one class while something is recorded.

    Global forward hooks would see the same calls, and cost eight times as much: PyTorch's path
    with hooks is slow for each module inside as well. To stand in for ``Module.__call__`` would
    empty what Python remembers of every class of modules, twice for each recording.
    """
    bind = getattr(own, "__get__", lambda *_: own)

    def watched_call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        # Looked up each time: others may stand in for a class above.
        call = super(cls, module).__call__ if own is None else bind(module, type(module))  # type: ignore[arg-type]
        if not _WAITING or torch.compiler.is_compiling():
            return call(*args, **kwargs)
        watching = []
        for recorder in tuple(_WAITING):  # a comprehension would be one frame more
            if recorder.begin(module, args):
                watching.append(recorder)
        if not watching:
            return call(*args, **kwargs)
        try:
            output = call(*args, **kwargs)
        except BaseException:
            for recorder in watching:
                recorder.finish()
            raise
        for recorder in watching:
            recorder.end(args, kwargs, output)
        return output

    skip_code(watched_call.__code__)  # where a model compiles itself, not this frame around it
    return watched_call


def _classes(modules: Iterable[nn.Module]) -> set[type]:
    """The classes through which modules may be called, lazy and compiled ones too.

    And those by which another network is likely to take in what this one has made.
    """
    classes = {type(module) for module in modules} - {nn.Module}  # a container, never called
    become = {getattr(cls, "cls_to_become", None) for cls in classes}
    return {*classes, *filter(None, become), OptimizedModule, *TAKING_IN}


def _around(name: str) -> list[str]:
    """The qualified names of a module and of those around it, the root last.

    Examples
    --------
    >>> _around("encoder.0.norm")
    ['encoder.0.norm', 'encoder.0', 'encoder', '']
    """
    names = [name]
    while name:
        name = name.rpartition(".")[0]
        names.append(name)
    return names


def _start(recorder: _Recorder) -> None:
    with _LOCK:
        for cls in recorder.classes - _STAND_INS.keys():
            own = vars(cls).get("__call__")
            stand_in = _stand_in(cls, own)
            try:
                cls.__call__ = stand_in  # type: ignore[method-assign]
            except (AttributeError, TypeError):  # a class that cannot be changed
                continue
            _STAND_INS[cls] = stand_in, own
        _RUNNING.append(recorder)
        _WAITING.append(recorder)


def _stop(recorder: _Recorder) -> None:
    with _LOCK:
        _RUNNING.remove(recorder)
        if recorder in _WAITING:  # or it ends inside a call that it notes
            _WAITING.remove(recorder)
        needed = {cls for running in _RUNNING for cls in running.classes}
        for cls in _STAND_INS.keys() - needed:
            stand_in, own = _STAND_INS.pop(cls)
            if vars(cls).get("__call__") is not stand_in:
                continue  # somebody else has replaced it since
            if own is None:
                del cls.__call__
            else:
                cls.__call__ = own  # type: ignore[method-assign]


def _graph_bytes(outputs: list[Tensor], parameters: Iterable[Tensor]) -> int | None:
    """What the graph behind the outputs keeps for its backward pass, weights left aside.

    Reads the saved tensors where they lie: hooks on them, or around the call, are not run.
    """
    seen = {storage.data_ptr() for storage in map(_storage, parameters) if storage is not None}
    nodes = [tensor.grad_fn for tensor in outputs]
    visited, total = set(nodes), 0
    while nodes:
        node = nodes.pop()
        if node is None:
            continue
        for name in _saved_names(type(node)):
            saved = getattr(node, name)
            for item in saved if isinstance(saved, (tuple, list)) else (saved,):
                if not hasattr(item, "unpack_hook"):
                    return None  # an older PyTorch, which cannot tell
                storage = _storage(item.data)
                if storage is not None and storage.data_ptr() not in seen:
                    seen.add(storage.data_ptr())
                    total += storage.nbytes()
        following = {node for node, _ in node.next_functions} - visited
        visited |= following
        nodes += following
    return total


@cache
def _saved_names(kind: type) -> tuple[str, ...]:
    """The attributes of a kind of node under which it keeps tensors."""
    return tuple(name for name in dir(kind) if name.startswith("_raw_saved_"))


def _is_traced() -> bool:
    """Whether tensors are not what they seem: under ``torch.func``, fake or traced."""
    return (
        torch._C._functorch.peek_interpreter_stack() is not None
        or torch._C._len_torch_dispatch_stack() > 0
    )


def _version(weight: Tensor) -> int:
    return 0 if is_lazy(weight) or weight.is_inference() else weight._version


def _storage(value: Any) -> torch.UntypedStorage | None:
    """The memory of a plain tensor; None for what has none of its own to look at."""
    if type(value) not in (Tensor, nn.Parameter) or value.layout != torch.strided:
        return None
    try:
        storage = value.untyped_storage()
        storage.data_ptr()
    except RuntimeError:  # a tensor that forward-mode differentiation has wrapped
        return None
    return storage


def _has_numbers(value: Any) -> TypeGuard[Tensor]:
    return _storage(value) is not None and not value.is_meta


def _tensors(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    if type(output) in (tuple, list) and all(isinstance(item, Tensor) for item in output):
        return list(output)
    return [leaf for _, leaf in leaves(output) if isinstance(leaf, Tensor)]


def _needs_gradient(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    if len(args) == 1 and not kwargs and isinstance(args[0], Tensor):
        return args[0].requires_grad
    return any(t.requires_grad for t in _tensors((args, kwargs)))


@cache
def _is_library(file: str) -> bool:
    """Whether a file belongs to Python, to an installed package or to this one."""
    return file.startswith(("<frozen", *_library_folders()))


@cache
def _library_folders() -> frozenset[str]:
    folders = {sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")}
    folders |= {*site.getsitepackages(), site.getusersitepackages()}
    # Packages installed elsewhere (pip install --target) stand beside their .dist-info.
    folders |= {folder for folder in sys.path if glob(os.path.join(folder, "*.dist-info"))}
    return frozenset(os.path.abspath(folder) + os.sep for folder in folders if folder) | {HERE}


def _find_caller(frame: Any) -> tuple[CodeType, _Caller]:
    """Find who called, and what for where a function of PyTorch says so.

    The innermost frame outside PyTorch tells phases apart; the first line of the user's own
    code is what a finding names.
    """
    start = frame
    caller: Any = None
    wrapper: Any = None
    purpose = ""
    while frame is not None:
        code = frame.f_code
        file = code.co_filename
        if file.startswith(TORCH) or file.startswith(HERE):
            if code.co_name == "update_bn":
                purpose = "statistics"
            elif file.endswith("checkpoint.py") and code.co_name == "forward":
                purpose = "checkpoint"  # the reentrant kind, which runs without gradients
        elif _is_forward(frame):
            wrapper = wrapper or frame
        elif caller is None:
            caller = frame
            if not _is_library(file):
                break
        elif not _is_library(file):
            break
        frame = frame.f_back
    if caller is None:
        caller = frame or wrapper or start
    user = frame or caller
    code = user.f_code
    file = "<cell>" if "ipykernel" in code.co_filename else code.co_filename
    around = user
    while around.f_code.co_name in COMPREHENSIONS and around.f_back is not None:
        around = around.f_back
    where = Place(file, user.f_lineno, around.f_code.co_name)
    return caller.f_code, _Caller(caller.f_code.co_filename, caller.f_lineno, where, purpose)


def _is_forward(frame: Any) -> bool:
    """Whether it is the ``forward`` of a module around the one that is watched."""
    name = frame.f_code.co_name
    return name == "forward" and isinstance(frame.f_locals.get("self"), nn.Module)


def _size(count: int) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000  # type: ignore[assignment]
    return f"{count:.3g} GB"
