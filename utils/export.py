"""Does an exported model answer as the model it was made from? Decided by running both."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .arguments import check_module
from .batches import run_on_batch
from .findings import Finding, Report, first_line, off_by
from .kinds import KINDS
from .modes import evaluating
from .nested import iter_leaves, map_tensors, relative_gap

__all__ = ["Comparison", "ExportFinding", "compare"]

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 3e-2}
"""How far answers may be apart, as a share of the largest value: another order of additions."""


@dataclass(frozen=True)
class ExportFinding(Finding):
    """One way in which an exported program is unlike its original.

    Attributes
    ----------
    inputs
        On which inputs it was seen, such as ``"a batch of 8"``.
    kind, evidence, cure
        See :class:`utils.findings.Finding`.
    """

    inputs: str

    @property
    def place(self) -> str:
        """On which inputs."""
        return self.inputs


class Comparison(Report):
    """What :func:`compare` found; prints as a table.

    Attributes
    ----------
    apart : float
        The largest difference of two answers, as a share of the largest value in them.
    sizes : list of int
        The batch sizes on which both were run.
    """

    findings: list[ExportFinding]  # type: ignore[assignment]

    def __init__(self) -> None:
        self.findings, self.notes = [], []
        self.apart, self.sizes = 0.0, list[int]()

    def headline(self) -> str:
        """Name the batch sizes and the number of findings."""
        sizes = ", ".join(map(str, self.sizes))
        return f"comparison on batches of {sizes}: {self.tally()}"

    def add(self, kind: str, inputs: str, evidence: str) -> None:
        """Add a finding, unless there is one of its kind."""
        if all(found.kind != kind for found in self.findings):
            self.findings.append(ExportFinding(kind, evidence, KINDS[kind].cure, inputs))


def compare(
    original: nn.Module,
    exported: Any,
    inputs: Any,
    *,
    sizes: Sequence[int] | None = None,
    tolerance: float | None = None,
) -> Comparison:
    """Run a model in eval mode and what was exported from it, and say where they part.

    Both are run on several batch sizes, from large to small and back, twice in a row, and on the
    first batch once more at the end: a program that was exported in train mode, for one size only,
    or with a memory of its own, does not come through.

    Parameters
    ----------
    original
        The model. It is run in eval mode without gradients; its modes are put back.
    exported
        A :class:`torch.export.ExportedProgram`, a session of onnxruntime, or anything that is
        called like the model: a traced, scripted or compiled module, a function that asks a
        server. Arrays of NumPy count as tensors.
    inputs
        A tensor, or a tuple of positional arguments; samples lie along the first dimension of
        every tensor, and all have equally many.
    sizes
        Batch sizes to try; the whole batch, a part and a single sample if None.
    tolerance
        How far two answers may be apart, as a share of the largest value in them. By dtype if
        None: 1e-4 for float32, 1e-10 for float64, 3e-2 for bfloat16.

    Returns
    -------
    Comparison
        With ``findings``, ``apart`` and ``sizes``.

    Raises
    ------
    TypeError
        If ``original`` is not a module, or ``exported`` cannot be called.
    ValueError
        If the inputs hold no tensor or tensors of unequal length, ``sizes`` is empty or names a
        size that the inputs do not have, or two calls of the original differ.

    References
    ----------
    https://docs.pytorch.org/docs/stable/export.html

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(4, 4), nn.Dropout()).eval()
    >>> x, batch = torch.randn(8, 4), torch.export.Dim("batch")
    >>> program = torch.export.export(net, (x,), dynamic_shapes=({0: batch},))
    >>> print(compare(net, program, x))
    comparison on batches of 8, 4, 1: no findings
    >>> program = torch.export.export(net.train(), (x,), dynamic_shapes=({0: batch},))
    >>> [found.kind for found in compare(net, program, x).findings]
    ['random-once-exported']
    """
    check_module("original", original)
    call = _callable(exported)
    count = _samples(inputs)
    report = Comparison()
    report.sizes = _check_sizes(sizes, count)
    before = {name: buffer.clone() for name, buffer in original.named_buffers()}
    first: Any = None
    for size in [*report.sizes, *reversed(report.sizes[:-1])]:
        batch, place = _first(inputs, size), f"a batch of {size}"
        expected = _answer(original, batch)
        try:
            one, other = (_as_tensors(call(*map_tensors(batch, Tensor.clone))) for _ in range(2))
        except Exception as error:
            said = f"{type(error).__name__}: {first_line(error)}"
            report.add("fails-on-a-batch-size", place, f"it raises {said}")
            continue
        first = one if first is None and size == report.sizes[0] else first
        if not _agree(one, other, tolerance):
            apart = off_by(relative_gap(one, other))
            report.add("random-once-exported", place, f"two calls differ {apart}")
            continue
        report.apart = max(report.apart, relative_gap(expected, one))
        if not _agree(expected, one, tolerance):
            report.add("unlike-the-original", place, _difference(expected, one))
    _look_back(report, call, inputs, first, tolerance)
    moved = [n for n, b in original.named_buffers() if relative_gap(b, before[n]) > 0]
    if moved:
        with torch.no_grad():
            for name, buffer in original.named_buffers():
                buffer.copy_(before[name])
        evidence = f"its calls moved {', '.join(moved[:3])} of the original (put back)"
        report.add("moves-the-original", "any call", evidence)
    return report


def _look_back(
    report: Comparison, call: Callable[..., Any], inputs: Any, first: Any, tolerance: float | None
) -> None:
    """Ask for the first answer again, when other calls have been made."""
    if first is None or any(found.kind == "random-once-exported" for found in report.findings):
        return
    again = _as_tensors(call(*map_tensors(_first(inputs, report.sizes[0]), Tensor.clone)))
    if not _agree(first, again, tolerance):
        apart = off_by(relative_gap(first, again))
        place = f"a batch of {report.sizes[0]}"
        report.add("remembers-calls", place, f"after other calls the answer is off {apart}")


def _callable(exported: Any) -> Callable[..., Any]:
    if hasattr(exported, "get_inputs") and hasattr(exported, "run"):  # onnxruntime
        names = [entry.name for entry in exported.get_inputs()]

        def ask(*args: Tensor) -> Any:
            arrays = {name: tensor.numpy() for name, tensor in zip(names, args, strict=True)}
            outputs = exported.run(None, arrays)
            return outputs[0] if len(outputs) == 1 else tuple(outputs)

        return ask
    if isinstance(exported, torch.export.ExportedProgram):
        exported = exported.module()
    if not callable(exported):
        raise TypeError(
            f"exported is a {type(exported).__name__}; expected an ExportedProgram, a session of "
            "onnxruntime, or something that can be called like the model."
        )

    def run(*args: Any) -> Any:
        with torch.no_grad():
            return exported(*args)

    return run


def _tensors(inputs: Any) -> Iterator[Tensor]:
    return (leaf for _, leaf in iter_leaves(inputs) if isinstance(leaf, Tensor) and leaf.dim())


def _samples(inputs: Any) -> int:
    lengths = {len(tensor) for tensor in _tensors(inputs)}
    if len(lengths) != 1 or not min(lengths):
        raise ValueError(
            f"inputs has tensors of length {sorted(lengths)}; expected the same number of samples "
            "in each, at least one."
        )
    return lengths.pop()


def _check_sizes(sizes: Sequence[int] | None, count: int) -> list[int]:
    chosen = list(dict.fromkeys([count, -(-count // 2), 1] if sizes is None else sizes))
    if not chosen or not all(0 < size <= count for size in chosen):
        raise ValueError(f"sizes is {chosen}; expected sizes from 1 to the {count} of inputs.")
    return sorted(chosen, reverse=True)


def _first(inputs: Any, size: int) -> tuple[Any, ...]:
    args = inputs if type(inputs) is tuple else (inputs,)
    cut: tuple[Any, ...] = map_tensors(args, lambda t: t[:size] if t.dim() else t)
    return cut


def _answer(original: nn.Module, batch: tuple[Any, ...]) -> Any:
    with evaluating(original), torch.no_grad():
        one, other = (run_on_batch(original, map_tensors(batch, Tensor.clone)) for _ in range(2))
    if relative_gap(one, other) > 1e-3:
        raise ValueError(
            "original gives two answers to one input in eval mode, so that nothing can be "
            "compared with it; expected a model in which utils.audit.audit finds nothing."
        )
    return _as_tensors(one)


def _as_tensors(outputs: Any) -> list[Any]:
    """The leaves of an output, whatever holds them: exporters give tuples for lists and dicts."""
    return [leaf for _, leaf in iter_leaves(outputs)]


def _agree(one: list[Any], other: list[Any], tolerance: float | None) -> bool:
    if tolerance is None:
        kinds = [leaf.dtype for leaf in one if isinstance(leaf, Tensor)]
        tolerance = max((TOLERANCE.get(kind, 0.0) for kind in kinds), default=0.0)
    return relative_gap(one, other) <= tolerance


def _difference(expected: list[Any], found: list[Any]) -> str:
    described = [
        [f"{str(leaf.dtype).removeprefix('torch.')} {tuple(leaf.shape)}" for leaf in _tensors(side)]
        for side in (expected, found)
    ]
    if described[0] != described[1]:
        return f"it returns {', '.join(described[1])} where the original returns " + ", ".join(
            described[0]
        )
    return f"the answers are apart {off_by(relative_gap(expected, found))}"
