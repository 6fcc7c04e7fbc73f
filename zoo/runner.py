"""Run the entries, each in a process of its own, and keep what becomes of each."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from typing import NamedTuple

import torch

from zoo.child import Died, OverTheLimit, in_child
from zoo.entry import Entry
from zoo.examine import Record, examine
from zoo.results import Journal
from zoo.stubs import STUBBED, stand_in_for


class Limits(NamedTuple):
    """What one model may take."""

    seconds: float
    megabytes: int


def run(entries: Iterable[Entry], journal: Journal, limits: Limits, only: str = "*") -> None:
    """Audit what the journal does not hold yet, package by package.

    A package has a process of its own, in which it is imported once; each of its models has a
    child of that, which may hang, die or take too much.

    Parameters
    ----------
    entries
        Those of one package follow one another.
    journal
        Holds what is done, and takes what is new.
    limits
        For each model.
    only
        A pattern of ``PACKAGE/MODEL``.
    """
    for package, group in groupby(entries, key=lambda entry: entry.package):
        installed = version_of(package)
        todo = [
            entry
            for entry in group
            if fnmatchcase(f"{package}/{entry.name}", only)
            and not journal.holds(package, installed, entry.name)
        ]
        if not todo:
            continue
        try:
            in_child(partial(_run_package, todo, installed, journal, limits))
        except Died as died:
            print(f"{package}: the process that imports it died: {died}", flush=True)


def version_of(package: str) -> str:
    """The version that is installed, or ``""``.

    Examples
    --------
    >>> version_of("no-such-package")
    ''
    """
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _run_package(
    entries: Sequence[Entry], installed: str, journal: Journal, limits: Limits
) -> None:
    torch.set_num_threads(1)
    stand_in_for(STUBBED.get(entries[0].package, ()))
    _import_for(entries[0], limits)
    for entry in entries:
        start = time.perf_counter()
        record = _examine_in_child(entry, limits)
        record |= {"package": entry.package, "version": installed, "model": entry.name}
        record["seconds"] = time.perf_counter() - start
        journal.add(record)
        print(_progress(record), flush=True)


def _examine_in_child(entry: Entry, limits: Limits) -> Record:
    work = partial(examine, entry)
    try:
        return in_child(work, seconds=limits.seconds, megabytes=limits.megabytes)
    except OverTheLimit as error:
        return {"status": "over the limit", "error": str(error)}
    except Died as error:
        return {"status": "died", "error": str(error)}


def _import_for(entry: Entry, limits: Limits) -> None:
    """Build a model here as well, for what it imports: children then need not import it again."""
    signal.signal(signal.SIGALRM, _give_up)
    signal.setitimer(signal.ITIMER_REAL, limits.seconds)
    try:
        entry.build()
    except Exception:
        pass  # its child will say so
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _give_up(signum: int, frame: object) -> None:
    raise TimeoutError


def _progress(record: Record) -> str:
    found = [f"{f['kind']} at {f['module'] or '(root)'}" for f in record.get("findings", [])]
    said = "; ".join(found) or record.get("error", "")[:140]
    name = f"{record['package']}/{record['model']}"
    return f"{record['seconds']:5.1f}s  {record['status']:10}  {name}  {said}".rstrip()
