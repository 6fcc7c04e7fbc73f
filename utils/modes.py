"""Reading, holding and restoring the train or eval mode of a model."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

from torch import nn

from .arguments import check_module
from .listening import listens
from .module_tree import module_rows, tree_as_html
from .torch_internals import program_kind

__all__ = [
    "ModeTable",
    "evaluating",
    "is_kept_in_eval",
    "keep_in_eval",
    "listens",
    "mode_of",
    "mode_table",
    "release_from_eval",
]

ModuleT = TypeVar("ModuleT", bound=nn.Module)


@contextmanager
def evaluating(model: ModuleT) -> Iterator[ModuleT]:
    """Put a model in evaluation mode, and every submodule back in its own mode afterwards.

    Unlike ``model.eval()`` followed by ``model.train()``, it does not thaw what was frozen on
    purpose. Modes are restored after an exception too, and ``with`` blocks may be nested.

    Parameters
    ----------
    model
        Any module. Its ``training`` flags are the only thing that changes.

    Yields
    ------
    nn.Module
        The same model, after ``model.eval()``. What that does not reach, a layer in a list or
        behind an override of ``train``, stays as it was; see :func:`utils.audit.audit`. A program
        of :func:`torch.export.export`, and a frozen one of ``torch.jit``, have one mode for ever
        and are left alone.

    Raises
    ------
    TypeError
        If ``model`` is not a module.

    See Also
    --------
    torch.nn.Module.eval : Sets evaluation mode and leaves it set.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    >>> with evaluating(net):
    ...     net[1].training
    False
    >>> net[1].training
    True
    """
    check_module("model", model)
    if program_kind(model) in ("exported", "frozen"):
        yield model
        return
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        yield model
    finally:
        for module, training in modes:
            if module.training != training:
                module.training = training


def mode_of(model: nn.Module) -> Literal["train", "eval", "mixed"]:
    """Say in which mode a model is, all of its submodules considered.

    Parameters
    ----------
    model
        Any module.

    Returns
    -------
    str
        ``"train"`` or ``"eval"`` if the model and every submodule agree, else ``"mixed"``.

    Raises
    ------
    TypeError
        If ``model`` is not a module.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    >>> mode_of(net)
    'train'
    >>> _ = net[1].eval()
    >>> mode_of(net)
    'mixed'
    """
    check_module("model", model)
    flags = {bool(module.training) for module in model.modules()}
    if len(flags) == 2:
        return "mixed"
    return _mode_name(flags.pop())


class ModeTable(dict[str, str]):
    """The mode of each submodule by its qualified name; prints as a table, is drawn in a notebook.

    The root has the name ``""``. A module that is registered under two names has two rows.
    Made by :func:`mode_table`.
    """

    def __init__(self, model: nn.Module) -> None:
        self._rows = module_rows(model)
        super().__init__({name: _mode_name(row.training) for name, row in self._rows.items()})
        self.classes = {name: row.kind for name, row in self._rows.items()}

    def _repr_html_(self) -> str:
        return tree_as_html(self._rows)

    def __repr__(self) -> str:
        rows = [("name", "module", "mode")]
        rows += [(name or "(root)", self.classes[name], mode) for name, mode in self.items()]
        widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
        return "\n".join(f"{a:{widths[0]}}  {b:{widths[1]}}  {c}" for a, b, c in rows)


def mode_table(model: nn.Module) -> ModeTable:
    """List every submodule with its mode.

    Parameters
    ----------
    model
        Any module.

    Returns
    -------
    ModeTable
        A dict from qualified name to ``"train"`` or ``"eval"``, which prints as a table.

    Raises
    ------
    TypeError
        If ``model`` is not a module.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    >>> _ = net[1].eval()
    >>> mode_table(net)
    name    module      mode
    (root)  Sequential  train
    0       Linear      train
    1       Dropout     eval
    >>> mode_table(net)["1"]
    'eval'
    """
    check_module("model", model)
    return ModeTable(model)


class _KeepInEval:
    """Stands in for ``train`` on a module that is kept in evaluation mode.

    Saved models name it by the name under which the package is installed, so that one which was
    saved from the book's folder ``utils`` loads in a project that has a ``utils`` of its own.
    """

    keeps_in_eval = True

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, mode: bool = True) -> nn.Module:
        for child in self.module.children():
            if not is_kept_in_eval(child):  # put there later, a new head for one
                child.train(mode)
        return self.module

    def __deepcopy__(self, memo: dict[int, Any]) -> _KeepInEval:
        return type(self)(copy.deepcopy(self.module, memo))

    def __reduce__(self) -> tuple[Any, tuple[nn.Module]]:
        try:
            installed = importlib.import_module("evalmode.modes")
        except ImportError:  # the repository is on the path, and nothing is installed
            return type(self), (self.module,)
        return installed._KeepInEval, (self.module,)


def keep_in_eval(module: ModuleT) -> ModuleT:
    """Put a module in evaluation mode and keep it there when ``model.train()`` comes by.

    Holds for the module and all the submodules that it has now, through ``copy.deepcopy``,
    pickling and ``torch.save``. Parameters, buffers and ``state_dict`` are left alone: gradients
    still flow, and an optimiser still moves the parameters that it was given. What is put into it
    later, a new head for one, follows ``train()`` and ``eval()`` as usual. What builds a new module
    in its place, such as ``convert_sync_batchnorm``, loses the hold: freeze afterwards.

    Parameters
    ----------
    module
        The part to hold, usually a submodule such as a pretrained backbone.

    Returns
    -------
    nn.Module
        The same module.

    Raises
    ------
    TypeError
        If ``module`` is not a module.

    See Also
    --------
    release_from_eval : Undoes it.

    Examples
    --------
    >>> net = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2))
    >>> _ = keep_in_eval(net[0])
    >>> _ = net.train()
    >>> net[0].training, net[1].training
    (False, True)
    """
    check_module("module", module)
    module.eval()
    for submodule in module.modules():
        vars(submodule)["train"] = _KeepInEval(submodule)  # shadows the method
    return module


def release_from_eval(module: ModuleT) -> ModuleT:
    """Undo :func:`keep_in_eval`, for a module and everything inside it.

    The module stays in evaluation mode until ``train()`` is called the next time.

    Parameters
    ----------
    module
        A module given to :func:`keep_in_eval`, a copy of it, or a model that contains it.
        Modules that are not held are left as they are.

    Returns
    -------
    nn.Module
        The same module.

    Raises
    ------
    TypeError
        If ``module`` is not a module.

    Examples
    --------
    >>> net = nn.Sequential(keep_in_eval(nn.BatchNorm1d(4)), nn.Linear(4, 2))
    >>> _ = release_from_eval(net).train()
    >>> mode_of(net)
    'train'
    """
    check_module("module", module)
    for submodule in module.modules():
        if is_kept_in_eval(submodule):
            del vars(submodule)["train"]
    return module


def is_kept_in_eval(module: nn.Module) -> bool:
    """Say whether a module was given to :func:`keep_in_eval`, by itself or inside another.

    Examples
    --------
    >>> is_kept_in_eval(keep_in_eval(nn.Dropout())), is_kept_in_eval(nn.Dropout().eval())
    (True, False)
    """
    return getattr(vars(module).get("train"), "keeps_in_eval", False)


def _mode_name(training: bool) -> Literal["train", "eval"]:
    return "train" if training else "eval"
