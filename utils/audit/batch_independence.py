"""Whether a sample's answer depends on the others in its batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..findings import off_by
from ..nested import is_container, iter_leaves, map_children, map_tensors
from ..rerun import RerunModel
from ..rows import batch_size, is_list_of_rows, rows_apart, select_rows
from ..tracing import Call, blame
from .context import WHOLE_MODEL, AuditContext, distinct
from .perturb import doubled, has_edges, is_numbers, like
from .rounding import NEVER_CERTAIN, beyond_rounding


def detect_batch_dependence(context: AuditContext) -> None:
    """Whether a sample's answer depends on the others in its batch, in eval mode."""
    given = (context.rerun.args, context.rerun.kwargs)
    size = batch_size(given)
    if size is None:
        context.notes.append("samples in a batch: the inputs have no dimension to hold them")
        return
    if size < 2:
        given = map_tensors(given, doubled)
        size = batch_size(given)
        if size != 2 or context.run_or_none(training=False, seed=1, inputs=given) is None:
            context.notes.append("samples in a batch: give two or more to have them compared")
            return
    if has_edges(given, size):
        context.notes.append("samples in a batch: rows are the nodes of a graph")
        return
    same = given[0] is context.rerun.args
    trial = BatchIndependenceTrial(given, size, 0)
    worst = trial.worst(
        context.rerun, same_shapes_only=context.random, full=context.base.output if same else None
    )
    if worst is None:
        context.notes.append(
            "samples in a batch: the model does not take fewer of them, or its output has no "
            "row for each"
        )
        return
    apart, changed, text = worst
    if not context.exceeds_rounding(apart, trial.again, certain_above=NEVER_CERTAIN):
        return
    if _samples_lie_along_one(context, given):
        context.notes.append(
            "samples in a batch: those along dimension 0 influence each other, those along "
            "dimension 1 do not, so they were taken for time steps; if dimension 0 holds the "
            "samples, set batch_first=True"
        )
        return
    calls = trial.blamed(context.rerun, changed)
    for call in calls or [WHOLE_MODEL]:
        if call.name in context.found("random-in-eval"):
            continue  # other samples may make it draw other numbers
        context.report(
            "depends-on-batch",
            call,
            f"a sample's answer changes {off_by(apart)} {text}",
            trial.again,
        )


def _samples_lie_along_one(context: AuditContext, given: Any) -> bool:
    """Whether dimension 1 holds the samples, as in recurrent layers by default."""
    layers = list(context.rerun.model.modules())
    first = next((t for _, t in iter_leaves(given) if isinstance(t, Tensor) and t.dim() > 1), None)
    if first is None or first.shape[1] < 2:
        return False
    if not any(getattr(layer, "batch_first", None) is False for layer in layers):
        return False
    trial = BatchIndependenceTrial(given, first.shape[1], 1)
    worst = trial.worst(context.rerun, same_shapes_only=context.random)
    return worst is not None and not context.exceeds_rounding(worst[0], trial.again)


