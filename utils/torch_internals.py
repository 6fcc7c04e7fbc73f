"""Every private name of PyTorch that the package uses, and what is done where it is missing."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, MutableMapping
from functools import cache
from types import CodeType
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.modules import module as torch_module
from torch.nn.parameter import is_lazy


def _private(module: str, name: str, instead: Any) -> Any:
    """A private object of PyTorch, or what serves where a release has moved it.

    Examples
    --------
    >>> _private("torch.nn", "no_such_name", instead=0)
    0
    """
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        return instead


BATCH_NORMS: Any = _private(
    "torch.nn.modules.batchnorm",
    "_BatchNorm",
    (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
)
"""The base class of batch norms, for ``isinstance``."""

INSTANCE_NORMS: Any = _private(
    "torch.nn.modules.instancenorm",
    "_InstanceNorm",
    (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
)
"""The base class of instance norms, for ``isinstance``."""

DROPOUTS: Any = _private(
    "torch.nn.modules.dropout",
    "_DropoutNd",
    (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout),
)
"""The base class of dropout layers, for ``isinstance``."""

MANAGED = frozenset(vars(nn.Module()))
"""What every module has in its ``__dict__``."""

REBUILT = ("_parameters", "_buffers", "_modules", "_flat_weight_refs")
"""Attributes that a copy of a module has anew; the last are those of recurrent layers."""

_functorch = getattr(torch._C, "_functorch", None)
_transforms = getattr(_functorch, "peek_interpreter_stack", lambda: None)
_dispatch_modes = getattr(torch._C, "_len_torch_dispatch_stack", lambda: 0)
_compiling = getattr(
    getattr(getattr(torch._C, "_dynamo", None), "eval_frame", None),
    "get_eval_frame_callback",
    lambda: None,
)
_jit_tracing = getattr(torch._C, "_is_tracing", lambda: False)
_graph_task = getattr(torch._C, "_current_graph_task_id", lambda: -1)


def own_parameters(module: nn.Module) -> dict[str, nn.Parameter | None]:
    """The parameters that a module registers itself, empty places too."""
    found: dict[str, nn.Parameter | None] = vars(module).get("_parameters", {})
    return found


def own_buffers(module: nn.Module) -> dict[str, Tensor | None]:
    """The buffers that a module registers itself, empty places too."""
    found: dict[str, Tensor | None] = vars(module).get("_buffers", {})
    return found


def own_modules(module: nn.Module) -> dict[str, nn.Module | None]:
    """The children of a module by name, empty places too; none of a scripted one.

    Scripted modules keep theirs elsewhere, and may not be asked while they are being made.
    """
    found = vars(module).get("_modules", {})
    return found if isinstance(found, dict) else {}


def forward_pre_hooks(module: nn.Module) -> Iterable[Any]:
    """The hooks that run before a module's forward; a scripted one has none."""
    hooks: MutableMapping[int, Any] = getattr(module, "_forward_pre_hooks", {})
    return hooks.values()


def forget_forward_hook(handle: Any) -> None:
    """Remove a global forward hook altogether.

    PyTorch's own handle forgets that the hook took keyword arguments, and ``torch.compile`` then
    warns of global hooks.
    """
    handle.remove()
    leftover: dict[int, bool] = getattr(torch_module, "_global_forward_hooks_with_kwargs", {})
    leftover.pop(handle.id, None)


def compiled_class() -> type | None:
    """The class in which ``torch.compile`` wraps a module.

    Asking for it loads the compiler, as making an optimiser does.
    """
    found: type | None = _private("torch._dynamo", "OptimizedModule", None)
    return found


def is_compiled(module: nn.Module) -> bool:
    """Whether ``torch.compile`` has wrapped the module."""
    return type(module).__name__ == "OptimizedModule"


def uncompiled(module: nn.Module) -> nn.Module:
    """What ``torch.compile`` has wrapped; any other module as it is."""
    wrapped = own_modules(module).get("_orig_mod")
    return module if wrapped is None else wrapped


def program_kind(module: nn.Module) -> str | None:
    """How a module was written down as a program; None for an ordinary one.

    Returns
    -------
    str or None
        ``"exported"`` by :func:`torch.export.export`, whose modes cannot be switched; ``"traced"``,
        ``"scripted"`` or ``"frozen"`` by ``torch.jit``.

    Examples
    --------
    >>> program_kind(nn.Linear(2, 2)) is None
    True
    >>> program = torch.export.export(nn.Linear(2, 2), (torch.ones(3, 2),))
    >>> program_kind(program.module())
    'exported'
    """
    names = {kind.__name__ for kind in type(module).__mro__}
    if "_StatefulGraphModule" in names:
        return "exported"
    if not isinstance(module, torch.jit.ScriptModule):
        return None
    written = getattr(module, "_c", None)
    if written is not None and not written.hasattr("training"):
        return "frozen"
    return "traced" if names & {"TopLevelTracedModule", "TracedModule"} else "scripted"


