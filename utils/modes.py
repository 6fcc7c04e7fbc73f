"""Reading, holding and restoring the train or eval mode of a model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Literal, TypeVar

from torch import nn

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
        The same model, in evaluation mode.

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
    _check_module("model", model)
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
    _check_module("model", model)
    flags = {bool(module.training) for module in model.modules()}
    if len(flags) == 2:
        return "mixed"
    return _mode_name(flags.pop())


class ModeTable(dict[str, str]):
    """The mode of each submodule by its qualified name; prints as a table.

    The root has the name ``""``. A module that is registered under two names has two rows.
    Made by :func:`mode_table`.
    """

    def __init__(self, model: nn.Module) -> None:
        named = list(model.named_modules(remove_duplicate=False))
        super().__init__({name: _mode_name(module.training) for name, module in named})
        self.classes = {name: type(module).__name__ for name, module in named}

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
    _check_module("model", model)
    return ModeTable(model)


def keep_in_eval(module: ModuleT) -> ModuleT:
    """Put a module in evaluation mode and keep it there when ``model.train()`` comes by.

    Holds for the module and all of its submodules, through :func:`copy.deepcopy`, pickling and
    ``torch.save``. Parameters, buffers and ``state_dict`` are left alone: gradients still flow,
    and an optimiser still moves the parameters that it was given.

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
    _check_module("module", module)
    module.eval()
    for submodule in module.modules():
        # An instance attribute shadows the method; a partial of a plain function can be
        # copied and pickled together with the module that it holds.
        vars(submodule)["train"] = partial(_stay_in_eval, submodule)
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
    _check_module("module", module)
    for submodule in module.modules():
        held = vars(submodule).get("train")
        if isinstance(held, partial) and held.func is _stay_in_eval:
            del vars(submodule)["train"]
    return module


def _stay_in_eval(module: ModuleT, mode: bool = True) -> ModuleT:
    """Stand in for ``Module.train`` on a module that is kept in evaluation mode."""
    return module


def _mode_name(training: bool) -> Literal["train", "eval"]:
    return "train" if training else "eval"


def _check_module(argument: str, value: object) -> None:
    if not isinstance(value, nn.Module):
        raise TypeError(f"{argument} is a {type(value).__name__}; expected a torch.nn.Module.")
