"""What runs in the box: a submission's cells, then the questions put to its functions.

Reads a line of JSON from standard input (the cells), runs them, then reads a second one (the
questions, which a cell can read first: they hold inputs and no answers). Answers go to a file, a
line each. The process is the submission's as much as ours: whatever is in that file is treated as
the word of a stranger.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from typing import Any


class TooLong(Exception):
    """A cell or a question took more than its time."""


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TooLong(f"stopped after {seconds:g} s")

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def main() -> None:
    """Run the cells and answer the questions."""
    from IPython.core.interactiveshell import InteractiveShell

    from .plain import to_plain

    warnings.simplefilter("ignore")
    job = json.loads(sys.stdin.readline())
    answers = os.open("answers.jsonl", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)

    def write(record: dict[str, Any]) -> None:
        os.write(answers, (json.dumps(record) + "\n").encode())

    write({"began": True})
    shell = InteractiveShell.instance()
    for number, cell in enumerate(job["cells"], start=1):
        shown = io.StringIO()
        try:
            with at_most(job["seconds_a_cell"]), contextlib.redirect_stdout(shown):
                outcome = shell.run_cell(cell, store_history=False, silent=False)
            error = outcome.error_before_exec or outcome.error_in_exec
        except BaseException as raised:
            error = raised
        if error is not None:
            write({"cell": number, "error": f"{type(error).__name__}: {error}"[:500]})
    write({"ran": True})

    import torch

    for task in json.loads(sys.stdin.readline()):
        space: dict[str, Any] = {"__name__": "questions"}
        try:
            exec(task["code"], space)
        except BaseException as error:
            write({"task": task["name"], "error": f"{type(error).__name__}: {error}"[:500]})
            continue
        for name, ask in space["given"].items():
            record: dict[str, Any] = {"task": task["name"], "name": name}
            try:
                torch.manual_seed(0)
                with at_most(job["seconds_a_cell"]), contextlib.redirect_stdout(io.StringIO()):
                    record["answer"] = to_plain(ask(shell.user_ns))
            except BaseException as error:
                record["error"] = f"{type(error).__name__}: {error}"[:500]
            write(record)
    write({"done": True})
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
