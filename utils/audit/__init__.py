"""Is a model right in eval mode? Decided by running it.

In a shell, with a function that makes the model and the shape of an input::

    evalmode audit mypackage.models:make_model --input 8,3,32,32

In a test suite, in one line::

    audit(model, inputs).raise_for_findings()
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ..arguments import check_module
from ..findings import Report
from ..module_tree import module_rows, tree_as_html
from ..nested import iter_leaves
from ..rerun import RerunModel, undisturbed
from ..torch_internals import is_compiled, program_kind, uncompiled
from .batch_independence import detect_batch_dependence
from .context import AuditContext, ModelFinding
from .determinism import (
    detect_gradient_mode,
    detect_non_finite_output,
    detect_randomness,
    detect_stale_weights,
    detect_state_and_history,
)
from .statistics import detect_bad_statistics, detect_unsettled_state
from .switching import (
    detect_dead_eval,
    detect_forward_that_switches,
    detect_mixed_modes,
    detect_repeated_eval,
    detect_unfollowed_switches,
)

__all__ = ["Audit", "ModelFinding", "audit"]

DETECTORS = (
    detect_mixed_modes,
    detect_unfollowed_switches,
    detect_non_finite_output,
    detect_bad_statistics,
    detect_unsettled_state,
    detect_forward_that_switches,
    detect_repeated_eval,
    detect_dead_eval,
    detect_randomness,
    detect_state_and_history,
    detect_stale_weights,
    detect_gradient_mode,
    detect_batch_dependence,
)
"""In the order in which they run: some ask what those before them found."""


class Audit(Report):
    """What :func:`audit` found; prints as a table."""

    findings: list[ModelFinding]  # type: ignore[assignment]

    def __init__(self, model: nn.Module, findings: list[ModelFinding], notes: list[str]) -> None:
        self.findings, self.notes = findings, notes
        self._name = type(model).__name__
        self._rows = module_rows(model) if findings else {}

    def headline(self) -> str:
        """Name the model's class and the number of findings."""
        return f"audit of {self._name}: {self.tally()}"

    def _repr_html_(self) -> str:
        blamed: dict[str, str] = {}
        for found in self.findings:
            blamed[found.module] = ", ".join(filter(None, [blamed.get(found.module), found.kind]))
        return super()._repr_html_() + (tree_as_html(self._rows, blamed) if blamed else "")


def audit(model: nn.Module, inputs: Any, kwargs: Mapping[str, Any] | None = None) -> Audit:
    """Run a model in both modes and report what is wrong with the way it listens to them.

    Everything happens on copies. The model, its modes, buffers, gradients and hooks and every
    global random state are left as they were, and so is what its code keeps outside of it, in
    classes, globals, closures and default arguments; not so a file that it writes, or an
    ``lru_cache``.

    Parameters
    ----------
    model
        Any module.
    inputs
        What to call it with: a tensor, or a tuple of positional arguments. Anything else, such
        as a dict or a list of images, is passed as one argument. Samples lie along the first
        dimension; two or more are needed to see whether they influence each other. Data like
        that of training lets running statistics be judged.
    kwargs
        Keyword arguments of the call.

    Returns
    -------
    Audit
        With ``findings``, each a :class:`ModelFinding`, and ``notes``.

    Raises
    ------
    TypeError
        If ``model`` is not a module.
    ValueError
        If the model has lazy parameters, is a frozen script, lies on another device than the
        inputs, or fails on them in eval mode, with gradients on as without.

    References
    ----------
    https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html

    Examples
    --------
    >>> class Net(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.layer = nn.Linear(4, 4)
    ...     def forward(self, x):
    ...         return nn.functional.dropout(self.layer(x))
    >>> [(f.kind, f.module) for f in audit(Net(), torch.ones(8, 4)).findings]
    [('random-in-eval', '')]
    >>> audit(nn.Sequential(nn.Linear(4, 4), nn.Dropout()), torch.ones(8, 4)).findings
    []
    """
    check_module("model", model)
    compiled, model = is_compiled(model), uncompiled(model)
    args = inputs if type(inputs) is tuple else (inputs,)
    _check_ready(model, (args, dict(kwargs or {})))
    with undisturbed():
        torch.backends.mha.set_fastpath_enabled(False)
        with _run_as_written(model), RerunModel(model, args, kwargs) as rerun:
            examination = AuditContext(rerun)
            for detector in DETECTORS:
                if not examination.repeatable:
                    break  # those that are left compare calls with one seed
                detector(examination)
    if compiled:
        note = "the compiled program: the model inside was run as it is written"
        examination.notes.insert(0, note)
    order = list(examination.modules)
    findings = sorted(examination.findings, key=lambda found: order.index(found.module))
    return Audit(model, findings, examination.notes)


def _run_as_written(model: nn.Module) -> AbstractContextManager[Any]:
    """Run what ``torch.compile`` has wrapped as it was written: hooks must see every call."""
    compiled = any(map(is_compiled, model.modules()))
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()


def _check_ready(model: nn.Module, inputs: Any) -> None:
    if program_kind(model) == "frozen":
        raise ValueError(
            "model is a frozen script, which has one mode for ever and no layers to look at; "
            "expected the model that it was made from. utils.export.compare sets the two side by "
            "side."
        )
    named = [*model.named_parameters(), *model.named_buffers()]
    lazy = [name for name, tensor in named if nn.parameter.is_lazy(tensor)]
    if lazy:
        raise ValueError(
            f"model has lazy parameters ({', '.join(lazy[:3])}); expected a model that has been "
            "run once, so that their shapes are known."
        )
    devices = {tensor.device for _, tensor in named}
    for path, leaf in iter_leaves(inputs):
        if isinstance(leaf, Tensor) and devices and leaf.device not in devices:
            raise ValueError(
                f"inputs{path} is on {leaf.device}, the model on "
                f"{', '.join(sorted(map(str, devices)))}; expected them on one device."
            )
        if isinstance(leaf, Tensor) and leaf.is_meta:
            raise ValueError(f"inputs{path} is on meta; expected a tensor with values.")
