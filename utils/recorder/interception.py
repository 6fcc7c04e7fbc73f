"""Standing in for the ``__call__`` of a model's classes while something is recorded."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any, Protocol

import torch
from torch import nn

from ..torch_internals import (
    compiled_class,
    in_compiled_region,
    is_jit_tracing,
    keep_out_of_graphs,
    materialised_class,
)

FIRST_LAYER_CLASSES = (nn.Sequential, nn.Linear, nn.Conv1d, nn.Conv2d)
"""Classes with which a network is likely to take in what another one has made."""


class Listener(Protocol):
    """Who wants to know of calls."""

    classes: set[type]

    def begin(self, module: nn.Module, args: tuple[Any, ...], frame: FrameType) -> bool: ...

    def abandon(self) -> object: ...

    def end(self, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None: ...


class _Listeners(list[Listener]):
    """Listeners of this process: none goes with a class that is sent to another one."""

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return _Listeners, ()


_LOCK = threading.Lock()
_RUNNING = _Listeners()
_IDLE = _Listeners()
"""Those of them that are not inside a call which they note."""
_WRAPPERS: dict[type, tuple[Any, Any]] = {}
"""For each class that is watched: what stands in for its ``__call__``, and its own, if any."""


def is_inside_a_call() -> bool:
    """Whether a call that someone notes is running."""
    return len(_IDLE) < len(_RUNNING)


def classes_to_watch(modules: Iterable[nn.Module]) -> set[type]:
    """The classes through which modules may be called, lazy and compiled ones too.

    And those by which another network is likely to take in what this one has made.

    Examples
    --------
    >>> nn.Dropout in classes_to_watch([nn.Dropout()])
    True
    """
    classes = {type(module) for module in modules} - {nn.Module}  # a container, never called
    become = {materialised_class(cls) for cls in classes} | {compiled_class()}
    return {*classes, *filter(None, become), *FIRST_LAYER_CLASSES}


def start(listener: Listener) -> list[type]:
    """Tell a listener of every call from here on; return the classes that cannot be watched."""
    unwatched = []
    with _LOCK:
        for cls in listener.classes - _WRAPPERS.keys():
            own = vars(cls).get("__call__")
            wrapper = _make_wrapper(cls, own)
            try:
                cls.__call__ = wrapper  # type: ignore[method-assign]
            except (AttributeError, TypeError):
                unwatched.append(cls)
                continue
            _WRAPPERS[cls] = wrapper, own
        _RUNNING.append(listener)
        _IDLE.append(listener)
    return unwatched


def stop(listener: Listener) -> None:
    """Tell a listener no more, and put back what nobody else needs."""
    with _LOCK:
        _RUNNING.remove(listener)
        if listener in _IDLE:  # or it ends inside a call that it notes
            _IDLE.remove(listener)
        needed = {cls for running in _RUNNING for cls in running.classes}
        for cls in _WRAPPERS.keys() - needed:
            wrapper, own = _WRAPPERS.pop(cls)
            if vars(cls).get("__call__") is not wrapper:
                continue  # somebody else has replaced it since
            if own is None:
                del cls.__call__
            else:
                cls.__call__ = own  # type: ignore[method-assign]


def _make_wrapper(cls: type, own: Any) -> Callable[..., Any]:
    """Make what stands in for the ``__call__`` of one class.

    Global forward hooks would see the same calls and cost more: PyTorch's path with hooks is slow
    for each module inside as well. To stand in for ``Module.__call__`` would empty the cache of
    attributes that Python keeps for every class of modules, twice for each recording.
    """
    bind = getattr(own, "__get__", lambda *_: own)
    above: type = cls.__mro__[1]
    # What `super()` would find, without making the object, where nothing is inherited twice.
    direct = cls if own is None and above.__mro__ == cls.__mro__[1:] else None

    def watched_call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        # Looked up each time: others may stand in for a class above.
        if type(module) is direct and not _IDLE:
            return above.__call__(module, *args, **kwargs)
        call = super(cls, module).__call__ if own is None else bind(module, type(module))  # type: ignore[arg-type]
        if not _IDLE or torch.compiler.is_compiling() or in_compiled_region() or is_jit_tracing():
            return call(*args, **kwargs)
        return run_noted(call, module, args, kwargs, sys._getframe(1))

    # Where a model compiles itself, not this around it.
    keep_out_of_graphs(watched_call.__code__)
    keep_out_of_graphs(run_noted.__code__)
    return watched_call


def run_noted(
    call: Callable[..., Any],
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    frame: FrameType,
) -> Any:
    """Run a call of a module, and tell those that listen when it begins and ends.

    Parameters
    ----------
    call
        What to run.
    module, args, kwargs
        What was called, on what.
    frame
        Where the call stands.
    """
    watching = []
    for listener in tuple(_IDLE):
        if listener.begin(module, args, frame):
            _IDLE.remove(listener)
            watching.append(listener)
    if not watching:
        return call(*args, **kwargs)
    try:
        output = call(*args, **kwargs)
    except BaseException:
        for listener in watching:
            _go_idle(listener)
            listener.abandon()
        raise
    for listener in watching:
        _go_idle(listener)
        listener.end(args, kwargs, output)
    return output


def _go_idle(listener: Listener) -> None:
    if listener in _RUNNING:  # or the recording has ended inside the call
        _IDLE.append(listener)
