"""Call a function in a process of its own: what takes too long, or too much memory, ends there.

The process comes from a server that does nothing else: a process with threads, as the one that
grades, must not be forked.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import resource
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import psutil

from .box import MEGABYTE, family

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["torch", "nbformat"])
PR_SET_CHILD_SUBREAPER = 36
T = TypeVar("T")


class Lost(RuntimeError):
    """The process ended without a result; the message says why."""


def apart(
    function: Callable[..., T], *arguments: Any, seconds: float, memory: int = 2048 * MEGABYTE
) -> T:
    """Call a function in a new process.

    Parameters
    ----------
    function, arguments
        What is called, with what; pickled on their way, as is the result.
    seconds
        After so many the process is ended, and all that it has started.
    memory
        Bytes that it may use; what it starts has limits of its own.

    Raises
    ------
    Lost
        If the function raises, takes too long, or takes its process with it.
    """
    result, theirs = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_call, args=(theirs, memory, function, arguments))
    process.start()
    theirs.close()
    try:
        if not result.poll(seconds):
            raise Lost(f"it took more than {seconds:g} seconds")
        value, error = result.recv()
    except EOFError as nothing:
        process.join()
        raise Lost(f"its process ended with exit status {process.exitcode}") from nothing
    finally:
        for member in reversed(family(process.pid)):  # a parent last: it is how they are found
            with contextlib.suppress(psutil.Error):
                member.kill()
        process.join()
        result.close()
    if error:
        raise Lost(error)
    return value  # type: ignore[no-any-return]


def _call(
    result: Connection, memory: int, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    warnings.simplefilter("ignore")
    with contextlib.suppress(OSError, AttributeError):  # Linux: who loses his parent comes to us
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    resource.setrlimit(resource.RLIMIT_DATA, (memory, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    try:
        answer = (function(*arguments), "")
    except Exception as error:
        answer = (None, type(error).__name__)
    result.send(answer)
