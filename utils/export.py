"""Does an exported model answer as the model it was made from? Decided by running both."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from .arguments import check_module
from .findings import Finding, Report, in_one_line, off_by
from .kinds import KINDS
from .modes import evaluating
from .nested import iter_leaves, map_tensors, relative_gap, to_dense
from .snapshot import Snapshot, copy_model
from .torch_internals import program_kind

__all__ = ["Comparison", "ExportFinding", "compare"]

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 3e-2}
"""How far answers may be apart, as a share of their size: another order of additions."""
FAR_ABOVE = 1e4
"""A value that is this many times the median is no measure of size: a mask of -1e9, for one."""
LEAST_SHARE = 1e-2
"""What counts at least as the size of a column, as a share of the largest value."""


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
        The largest difference of two answers, as a share of the largest value in its column.
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
    kwargs: Mapping[str, Any] | None = None,
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
        The model. A copy of it is run, in eval mode without gradients.
    exported
        A :class:`torch.export.ExportedProgram`, a session of onnxruntime, or anything that is
        called like the model: a traced, scripted or compiled module, a function that asks a
        server. Arrays of NumPy count as tensors.
    inputs
        A tensor, or a tuple of positional arguments; samples lie along the first dimension of
        every tensor, and all have equally many. Wrap model and program in functions of the
        samples where an argument is something else.
    kwargs
        Keyword arguments, in the same way.
    sizes
        Batch sizes to try; the whole batch, a part and a single sample if None.
    tolerance
        How far two numbers may be apart, as a share of the largest in their column, the place in
        an answer. By dtype if None: 1e-4 for float32, 1e-10 for float64, 3e-2 for bfloat16.

    Returns
    -------
    Comparison
        With ``findings``, ``notes``, ``apart`` and ``sizes``. What these inputs do not reach is
        not seen: a branch, a longer sequence, an answer that is empty on all of them.

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
    given = (inputs if type(inputs) is tuple else (inputs,), dict(kwargs or {}))
    report = Comparison()
    report.sizes = _check_sizes(sizes, _samples(given))
    reference = _reference(original)
    state = Snapshot(original)
    try:
        _run_both(report, reference, call, given, tolerance)
        as_it_was = state.unchanged()
        moved = [name for name, b in original.named_buffers() if id(b) not in as_it_was]
    finally:
        state.put_back()
    if moved and reference is not original:
        evidence = f"its calls moved {', '.join(moved[:3])} of the original (put back)"
        report.add("moves-the-original", "any call", evidence)
    return report


Given: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and keyword arguments."""


def _run_both(
    report: Comparison,
    reference: nn.Module,
    call: Callable[..., Any],
    given: Given,
    tolerance: float | None,
) -> None:
    first: Any = None
    for size in [*report.sizes, *reversed(report.sizes[:-1])]:
        batch, place = _first(given, size), f"a batch of {size}"
        expected = _answer(reference, batch)
        _note_what_says_nothing(report, expected)
        try:
            one, other = (call(*args, **named) for args, named in (_fresh(batch), _fresh(batch)))
        except Exception as error:
            report.add("fails-on-a-batch-size", place, f"it raises {in_one_line(error)}")
            continue
        first = one if first is None and size == report.sizes[0] else first
        apart, too_far = _gap(one, other, tolerance)
        if too_far:
            report.add("random-once-exported", place, f"two calls differ {off_by(apart)}")
            continue
        apart, too_far = _gap(expected, one, tolerance)
        report.apart = max(report.apart, apart)
        if too_far:
            report.add("unlike-the-original", place, _difference(expected, one, apart))
    if first is None or any(found.kind == "random-once-exported" for found in report.findings):
        return
    place = f"a batch of {report.sizes[0]}"
    args, named = _fresh(_first(given, report.sizes[0]))
    try:
        apart, too_far = _gap(first, call(*args, **named), tolerance)
    except Exception as error:
        said = f"after other calls it raises {in_one_line(error)}"
        report.add("remembers-calls", place, said)
        return
    if too_far:
        report.add("remembers-calls", place, f"after other calls the answer is off {off_by(apart)}")


def _callable(exported: Any) -> Callable[..., Any]:
    if hasattr(exported, "get_inputs") and hasattr(exported, "run"):  # onnxruntime
        names = [entry.name for entry in exported.get_inputs()]

        def ask(*args: Any, **named: Any) -> Any:
            tensors = [leaf for _, leaf in iter_leaves(args) if isinstance(leaf, Tensor)]
            free = [name for name in names if name not in named]
            arrays = {**dict(zip(free, tensors, strict=True)), **named}
            outputs = exported.run(None, {name: arrays[name].numpy() for name in names})
            return outputs[0] if len(outputs) == 1 else tuple(outputs)

        return ask
    if isinstance(exported, torch.export.ExportedProgram):
        exported = exported.module()
    if not callable(exported):
        raise TypeError(
            f"exported is a {type(exported).__name__}; expected an ExportedProgram, a session of "
            "onnxruntime, or something that can be called like the model."
        )

    def run(*args: Any, **named: Any) -> Any:
        with torch.no_grad():
            return exported(*args, **named)

    return run


