"""Whether a difference between two runs is more than rounding explains."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from ..nested import iter_leaves, map_tensors, relative_gap
from ..rerun import RerunModel, put_in_mode
from .perturb import in_double, to_double

HALF_PRECISION_EPS = 1e-4
"""A type that rounds more coarsely has half precision."""
NEVER_CERTAIN = math.inf
"""For differences of which double precision is always asked."""
DOUBLE_EPS = 1e-12
"""A type that rounds more finely is double precision."""
CERTAIN_IN_DOUBLE = 1e-9
"""In double precision a smaller difference is rounding, of a badly conditioned step for one."""

Trial = Callable[[RerunModel], "float | None"]
"""Makes one comparison on a model and says how far apart its two answers are."""


def exceeds_rounding(
    rerun: RerunModel, base: Any, apart: float, again: Trial, certain_above: float
) -> bool:
    """Whether a difference is more than rounding explains.

    Parameters
    ----------
    rerun
        The model.
    base
        Its output in eval mode.
    apart
        The difference, relative to the largest value.
    again
        The same trial, to be made on the model in double precision.
    certain_above
        From where on no doubt is left, unless the type rounds coarsely or the answer is in whole
        numbers, which rounding may flip: then double precision is asked.
    """
    eps = coarsest([base, *rerun.model.parameters()])
    low, high = 64 * eps, max(certain_above, 50 * eps)
    if eps > HALF_PRECISION_EPS:  # its rounding is as large as many a real difference
        low, high = eps, math.inf
    if apart <= low:
        return False
    if math.isfinite(apart) and apart >= high:
        return True
    finer = None if eps < DOUBLE_EPS else _in_double(rerun, again)
    if finer is not None:
        return finer > (apart / 50 if math.isfinite(apart) else CERTAIN_IN_DOUBLE)
    return apart > max(30 * _noise(rerun, base, eps), CERTAIN_IN_DOUBLE)


def _in_double(rerun: RerunModel, again: Trial) -> float | None:
    """The same difference in double precision, if the model can be run in it."""
    copied = rerun.own_copy()
    try:
        with in_double(copied or rerun.pristine_copy()) as model:
            args, kwargs = map_tensors((rerun.args, rerun.kwargs), to_double)
            with RerunModel(model, args, kwargs) as finer:
                finer.usual_grad = rerun.usual_grad
                output = finer.run(training=False, seed=1).output
                return None if coarsest([output]) > DOUBLE_EPS else again(finer)
    except Exception:
        return None


def _noise(rerun: RerunModel, base: Any, eps: float) -> float:
    """How far the answer moves when every weight moves by a rounding error."""
    model = rerun.pristine_copy()
    put_in_mode(model, False)
    generator = torch.Generator().manual_seed(0)
    # A model that cannot be copied is asked itself, and gets its own weights back to the bit.
    kept = [(p, p.detach().clone()) for p in model.parameters()] if model is rerun.model else []
    try:
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.is_floating_point():
                    signs = torch.rand(parameter.shape, generator=generator).to(parameter.device)
                    parameter.mul_(1 + (4 * eps * (signs - 0.5)).to(parameter.dtype))
        output = rerun.run(training=False, seed=1, model=model).output
    except Exception:
        return eps
    finally:
        with torch.no_grad():
            for parameter, value in kept:
                parameter.copy_(value)
    return max(eps, relative_gap(base, output))


def coarsest(values: Iterable[Any]) -> float:
    """The largest rounding error among the floating types of some nested values."""
    kinds = {
        leaf.dtype
        for value in values
        for _, leaf in iter_leaves(value)
        if isinstance(leaf, Tensor) and leaf.is_floating_point() and not leaf.is_quantized
    }
    return max((torch.finfo(kind).eps for kind in kinds), default=1e-7)


def rounding(eps: float) -> float:
    """How far rounding may move an answer, by the precision of its type."""
    return (8 if eps > HALF_PRECISION_EPS else 64) * eps


def beyond_rounding(one: Any, other: Any) -> bool:
    return relative_gap(one, other) > rounding(coarsest([one, other]))
