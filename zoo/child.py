"""Work in a child process, which may hang, die or eat memory: the parent goes on."""

from __future__ import annotations

import faulthandler
import os
import pickle
import resource
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

OUT_OF_MEMORY = ("can't allocate memory", "cannot allocate memory", "not enough memory")
"""How PyTorch says it: it does not raise ``MemoryError``."""


class OverTheLimit(Exception):
    """It took too long, or too much memory."""


class Died(Exception):
    """Its process ended without an answer."""


def in_child(
    work: Callable[[], Any], *, seconds: float | None = None, megabytes: int | None = None
) -> Any:
    """Call a function in a forked process and return what it returns.

    Parameters
    ----------
    work
        What it returns is pickled; what it prints is thrown away where there is a limit.
    seconds, megabytes
        Its limits: of the clock, and of memory beside what the parent has.

    Raises
    ------
    OverTheLimit
        If it was stopped, or could get no more memory.
    Died
        If it ended without an answer: a crash in native code, or ``os._exit``.

    Examples
    --------
    >>> in_child(lambda: 1 + 1)
    2
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:  # pragma: no cover
        os.close(reader)
        _work_and_exit(work, writer, seconds is not None, megabytes)
    os.close(writer)
    try:
        told = _read_until_closed(reader, seconds)
    finally:
        os.close(reader)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)  # it has answered, or has had its time
        status = os.waitpid(pid, 0)[1]
    if told is None:
        raise OverTheLimit(f"more than {seconds:g} seconds")
    if not told:
        raise Died(_how_it_ended(status))
    ended_well, answer = pickle.loads(told)
    if not ended_well:
        raise OverTheLimit(f"more than {megabytes} MB") if answer is None else Died(answer)
    return answer


def _how_it_ended(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _read_until_closed(reader: int, seconds: float | None) -> bytes | None:
    """All that is written; None where the time is over before the other end is closed."""
    told = b""
    end = None if seconds is None else time.monotonic() + seconds
    while True:
        left = None if end is None else max(0.0, end - time.monotonic())
        if not select.select([reader], [], [], left)[0]:
            return None
        chunk = os.read(reader, 1 << 16)
        if not chunk:
            return told
        told += chunk


def _work_and_exit(
    work: Callable[[], Any], writer: int, quiet: bool, megabytes: int | None
) -> None:  # pragma: no cover
    """In the child: answer through the pipe, and never return."""
    try:
        if quiet:
            faulthandler.disable()
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)
        if megabytes is not None:
            most = _megabytes_mapped() + megabytes << 20
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
        try:
            told = pickle.dumps((True, work()))
        except BaseException as error:
            told = pickle.dumps((False, None if is_out_of_memory(error) else repr(error)[:500]))
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(told)
    finally:
        os._exit(0)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was no memory left.

    Examples
    --------
    >>> is_out_of_memory(MemoryError()), is_out_of_memory(ValueError("no such layer"))
    (True, False)
    """
    said = str(error).lower()
    return isinstance(error, MemoryError) or any(words in said for words in OUT_OF_MEMORY)


def _megabytes_mapped() -> int:
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[0])
    return pages * resource.getpagesize() >> 20
