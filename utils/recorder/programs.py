"""A program that nobody edits, recorded: its models are found as it calls them."""

from __future__ import annotations

import gc
import os
import runpy
import sys
import threading
import traceback
from collections.abc import Iterable, Sequence
from functools import partial
from types import FrameType, TracebackType
from typing import Any
from weakref import ref

import torch
from torch import nn

from ..listening import listens
from ..torch_internals import own_modules, uncompiled
from . import Recorder, Recording, interception
from .callers import OWN_FOLDER, is_library
from .declarations import unused
from .report import LoopFinding

MAX_MODELS = 32
"""How many models of one program are watched."""
INTERRUPTED = 130
"""The exit status of a program that was stopped by Ctrl-C."""


class ProgramRecorder:
    """Watches every model that a program calls from outside.

    A module that nothing watched contains is a model when it is first called, together with
    whatever contains it; losses and other modules without weights are left aside.

    Parameters
    ----------
    names
        Which models, by the name of a variable or of a class; all that are called if empty.
    on_purpose
        As for :func:`utils.recorder.record`.

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
        self._names, self._on_purpose = frozenset(names), tuple(on_purpose)
        self._recorders: list[Recorder] = []
        self._parts: set[int] = set()
        self._aside: dict[int, ref[nn.Module]] = {}
        self._beyond = 0

    def __enter__(self) -> ProgramRecorder:
        original = self._original = nn.Module.__call__

        def called(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            inside = torch.compiler.is_compiling() or interception.is_inside_a_call()
            if inside or not self._is_new(module):
                return original(module, *args, **kwargs)
            frame = sys._getframe(1)
            self._meet(module, frame)
            return interception.run_noted(partial(original, module), module, args, kwargs, frame)

        self._stand_in = called
        nn.Module.__call__ = called  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        if nn.Module.__call__ is self._stand_in:  # or somebody else stands in for it by now
            nn.Module.__call__ = self._original  # type: ignore[method-assign]
        for recorder in self._recorders:
            recorder.stop()
        seen = [recorder for recorder in self._recorders if recorder.recording.forwards]
        self.recordings = [recorder.recording for recorder in seen]
        self.notes += unused([recorder.declarations for recorder in seen])
        if self._beyond:
            self.notes.append(f"{self._beyond} more models: {MAX_MODELS} are watched at most")

    @property
    def findings(self) -> list[LoopFinding]:
        """What is wrong, each line once for each kind."""
        found = [finding for recording in self.recordings for finding in recording.findings]
        return list({(finding.kind, finding.where): finding for finding in found}.values())

    def _is_new(self, module: nn.Module) -> bool:
        if id(module) in self._parts:
            return False
        aside = self._aside.get(id(module))
        return aside is None or aside() is not module

    def _meet(self, module: nn.Module, frame: FrameType) -> None:
        """Watch the model that a new module is or belongs to, unless it is none."""
        model = _whole_of(uncompiled(module))
        parts = list(model.modules())
        name = _name_of((module, model), frame)
        wanted = not self._names or bool({name, type(model).__name__} & self._names)
        inside = [r for r in self._recorders if any(part is r.parts.root for part in parts)]
        known = any(id(part) in self._parts for part in parts)
        weighty = next(model.parameters(), None) is not None or any(map(listens, parts))
        if not (weighty and wanted) or (known and not inside):
            # No model, or parts of one that is watched, in another order.
            self._aside[id(module)] = ref(module)
            return
        if len(self._recorders) >= MAX_MODELS:
            self._aside[id(module)] = ref(module)
            self._beyond += 1
            return
        for recorder in inside:
            self._take_up(recorder, model)
        title = f"{name} ({type(model).__name__})" if name else type(model).__name__
        recorder = Recorder(model, self._on_purpose, title)
        self._recorders.append(recorder)
        self._parts |= {id(part) for part in parts} | {id(module)}
        recorder.start()

    def _take_up(self, recorder: Recorder, model: nn.Module) -> None:
        """End the recording of what has turned out to be a part of a larger model."""
        recorder.stop()
        self._recorders.remove(recorder)
        count = recorder.recording.forwards
        if count:
            self.notes.append(
                f"the first {count} forwards of {recorder.recording.name}, which became a part of "
                f"{type(model).__name__} afterwards"
            )


def run_program(
    arguments: Sequence[str],
    *,
    as_module: bool = False,
    names: Iterable[str] = (),
    on_purpose: Sequence[str] = (),
) -> tuple[ProgramRecorder, int]:
    """Run a script or a module as ``python`` would, and record its models.

    Parameters
    ----------
    arguments
        The path of a script, or the name of a module, and its own arguments.
    as_module
        Whether it is the name of a module, as after ``python -m``.
    names, on_purpose
        As for :class:`ProgramRecorder`.

    Returns
    -------
    tuple of ProgramRecorder and int
        What was seen, and the exit status of the program. An error that ended it has been
        printed, as Python does.
    """
    target, sys.argv = arguments[0], list(arguments)
    sys.path.insert(0, os.getcwd() if as_module else os.path.dirname(os.path.abspath(target)))
    program = ProgramRecorder(names, on_purpose)
    with program:
        try:
            if as_module:
                runpy.run_module(target, run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(os.path.abspath(target), run_name="__main__")
            _wait_for_threads()
            status = 0
        except SystemExit as ended:
            status = _status_of(ended)
        except KeyboardInterrupt as error:
            _print_error(error)
            status = INTERRUPTED
        except BaseException as error:
            _print_error(error)
            status = 1
    return program, status


def _wait_for_threads() -> None:
    """Wait for the threads of the program, as Python does at its end."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()


def _status_of(ended: SystemExit) -> int:
    if ended.code is None or isinstance(ended.code, int):
        return ended.code or 0
    print(ended.code, file=sys.stderr)
    return 1


def _print_error(error: BaseException) -> None:
    """Print an error as Python does, without the frames that run the program."""
    lines: TracebackType | None = error.__traceback__
    while lines is not None and _runs_the_program(lines.tb_frame.f_code.co_filename):
        lines = lines.tb_next
    traceback.print_exception(type(error), error, lines)


def _runs_the_program(file: str) -> bool:
    return file.startswith((OWN_FOLDER, "<frozen runpy")) or file == runpy.__file__


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


def _name_of(modules: Iterable[nn.Module], frame: FrameType | None) -> str:
    """The variable or attribute by which the user's own code knows one of some modules."""
    while frame is not None and is_library(frame.f_code.co_filename):
        frame = frame.f_back
    if frame is None:
        return ""
    owner = frame.f_locals.get("self")
    attributes = {} if isinstance(owner, nn.Module) else getattr(owner, "__dict__", {})
    for names in (frame.f_locals, frame.f_globals, attributes):
        for module in modules:
            for name, value in list(names.items()):
                if value is module and name != "self":
                    return str(name)
    return ""
