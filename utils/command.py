"""The command ``evalmode``: the audit of a model and the recording of a program, from a shell."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .recorder.programs import ProgramRecorder

FORMATS = ("text", "json", "github", "html")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one of the two tools.

    Parameters
    ----------
    arguments
        What stands behind ``evalmode`` in the shell; that of this process if None.

    Returns
    -------
    int
        The exit status: 1 where something was found; for a recorded program its own, unless that
        was 0; 2 where an argument is wrong.

    Examples
    --------
    >>> main(["audit", "torch.nn:Identity", "--input", "8,4"])
    audit of Identity: no findings
    0
    """
    parser = argparse.ArgumentParser(
        prog="evalmode", description="Find mistakes around PyTorch's evaluation mode by running."
    )
    commands = parser.add_subparsers(required=True, metavar="audit or record")
    _add_audit(commands.add_parser("audit", help="run a model in both modes and compare"))
    _add_record(commands.add_parser("record", help="run a program and watch its models"))
    given = parser.parse_args(arguments)
    status: int = given.run(given, parser)
    return status


def _add_audit(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_audit)
    parser.add_argument("model", help="module:factory, a function or class that makes the model")
    parser.add_argument(
        "--input",
        action="append",
        required=True,
        metavar="SIZES",
        help="8,3,32,32 for normal noise, 8,16:1000 for indices below 1000; once for each argument",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed for model and inputs")


def _audit(given: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from .audit import audit
    from .random_state import seed_everything
    from .rerun import undisturbed

    with undisturbed():
        seed_everything(given.seed)
        try:
            inputs = tuple(_example(text) for text in given.input)
        except argparse.ArgumentTypeError as error:
            parser.error(f"--input is {error}")
        model = _load(given.model)
    try:
        report = audit(model, inputs)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(report)
    return 1 if report.findings else 0


def _load(target: str) -> nn.Module:
    from torch import nn

    path, _, name = target.partition(":")
    if not name:
        raise SystemExit(f"model is {target!r}; expected module:function, such as nets:make_model")
    sys.path.insert(0, os.getcwd())
    try:
        found = importlib.import_module(path)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise SystemExit(f"model is {target!r}; {error}") from error
    model = found if isinstance(found, nn.Module) else found()  # type: ignore[operator]
    if not isinstance(model, nn.Module):
        raise SystemExit(f"{target} gave a {type(model).__name__}; expected a torch.nn.Module")
    return model


def _example(text: str) -> Tensor:
    """Make an input from ``8,3,32,32`` (normal noise) or ``8,16:1000`` (indices below 1000)."""
    import torch

    shape, _, below = text.partition(":")
    try:
        sizes = [int(size) for size in shape.split(",")]
        return torch.randint(int(below), sizes) if below else torch.randn(sizes)
    except (ValueError, RuntimeError) as error:
        raise argparse.ArgumentTypeError(
            f"{text!r}; expected sizes such as 8,3,32,32, or 8,16:1000 for indices below 1000"
        ) from error


def _add_record(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_record, format="text")
    parser.usage = "evalmode record [options] (train.py | -m package) [ARGS ...]"
    for name in FORMATS[1:]:
        parser.add_argument(
            f"--{name}", dest="format", action="store_const", const=name, help=f"write {name}"
        )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="where to write; text goes to the error stream otherwise, the rest to standard output",
    )
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="NAME",
        help="watch the models of this variable or class alone; may be given again",
    )
    parser.add_argument(
        "--on-purpose",
        action="append",
        default=[],
        metavar="LINE",
        help="train.py:30, or a function: its mode is meant, as with a comment on the line, "
        "# evalmode: on purpose",
    )
    parser.add_argument("-m", dest="module", nargs=argparse.REMAINDER, help="run a module")
    parser.add_argument("program", nargs=argparse.REMAINDER, help="a script and its arguments")


def _record(given: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from .launch import run_program

    arguments = given.module or given.program
    if not arguments:
        parser.error("expected a script, or -m and a module")
    if not given.module and not os.path.isfile(arguments[0]):
        parser.error(f"there is no file {arguments[0]!r}; expected a Python script")
    if given.output is not None and not given.output.resolve().parent.is_dir():
        parser.error(f"--output: there is no folder {str(given.output.parent)!r}")
    recorders: list[ProgramRecorder] = []

    def begin() -> None:
        from .recorder.programs import ProgramRecorder

        recorders.append(ProgramRecorder(given.model, given.on_purpose))
        recorders[0].start()

    process = os.getpid()
    status = run_program(arguments, as_module=bool(given.module), after_torch=begin)
    if os.getpid() != process:  # a child that the program has forked
        return status
    if not recorders:
        imported = "torch" in sys.modules
        why = (
            "how it imports torch was not seen" if imported else "the program did not import torch"
        )
        print(f"evalmode: nothing was recorded: {why}", file=sys.stderr)
        return status or int(imported)
    program = recorders[0]
    program.stop()
    return _report(program, given, status)


def _report(program: ProgramRecorder, given: argparse.Namespace, status: int) -> int:
    """Write what was recorded; return the status to end with."""
    from .recorder.output import as_annotations, as_json, as_page, as_text
    from .recorder.ranks import Ranks

    ranks = Ranks()
    said = [finding for finding in program.findings if ranks.is_first_to_say(finding)]
    written = {
        "text": lambda: as_text(program, said, ranks.rank),
        "json": lambda: as_json(program, ranks.rank),
        "github": lambda: as_annotations(said),
        "html": lambda: as_page(program),
    }[given.format]()
    if given.output is not None:
        path = given.output if ranks.rank is None else _beside(given.output, ranks.rank)
        path.write_text(written + "\n", encoding="utf-8")
    elif written:
        print("\n" + written, file=sys.stderr if given.format == "text" else sys.stdout, flush=True)
    if status == 0 and given.model and not program.recordings:
        return 2
    if status == 0 and ranks.wait_for_all() and program.findings:
        return 1
    return status


def _beside(path: Path, rank: str) -> Path:
    """The file of one process among several: ``report.0.json``."""
    return path.with_name(f"{path.stem}.{rank}{path.suffix}")