def _reference(original: nn.Module) -> nn.Module:
    """A copy, so that whatever moves in the original was moved by the program."""
    if program_kind(original) is not None:
        return original
    try:
        return copy_model(original)
    except Exception:
        return original


def _tensors(inputs: Any) -> Iterator[Tensor]:
    return (leaf for _, leaf in iter_leaves(inputs) if isinstance(leaf, Tensor) and leaf.dim())


def _samples(inputs: Any) -> int:
    lengths = {len(tensor) for tensor in _tensors(inputs)}
    if len(lengths) != 1 or not min(lengths):
        raise ValueError(
            f"inputs has tensors of length {sorted(lengths)}; expected the same number of samples "
            "in each, along the first dimension, and at least one."
        )
    return lengths.pop()


def _check_sizes(sizes: Sequence[int] | None, count: int) -> list[int]:
    chosen = list(dict.fromkeys([count, -(-count // 2), 1] if sizes is None else sizes))
    if not chosen or not all(0 < size <= count for size in chosen):
        raise ValueError(f"sizes is {chosen}; expected sizes from 1 to the {count} of inputs.")
    return sorted(chosen, reverse=True)


def _first(given: Given, size: int) -> Given:
    cut: Given = map_tensors(given, lambda t: t[:size] if t.dim() else t)
    return cut


def _fresh(given: Given) -> Given:
    """Copies of the inputs, since a program may change them in place."""
    made: Given = map_tensors(given, lambda t: t.detach().clone())
    return made


def _answer(reference: nn.Module, batch: Given) -> Any:
    with evaluating(reference), torch.no_grad():
        one, other = (reference(*args, **named) for args, named in (_fresh(batch), _fresh(batch)))
    apart, _ = _gap(one, other, None)
    if apart > 1e-3:
        raise ValueError(
            "original gives two answers to one input in eval mode, so that nothing can be "
            "compared with it; expected a model in which utils.audit.audit finds nothing."
        )
    return one


def _leaves(outputs: Any) -> list[tuple[str, Any]]:
    """The leaves of an output with their places. Exporters leave None out."""
    return [(path, leaf) for path, leaf in iter_leaves(outputs) if leaf is not None]


def _gap(one: Any, other: Any, tolerance: float | None) -> tuple[float, bool]:
    """How far two outputs are apart, and whether that is too far for the dtype of a part."""
    ones, others = _leaves(one), _leaves(other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        ones, others = (sorted(side, key=itemgetter(0)) for side in (ones, others))
        if [path for path, _ in ones] != [path for path, _ in others]:
            return float("inf"), True
    if len(ones) != len(others):  # exporters give tuples for lists: places do not count
        return float("inf"), True
    furthest, too_far = 0.0, False
    for (_, a), (_, b) in zip(ones, others, strict=True):
        own = TOLERANCE.get(a.dtype, 0.0) if isinstance(a, Tensor) else 0.0
        apart = _column_gap(a, b)
        furthest = max(furthest, apart)
        too_far |= apart > (own if tolerance is None else tolerance)
    return furthest, too_far


def _column_gap(one: Any, other: Any) -> float:
    """The largest difference, each as a share of the largest value in its column."""
    whole = relative_gap(one, other)
    if whole == 0 or not isinstance(one, Tensor) or not isinstance(other, Tensor):
        return whole
    if whole == float("inf") or not one.is_floating_point() or one.dim() == 0:
        return whole
    a, b = to_dense(one).detach().double(), to_dense(other).detach().double()
    alike = (a == b) | (a.isnan() & b.isnan())
    gap = torch.where(alike, 0.0, (a - b).abs())
    sizes = torch.where(a.isfinite(), a.abs(), 0.0)
    typical = sizes[sizes > 0]
    if not len(typical):
        return whole
    sizes = torch.where(sizes > FAR_ABOVE * typical.median(), 0.0, sizes)
    scale = sizes.amax(dim=0, keepdim=True).clamp(min=float(LEAST_SHARE * sizes.max()))
    scale = torch.maximum(scale, torch.where(a.isfinite(), a.abs(), 0.0))
    return float((gap / scale).max())


def _note_what_says_nothing(report: Comparison, expected: Any) -> None:
    tensors = [leaf for _, leaf in _leaves(expected) if isinstance(leaf, Tensor)]
    said = []
    if not tensors or any(not tensor.numel() for tensor in tensors):
        said.append("outputs that are empty on these inputs")
    if any(tensor.is_floating_point() and tensor.isnan().any() for tensor in tensors):
        said.append("outputs that are nan on these inputs")
    report.notes += [note for note in said if note not in report.notes]


def _difference(expected: Any, found: Any, apart: float) -> str:
    described = [
        [f"{str(leaf.dtype).removeprefix('torch.')} {tuple(leaf.shape)}" for leaf in _tensors(side)]
        for side in (expected, found)
    ]
    if described[0] != described[1]:
        return f"it returns {', '.join(described[1])} where the original returns " + ", ".join(
            described[0]
        )
    return f"the answers are apart {off_by(apart)}"
