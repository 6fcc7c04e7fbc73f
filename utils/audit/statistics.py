"""Whether running statistics are finite, updated, and like what their layer receives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ..findings import first_few, off_by, rounded
from ..nested import relative_gap
from ..rerun import put_in_mode
from ..torch_internals import BATCH_NORMS, INSTANCE_NORMS, own_buffers
from .context import AuditContext

MAX_MEAN_SHIFT = 3.0
"""A mean that is further from the running mean, in standard deviations, is far off."""
MAX_VARIANCE_RATIO = 10.0
"""A variance that is so many times the running variance, or its inverse, is far off."""
LONE_MEAN_SHIFT, LONE_VARIANCE_RATIO = 15.0, 1000.0
"""The same for one channel among many, which is enough to be far off by so much."""


def detect_bad_statistics(context: AuditContext) -> None:
    """Running statistics: finite, updated, and like what the layer receives."""
    model = context.rerun.model
    layers = {
        name: module
        for name, module in context.modules.items()
        if isinstance(getattr(module, "running_mean", None), Tensor)
        and isinstance(getattr(module, "running_var", None), Tensor)
    }
    for name, buffer in model.named_buffers():
        owner, _, own = name.rpartition(".")
        running = own.startswith("running_")
        if not buffer.is_floating_point() or buffer.is_meta:
            continue
        bad = ~buffer.isfinite() if running else buffer.isnan()
        if own == "running_var":
            bad |= buffer < 0
        if bool(bad.any()):
            context.add(
                "non-finite-statistics",
                owner,
                f"{int(bad.sum())} of {bad.numel()} values of {own} are nan, infinite or "
                "a negative variance",
            )
    bad_layers = context.found("non-finite-statistics")
    norm_inputs = {
        name: calls
        for name, calls in context.base.norm_inputs.items()
        if name in layers and name not in bad_layers
    }
    untouched = {name for name in norm_inputs if _untouched(layers[name])}
    new = untouched == set(norm_inputs) and all(_unscaled(layers[n]) for n in norm_inputs)
    far = {name: why for name in norm_inputs if (why := _misfit(layers[name], norm_inputs[name]))}
    lagging = [
        n for n in norm_inputs if _share_of_initial_value(layers[n]) > 1e-3 and n not in untouched
    ]
    if new:
        far = {}
    elif len(far) > 1 or (far and lagging):
        far = _without_downstream(context, layers, far, bool(lagging))
    for name, text in far.items():
        if name in untouched:
            _never_updated(context, name, text)
        else:
            context.add("statistics-far-off", name, text)
    if not new:
        for name in untouched - set(far):
            _never_updated(context, name, "mean 0 and variance 1 as it was made")
    for name, calls in norm_inputs.items():
        text = _streams_differ(calls, layers[name])
        if text:
            context.add(
                "shared-by-unlike-inputs",
                name,
                text,
            )
    if new and untouched:
        context.notes.append(
            "running statistics: no layer has been trained yet, none can be judged"
        )
    elif lagging:
        context.notes.append(
            f"running statistics: {len(lagging)} of {len(norm_inputs)} layers count so few "
            "batches that their first values may still be in"
        )


SETTLING_CALLS = 5
"""Calls in train mode after which an estimate should not have moved the answer far."""
UNSETTLED = 0.5
"""A share of the answer; more than this is far."""


def detect_unsettled_state(context: AuditContext) -> None:
    """State that train mode estimates, batch norm's aside, and that has never been estimated.

    Spectral norm's vectors, for one, and running statistics of one's own: in eval mode they are
    used as they are.
    """
    original = context.rerun.model
    state = dict(original.named_buffers())
    norms = {
        f"{name}.{buffer}" if name else buffer
        for name, module in context.modules.items()
        if isinstance(module, BATCH_NORMS)
        for buffer in own_buffers(module)
    }
    if not state.keys() - norms:
        return
    model = context.rerun.pristine_copy()
    put_in_mode(model, True)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    for seed in range(SETTLING_CALLS):
        if context.run_or_none(training=True, seed=seed, model=model) is None:
            return
    moved = []
    for name, buffer in model.named_buffers():
        if name in norms:
            buffer.copy_(before[name])
        elif name in before and relative_gap(buffer, before[name]) > 0:
            moved.append(name)
    put_in_mode(model, False)
    run = context.run_or_none(training=False, seed=1, model=model) if moved else None
    apart = relative_gap(context.base.output, run.output) if run else 0.0
    if apart > UNSETTLED:
        context.notes.append(
            f"state that train mode estimates ({first_few(moved)}): it has not settled, and after "
            f"{SETTLING_CALLS} calls in train mode the answer in eval mode is another one, off "
            f"{off_by(apart)}"
        )


def _never_updated(context: AuditContext, name: str, text: str) -> None:
    context.add(
        "statistics-never-updated",
        name,
        f"its running statistics have never been updated: {text}",
    )


def _without_downstream(
    context: AuditContext, layers: Mapping[str, nn.Module], far: Mapping[str, str], lagging: bool
) -> dict[str, str]:
    """Leave out layers that are far off only because one before them is."""
    run = context.run_or_note("train mode", training=True, seed=1, measure=True)
    if run is not None:
        alone = {
            name: why
            for name in far
            if name in run.norm_inputs and (why := _misfit(layers[name], run.norm_inputs[name]))
        }
        if alone or lagging:
            return alone
    first = next(iter(far))
    return {first: far[first]}


def _untouched(layer: Any) -> bool:
    """Whether the running statistics are as they were made."""
    var = layer.running_var
    return bool((layer.running_mean == 0).all()) and bool(((var == 1) | (var == 0)).all())


def _unscaled(layer: Any) -> bool:
    """Whether weight and bias are as they were made."""
    tracked = getattr(layer, "num_batches_tracked", None)
    if tracked is not None and int(tracked):
        return False
    bias = getattr(layer, "bias", None)
    weight = getattr(layer, "weight", None)
    if bias is not None:
        return bool((bias == 0).all())
    return weight is None or bool((weight == weight.flatten()[0]).all())


def _misfit(layer: Any, calls: Sequence[tuple[int, Tensor, Tensor]]) -> str | None:
    """Compare what reached a layer with its running statistics; None if they fit.

    Few batches leave a share of the values 0 and 1 that a layer was made with. Whether they do
    cannot be told from the count, which a re-estimation begins again: the statistics fit if they do
    as they are or without that share.
    """
    if sum(n for n, _, _ in calls) < 8 or len(calls) > 1:
        return None
    mean, var = layer.running_mean.float(), layer.running_var.float()
    text = _far_off(layer, calls[0], mean, var)
    rest = _share_of_initial_value(layer)
    if text and 1e-3 < rest < 1:
        return _far_off(
            layer, calls[0], mean / (1 - rest), ((var - rest) / (1 - rest)).clamp(min=0)
        )
    return text


def _far_off(layer: Any, call: tuple[int, Tensor, Tensor], mean: Tensor, var: Tensor) -> str | None:
    _, average, variance = call
    eps = float(getattr(layer, "eps", 1e-5))
    shifts = (average - mean).abs() / (var + eps).sqrt()
    spread = (variance + eps) / (var + eps)
    ratios = spread[(variance > eps) | (var > eps)]
    if not bool(shifts.isfinite().all()) or not bool(ratios.isfinite().all()):
        return None
    # A channel that hardly varies in training says little by itself; of the others, one is enough.
    usual = var > var.median() / 100
    lone_shift = float(shifts[usual].max()) if bool(usual.any()) else 0.0
    lone_ratio = float(spread[usual].max()) if bool(usual.any()) else 1.0
    off = max(float(shifts.median()), float(shifts.max()) / 20)
    ratio = float(ratios.median()) if len(ratios) else 1.0
    size = max(ratio, 1 / max(ratio, 1e-12))
    if ratio < 1 and float(variance.sum()) > 0.3 * float(var.sum()):
        size = 1.0  # rare features: most are silent in one batch, and the rest make up for it
    if isinstance(layer, INSTANCE_NORMS):
        size = lone_ratio = 1.0
    if size > MAX_VARIANCE_RATIO:
        which = "larger" if ratio > 1 else "smaller"
        return f"it receives a variance {rounded(size)} times {which} than the running variance"
    if lone_ratio > LONE_VARIANCE_RATIO:
        return (
            f"it receives a variance {rounded(lone_ratio)} times larger than the running "
            "variance, in the channel that is furthest"
        )
    if off > MAX_MEAN_SHIFT or lone_shift > LONE_MEAN_SHIFT:
        return (
            f"it receives a mean {rounded(float(shifts.max()))} standard deviations from the "
            "running mean, in the channel that is furthest"
        )
    return None


def _share_of_initial_value(layer: Any) -> float:
    """How much of its first values may still be in a layer's running statistics."""
    tracked, momentum = getattr(layer, "num_batches_tracked", None), getattr(layer, "momentum", 0)
    if tracked is None or not momentum or isinstance(layer, INSTANCE_NORMS):
        return 0.0  # instance norm has the counter and never counts
    share = (1 - momentum) ** int(tracked)
    # A variance of 1 that is still in by this share would leave no smaller one.
    return 0.0 if bool((layer.running_var < 0.99 * share).any()) else share


def _streams_differ(calls: Sequence[tuple[int, Tensor, Tensor]], layer: nn.Module) -> str:
    """Say how two streams that share a layer differ, if they do."""
    if len(calls) < 2 or min(n for n, _, _ in calls) < 8:
        return ""
    eps = float(getattr(layer, "eps", 1e-5))
    for index, (n, mean, var) in enumerate(calls):
        for m, other_mean, other_var in calls[index + 1 :]:
            pooled = ((var + other_var) / 2 + eps).sqrt()
            shift = float(((mean - other_mean).abs() / pooled).median())
            ratio = float(((var + eps) / (other_var + eps)).median())
            ratio = max(ratio, 1 / ratio)
            spread = math.sqrt(2 / min(n, m))
            if shift > max(1.0, 4 * spread) or ratio > max(4.0, math.exp(6 * spread)):
                return (
                    f"{len(calls)} calls in one forward share it, and two of them bring means "
                    f"{rounded(shift)} standard deviations apart, variances in the ratio "
                    f"{rounded(ratio)}"
                )
    return ""
