"""The audit as a shell command."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from utils.audit import audit
from utils.trials import seed_everything, undisturbed


def _load(target: str) -> nn.Module:
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
    shape, _, below = text.partition(":")
    try:
        sizes = [int(size) for size in shape.split(",")]
        return torch.randint(int(below), sizes) if below else torch.randn(sizes)
    except (ValueError, RuntimeError) as error:
        raise argparse.ArgumentTypeError(
            f"{text!r}; expected sizes such as 8,3,32,32, or 8,16:1000 for indices below 1000"
        ) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Audit a model from a shell; the exit status is 1 where something was found.

    Examples
    --------
    >>> main(["torch.nn:Identity", "--input", "8,4"])
    audit of Identity: no findings
    0
    """
    parser = argparse.ArgumentParser(
        prog="python -m utils.audit", description="Run a model and report mode bugs."
    )
    parser.add_argument("model", help="module:factory, a function or class that makes the model")
    parser.add_argument(
        "--input",
        action="append",
        required=True,
        metavar="SIZES",
        help="8,3,32,32 for normal noise, 8,16:1000 for indices below 1000; once for each argument",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed for model and inputs")
    given = parser.parse_args(arguments)
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