def materialised_class(lazy: type) -> type | None:
    """The class that a lazy layer becomes when it is called the first time."""
    found: type | None = getattr(lazy, "cls_to_become", None)
    return found


def keep_out_of_graphs(code: CodeType) -> None:
    """Have ``torch.compile`` run a function as it stands; without effect where it cannot."""
    skip = _private("torch._dynamo.eval_frame", "skip_code", None)
    if skip is not None:
        skip(code)


def in_compiled_region() -> bool:
    """Whether a function runs as it stands between two graphs of ``torch.compile``."""
    return _compiling() is not None


def has_wrapped_tensors() -> bool:
    """Whether tensors are not what they seem: under ``torch.func``, fake or traced."""
    return _transforms() is not None or _dispatch_modes() > 0


def weak_memory(tensor: Any) -> tuple[int, Any] | None:
    """Where the numbers of a plain tensor lie, without keeping them alive; None for others."""
    memory = storage(tensor)
    return None if memory is None else (memory.data_ptr(), StorageWeakRef(memory))


def is_jit_tracing() -> bool:
    """Whether ``torch.jit.trace`` runs a model to write it down."""
    return bool(_jit_tracing())


def in_backward_pass() -> bool:
    """Whether a backward pass is running, as when a checkpoint runs its part again."""
    return bool(_graph_task() != -1)


def version(tensor: Tensor) -> int:
    """How often a tensor was changed in place; 0 where PyTorch does not count.

    Examples
    --------
    >>> weight = torch.ones(2)
    >>> version(weight), version(weight.add_(1))
    (0, 1)
    """
    if is_lazy(tensor) or tensor.is_inference():
        return 0
    counted: int = getattr(tensor, "_version", 0)
    return counted


def versions(tensors: Iterable[Tensor]) -> list[int]:
    """As :func:`version` for each of several tensors that PyTorch counts."""
    return [getattr(tensor, "_version", 0) for tensor in tensors]


def storage(value: Any) -> torch.UntypedStorage | None:
    """The memory of a plain tensor; None for what has none of its own to look at."""
    if type(value) not in (Tensor, nn.Parameter) or value.layout != torch.strided:
        return None
    try:
        found: torch.UntypedStorage = value.untyped_storage()
        found.data_ptr()
    except RuntimeError:  # a tensor that forward-mode differentiation has wrapped
        return None
    return found


def last_value(weight: Tensor) -> complex | None:
    """The last number of a weight: enough to see that it was changed; None where it has none."""
    if storage(weight) is None or weight.is_meta or not weight.numel():
        return None
    found: complex = weight.detach()[(-1,) * weight.dim()].item()
    return found


def graph_bytes(outputs: Iterable[Tensor], weights: Iterable[Tensor]) -> int | None:
    """What the graph behind some outputs keeps for its backward pass, weights left aside.

    Saved tensors are read where they lie: hooks on them, or around the call, are not run.

    Returns
    -------
    int or None
        Bytes; None where this PyTorch cannot tell.

    Examples
    --------
    >>> x = torch.ones(8, 4, requires_grad=True)
    >>> graph_bytes([x.exp()], [])
    128
    """
    seen = {held.data_ptr() for held in map(storage, weights) if held is not None}
    nodes = [tensor.grad_fn for tensor in outputs]
    visited, total = set(nodes), 0
    while nodes:
        node = nodes.pop()
        if node is None:
            continue
        for name in _saved_names(type(node)):
            saved = getattr(node, name)
            for item in saved if isinstance(saved, (tuple, list)) else (saved,):
                if not hasattr(item, "unpack_hook"):
                    return None
                held = storage(getattr(item, "data", None))
                if held is not None and held.data_ptr() not in seen:
                    seen.add(held.data_ptr())
                    total += held.nbytes()
        following = {node for node, _ in node.next_functions} - visited
        visited |= following
        nodes += following
    return total


@cache
def _saved_names(kind: type) -> tuple[str, ...]:
    """The attributes of a kind of node under which it keeps tensors."""
    return tuple(name for name in dir(kind) if name.startswith("_raw_saved_"))
