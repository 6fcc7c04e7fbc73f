"""A program run as ``python`` would run it, with something to do once it has imported torch.

Nothing here imports torch: a program may still set how many threads it will use.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import runpy
import sys
import threading
from collections.abc import Callable, Sequence
from types import ModuleType, TracebackType

INTERRUPTED = 130
"""The exit status of a program that was stopped by Ctrl-C."""
OWN_FOLDER = os.path.dirname(os.path.abspath(__file__)) + os.sep


def run_program(
    arguments: Sequence[str], *, as_module: bool = False, after_torch: Callable[[], object]
) -> int:
    """Run a script or a module, and say with which status it ended.

    Parameters
    ----------
    arguments
        The path of a script, or the name of a module, and its own arguments.
    as_module
        Whether it is the name of a module, as after ``python -m``.
    after_torch
        Called once, as soon as torch has been imported.

    Returns
    -------
    int
        Its exit status. An error that ended it has been printed, as Python does.
    """
    target = arguments[0]
    sys.argv = list(arguments)
    here = os.getcwd() if as_module else os.path.dirname(os.path.realpath(target))
    # Python puts the folder of what it runs first: for us that is the script of the command.
    sys.path[0:1] = [here]
    if "torch" in sys.modules:
        after_torch()
    else:
        sys.meta_path.insert(0, _AfterImport("torch", after_torch))
    try:
        if as_module:
            runpy.run_module(target, run_name="__main__", alter_sys=True)
        else:
            with open(target, "rb") as file:
                code = compile(file.read(), os.path.abspath(target), "exec")
            _run_as_main(code, os.path.abspath(target))
        _wait_for_threads()
    except SystemExit as ended:
        return _status_of(ended)
    except KeyboardInterrupt as error:
        _print_error(error)
        return INTERRUPTED
    except BaseException as error:
        _print_error(error)
        return 1
    return 0


def _run_as_main(code: object, path: str) -> None:
    """Run a script's code as the module ``__main__``, which others may then import."""
    main = ModuleType("__main__")
    main.__file__ = path
    main.__builtins__ = __builtins__  # type: ignore[attr-defined]
    sys.modules["__main__"] = main
    exec(code, vars(main))  # type: ignore[arg-type]


class _AfterImport(importlib.abc.MetaPathFinder):
    """Calls a function once a package has been imported."""

    def __init__(self, name: str, then: Callable[[], object]) -> None:
        self._name, self._then, self._asking = name, then, False

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self._name or self._asking:
            return None
        self._asking = True  # the others, who find it; to be asked does not import it
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._asking = False
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            run(module)
            self._then()

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


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
    """Print an error as Python does, without the frames of this package."""
    chained: BaseException | None = error
    seen: set[int] = set()
    while chained is not None and id(chained) not in seen:
        seen.add(id(chained))
        chained.__traceback__ = _without_own_frames(chained.__traceback__)
        chained = chained.__cause__ or chained.__context__
    sys.excepthook(type(error), error, error.__traceback__)


def _without_own_frames(lines: TracebackType | None) -> TracebackType | None:
    kept = []
    while lines is not None:
        file = lines.tb_frame.f_code.co_filename
        if not file.startswith((OWN_FOLDER, "<frozen runpy")) and file != runpy.__file__:
            kept.append(lines)
        lines = lines.tb_next
    after = None
    for one in reversed(kept):
        after = TracebackType(after, one.tb_frame, one.tb_lasti, one.tb_lineno)
    return after