class BatchIndependenceTrial:
    """The same sample in different company."""

    def __init__(self, given: Any, size: int, dim: int) -> None:
        self.given, self.size, self.dim = given, size, dim
        self._grown: set[str] = set()

    def _variants(self, same_shapes_only: bool) -> Iterator[tuple[Any, slice, int, str]]:
        """Inputs, the rows of the batch to look at, the samples in it, and what was done."""
        size = self.size
        half = max(1, size // 2)
        for rows in (slice(0, half), slice(size - half, size), slice(0, 1)):
            part = select_rows(self.given, size, rows, dim=self.dim)
            text = f"in a batch of {rows.stop - rows.start} instead of {size}"
            if not same_shapes_only:
                yield part, rows, rows.stop - rows.start, text
        ends, every_second = slice(0, size, size - 1), slice(0, size, 2)
        companies = [(ends, 0.5), (every_second, -2.0)]
        if size == 2:
            companies = [(slice(0, 1), 0.5), (slice(1, 2), 0.5)]
        for kept, factor in companies:
            changed = self._change_companions(self.given, kept, factor)
            yield changed, kept, size, "when the others in its batch change"

    def _change_companions(self, value: Any, kept: slice, factor: float) -> Any:
        """The same input with other companions, which a user could have sent.

        Numbers are scaled; indices and masks are those of another sample of the batch, so that
        they stay as valid as they were.
        """
        if self.dim == 0 and is_list_of_rows(value) and len(value) == self.size:
            stay = range(self.size)[kept]
            return [
                entry if index in stay else map_tensors(entry, partial(_scaled, factor=factor))
                for index, entry in enumerate(value)
            ]
        if is_container(value):
            change = partial(self._change_companions, kept=kept, factor=factor)
            return map_children(value, change)
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_nested:
            return value
        if value.dim() <= self.dim or value.shape[self.dim] != self.size:
            return value
        moved = value.movedim(self.dim, 0)
        new = _scaled(moved, factor) if is_numbers(value) else moved.roll(-1, 0)
        new = new.clone()
        new[kept] = moved[kept]
        return new.movedim(0, self.dim)

    def worst(
        self, rerun: RerunModel, *, same_shapes_only: bool = False, full: Any = None
    ) -> tuple[float, tuple[Any, slice, int], str] | None:
        """The largest difference, the inputs that made it, and what was done to them.

        None if nothing could be compared, or if the model never takes fewer samples: then what
        lies along the dimension are no samples.
        """
        if full is None:
            full = rerun.run(training=False, seed=1, inputs=self.given).output
        found: tuple[float, tuple[Any, slice, int], str] | None = None
        taken = same_shapes_only
        for inputs, rows, size, text in self._variants(same_shapes_only):
            if size == self.size and not taken:
                return None
            try:
                part = rerun.run(training=False, seed=1, inputs=inputs).output
            except Exception as error:
                # A batch norm without running statistics refuses a single sample, and no other.
                taken |= "more than 1 value per channel" in str(error)
                continue
            if size < self.size:
                taken = True
                self._note_growth(full, part)
            apart = self._apart(full, part, rows, size)
            if apart is not None and (found is None or apart > found[0]):
                found = apart, (inputs, rows, size), text
        return found

    def _note_growth(self, full: Any, part: Any) -> None:
        """Parts of the output whose rows get longer with the batch: similarities within it."""
        if self.dim != 0 or (is_list_of_rows(full) and len(full) == self.size):
            return
        fewer = dict(iter_leaves(part))
        self._grown |= {
            path
            for path, leaf in iter_leaves(full)
            if isinstance(leaf, Tensor)
            and isinstance(fewer.get(path), Tensor)
            and not leaf.is_nested
            and leaf.dim()
            and fewer[path].dim()
            and (
                (leaf.shape[1:] != fewer[path].shape[1:] and self.size in leaf.shape[1:])
                or len(leaf) == len(fewer[path])
            )
        }

    def _apart(self, full: Any, part: Any, rows: slice, size: int) -> float | None:
        if self._grown:
            full, part = (
                [leaf for path, leaf in iter_leaves(value) if path not in self._grown]
                for value in (full, part)
            )
        if self.dim == 0:
            return rows_apart(full, part, self.size, rows, size=size)
        turned = (_turned(full, self.size), _turned(part, size))
        return rows_apart(*turned, self.size, rows, size=size)

    def again(self, rerun: RerunModel) -> float | None:
        """The same trial on another model, whose precision or flags differ."""
        given = map_tensors(self.given, lambda t: like(t, (rerun.args, rerun.kwargs)))
        worst = BatchIndependenceTrial(given, self.size, self.dim).worst(rerun)
        return worst[0] if worst else None

    def blamed(self, rerun: RerunModel, changed: tuple[Any, slice, int]) -> list[Call]:
        inputs, rows, size = changed
        try:
            full = rerun.run(training=False, seed=1, inputs=self.given, trace=True)
            part = rerun.run(training=False, seed=1, inputs=inputs, trace=True)
        except Exception:
            return []
        picked = rows if size == self.size else slice(None)
        for index, call in enumerate(full.calls):
            values = call.inputs, call.outputs
            places = _places(values, self.size)
            call.inputs, call.outputs = _rows_of(values, self.size, rows, places)
            if index < len(part.calls):
                other = part.calls[index]
                values = other.inputs, other.outputs
                other.inputs, other.outputs = _rows_of(values, size, picked, places)
        return distinct(blame(full, part, beyond_rounding))


def _scaled(tensor: Tensor, factor: float) -> Tensor:
    """Other numbers in place of those of a tensor; indices and masks stay."""
    if not is_numbers(tensor):
        return tensor
    return factor * tensor if bool(tensor.any()) else tensor + 0.5


def _turned(value: Any, batch: int) -> Any:
    """Outputs with their samples along dimension 0."""

    def turn(tensor: Tensor) -> Tensor:
        along_one = tensor.dim() > 1 and tensor.shape[1] == batch
        return tensor.movedim(1, 0) if along_one else tensor

    return map_tensors(value, turn)


def _places(value: Any, batch: int) -> list[int | None]:
    """For each tensor, the dimension along which its samples lie."""

    def place(tensor: Tensor) -> int | None:
        if tensor.dim() and len(tensor) and len(tensor) % batch == 0:
            return 0
        return 1 if tensor.dim() > 1 and tensor.shape[1] == batch else None

    return [place(leaf) for _, leaf in iter_leaves(value) if isinstance(leaf, Tensor)]


def _rows_of(value: Any, batch: int, rows: slice, places: Sequence[int | None]) -> Any:
    """The values that belong to some samples, which lie where those of the whole batch did."""
    known = iter(places)

    def view(tensor: Tensor) -> Tensor:
        place = next(known, None)
        if place == 0 and tensor.dim() and len(tensor) % batch == 0:
            return tensor.reshape(batch, len(tensor) // batch, *tensor.shape[1:])[rows]
        return tensor[:, rows] if place == 1 and tensor.dim() > 1 else tensor

    return map_tensors(value, view)
