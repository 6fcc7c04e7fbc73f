"""A program that nobody edits, recorded: its models are found as it calls them."""

from __future__ import annotations

import gc
import multiprocessing.process
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from types import FrameType
from typing import Any
from weakref import ref

import torch
from torch import nn

from ..listening import listens
from ..torch_internals import is_jit_tracing, own_modules, own_parameters, uncompiled
from . import Recorder, Recording, interception
from .callers import is_library
from .declarations import unused
from .report import LoopFinding

MAX_MODELS = 32
"""How many models of one program are watched at a time."""


class ProgramRecorder:
    """Watches every model that a program calls from outside.

    A module that nothing watched contains is a model when it is first called, together with
    whatever contains it; losses and other modules without weights are left aside. A model that
    the program has let go is judged, and let go as well.

    Parameters
    ----------
    names
        Which models, by the name of a variable or of a class; all that are called if empty.
    on_purpose
        As for :func:`utils.recorder.record`.

    Attributes
    ----------
    recordings
        Of each model that was called, complete after ``stop``.
    notes
        What could not be watched.
    seen
        The names of all models that were met, watched or not.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    >>> with ProgramRecorder() as program:
    ...     with torch.no_grad():
    ...         _ = net(torch.ones(4, 2))
    >>> [(recording.name, recording.forwards) for recording in program.recordings]
    [('net (Sequential)', 1)]
    """

    def __init__(self, names: Iterable[str] = (), on_purpose: Sequence[str] = ()) -> None:
        self.recordings: list[Recording] = []
        self.notes: list[str] = []
        self.seen: dict[str, None] = {}
        self._names, self._on_purpose = frozenset(names), tuple(on_purpose)
        self._recorders: list[tuple[Recorder, int]] = []
        self._ended: list[Recorder] = []
        self._parts: set[int] = set()
        self._aside: dict[int, ref[nn.Module]] = {}
        self._beyond = self._children = 0

    def __enter__(self) -> ProgramRecorder:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to watch."""
        original = self._original = nn.Module.__call__

        def called(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            inside = torch.compiler.is_compiling() or interception.is_inside_a_call()
            if inside or is_jit_tracing() or not self._is_new(module):
                return original(module, *args, **kwargs)
            frame = sys._getframe(1)
            if not self._meet(module, frame):
                return original(module, *args, **kwargs)
            return interception.run_noted(partial(original, module), module, args, kwargs, frame)

        self._stand_in = called
        nn.Module.__call__ = called  # type: ignore[method-assign]
        self._watch_children()

    def stop(self) -> None:
        """Watch no more, and judge what was seen."""
        if nn.Module.__call__ is self._stand_in:  # or somebody else stands in for it by now
            nn.Module.__call__ = self._original  # type: ignore[method-assign]
        multiprocessing.process.BaseProcess.start = self._start  # type: ignore[method-assign]
        for recorder, _ in self._recorders:
            self._end(recorder)
        self._recorders = []
        self.recordings = [recorder.recording for recorder in self._ended]
        self.notes += unused([recorder.declarations for recorder in self._ended])
        if self._beyond:
            self.notes.append(f"{self._beyond} more models: {MAX_MODELS} are watched at a time")
        if self._children:
            plural = "es" if self._children > 1 else ""
            self.notes.append(f"what ran in {self._children} process{plural} of the program's own")
        missing = self._names - {word for name in self.seen for word in name.strip(")").split(" (")}
        if missing:
            called = ", ".join(self.seen) or "none"
            names = ", ".join(sorted(missing))
            self.notes.append(f"models named {names}: none was called; called were: {called}")

    @property
    def findings(self) -> list[LoopFinding]:
        """What is wrong, each line once for each kind."""
        found = [finding for recording in self.recordings for finding in recording.findings]
        return list({(finding.kind, finding.where): finding for finding in found}.values())

    def _watch_children(self) -> None:
        """Count the processes that the program starts, the workers of a loader left out."""
        start = self._start = multiprocessing.process.BaseProcess.start

        def counted(process: Any) -> Any:
            target = getattr(process, "_target", None)
            self._children += getattr(target, "__name__", "") != "_worker_loop"
            return start(process)

        multiprocessing.process.BaseProcess.start = counted  # type: ignore

    def _is_new(self, module: nn.Module) -> bool:
        return id(module) not in self._parts and id(module) not in self._aside

    def _meet(self, module: nn.Module, frame: FrameType) -> bool:
        """Watch the model that a new module is or belongs to, unless it is none."""
        try:
            return self._watch(module, frame)
        except Exception as error:
            self._leave(module)
            kind = type(module).__name__
            self.notes.append(f"a {kind}: {type(error).__name__}: {error}")
            return False

    def _watch(self, module: nn.Module, frame: FrameType) -> bool:
        if not _is_weighty(module):
            self._leave(module)
            return False
        self._let_go()
        model = _whole_of(uncompiled(module))
        parts = list(nn.Module.modules(model))
        name = _name_of((module, model), frame)
        title = f"{name} ({type(model).__name__})" if name else type(model).__name__
        self.seen[title] = None
        new = [part for part in parts if id(part) not in self._parts]
        wanted = not self._names or bool({name, type(model).__name__} & self._names)
        has_own = any(w is not None for part in new for w in own_parameters(part).values())
        if not wanted or not (has_own or any(map(listens, new))):
            # Not asked for, or parts of a model that is watched, in another order.
            self._leave(module, *new)
            return False
        if len(self._recorders) >= MAX_MODELS:
            self._beyond += 1
            self._leave(module, *new)
            return False
        for recorder, _ in list(self._recorders):
            if any(part is recorder.model.root for part in parts):
                self._take_up(recorder, model)
        before = sys.getrefcount(model)
        recorder = Recorder(model, self._on_purpose, title)
        recorder.among_others = True
        recorder.model.core  # noqa: B018  (found once, and it holds the model too)
        self._recorders.append((recorder, sys.getrefcount(model) - before))
        self._parts |= {id(part) for part in parts} | {id(module)}
        recorder.start()
        return True

    def _leave(self, *modules: nn.Module) -> None:
        """Ask no more what some modules are."""
        aside = self._aside
        for module in modules:
            key = id(module)
            aside[key] = ref(module, lambda _, key=key: aside.pop(key, None))  # type: ignore[misc]

    def _let_go(self) -> None:
        """End the recordings of models that nobody but their recorder holds any more."""
        for recorder, own_references in list(self._recorders):
            others = sys.getrefcount(recorder.model.root) - 1 - own_references
            if others <= 0:
                self._parts -= {id(part) for part in recorder.model.parts.values()}
                self._drop(recorder)

    def _drop(self, recorder: Recorder, *, midway: bool = False) -> None:
        self._recorders = [pair for pair in self._recorders if pair[0] is not recorder]
        self._end(recorder, midway=midway)

    def _end(self, recorder: Recorder, *, midway: bool = False) -> None:
        recorder.stop(midway=midway)
        if recorder.recording.forwards:
            self._ended.append(recorder)
        recorder.forget()

    def _take_up(self, recorder: Recorder, model: nn.Module) -> None:
        """End the recording of what has turned out to be a part of a larger model."""
        is_the_same = model is recorder.model.root  # with modules that were added to it
        self._drop(recorder, midway=True)
        if recorder.recording.forwards and not is_the_same:
            recorder.recording.notes.append(
                f"what came after it had become a part of {type(model).__name__}; see there"
            )


def _is_weighty(module: nn.Module) -> bool:
    """Whether a module has weights or a layer that listens; losses, for one, have neither."""
    if next(nn.Module.parameters(module), None) is not None:
        return True
    return any(listens(part) for part in nn.Module.modules(module))


def _whole_of(module: nn.Module) -> nn.Module:
    """The outermost module that contains another, among all that are alive."""
    alive = [thing for thing in gc.get_objects() if issubclass(type(thing), nn.Module)]
    holders: dict[int, nn.Module] = {}
    for holder in alive:
        for child in own_modules(holder).values():
            if child is not None:
                holders.setdefault(id(child), holder)
    whole, seen = module, {id(module)}
    while id(whole) in holders and id(holders[id(whole)]) not in seen:
        whole = holders[id(whole)]
        seen.add(id(whole))
    return whole


def _name_of(modules: Sequence[nn.Module], frame: FrameType | None) -> str:
    """The variable by which the user's own code knows one of some modules, the outermost one."""
    found = ""
    while frame is not None:
        if not is_library(frame.f_code.co_filename):
            found = _name_in(frame, modules) or found
        frame = frame.f_back
    return found


def _name_in(frame: FrameType, modules: Sequence[nn.Module]) -> str:
    """A local variable, an attribute of ``self``, or an entry of a list, that is a module."""
    owner = frame.f_locals.get("self")
    attributes = {} if isinstance(owner, nn.Module) else getattr(owner, "__dict__", {})
    for module in modules:
        for names in (frame.f_locals, attributes):
            for name, value in list(names.items()):
                if value is module and name != "self":
                    return str(name)
                if type(value) in (list, tuple):
                    for index, entry in enumerate(value):
                        if entry is module:
                            return f"{name}[{index}]"
    return ""
