"""Reading, holding and restoring the train or eval mode of a model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import CodeType, FunctionType
from typing import Literal, TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.instancenorm import _InstanceNorm

ModuleT = TypeVar("ModuleT", bound=nn.Module)
DROPOUTS = ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout")
"""Names by which a scripted dropout is known."""


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
    check_module("model", model)
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
    check_module("model", model)
    return ModeTable(model)


def listens(module: nn.Module) -> bool:
    """Say whether a module itself acts on its mode, its children left aside.

    For the classes of ``torch.nn`` the answer is what the survey measured, arguments included: a
    dropout with ``p=0`` does not listen. For any other class it is whether a method of it
    mentions ``training``, unless every number it calls a dropout is 0.

    Parameters
    ----------
    module
        Any module, scripted ones too.

    Returns
    -------
    bool

    Raises
    ------
    TypeError
        If ``module`` is not a module.

    See Also
    --------
    utils.survey.survey : Measures it for every class of ``torch.nn``.

    Examples
    --------
    >>> listens(nn.Dropout()), listens(nn.Dropout(0.0)), listens(nn.LayerNorm(4))
    (True, False, False)
    >>> listens(nn.BatchNorm1d(4)), listens(nn.BatchNorm1d(4, track_running_stats=False))
    (True, False)
    """
    check_module("module", module)
    known = _known_to_listen(module)
    if known is not None:
        return known
    if any(type(hook).__name__ == "SpectralNorm" for hook in module._forward_pre_hooks.values()):
        return True
    own = [cls for cls in type(module).__mro__ if not cls.__module__.startswith("torch.nn.modules")]
    if not any(_mentions_training(cls, module) for cls in own):
        return False
    rates = [v for k, v in vars(module).items() if "drop" in k and isinstance(v, (int, float))]
    return not rates or any(rates)


def _known_to_listen(module: nn.Module) -> bool | None:
    """What is known of a class of torch.nn; None for other classes."""
    scripted = isinstance(module, torch.jit.ScriptModule)
    name = str(module.original_name) if scripted else type(module).__name__
    if isinstance(module, (_BatchNorm, _InstanceNorm)) or name.startswith(("BatchNorm", "Inst")):
        return getattr(module, "running_mean", None) is not None
    if isinstance(module, _DropoutNd) or name in DROPOUTS:
        return getattr(module, "p", 1) > 0
    if isinstance(module, nn.RReLU):
        return module.lower != module.upper
    if isinstance(module, nn.RNNBase):
        return module.dropout > 0 and module.num_layers > 1
    if isinstance(module, nn.MultiheadAttention):
        return module.dropout > 0
    hooked = len(module._forward_pre_hooks) > 0
    return False if type(module).__module__.startswith("torch.nn.modules") and not hooked else None


def _mentions_training(cls: type, module: nn.Module) -> bool:
    codes = [
        value.__code__
        for name, value in vars(cls).items()
        if isinstance(value, FunctionType) and name not in ("train", "eval", "__init__")
    ]
    while codes:
        code = codes.pop()
        words = {*code.co_names, *(c for c in code.co_consts if isinstance(c, str))}
        # Hugging Face's layers ask for the mode to decide on checkpointing alone.
        checkpoints = getattr(module, "gradient_checkpointing", True)
        if "training" in words and ("gradient_checkpointing" not in words or checkpoints):
            return True
        codes += [const for const in code.co_consts if isinstance(const, CodeType)]
    return False


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
    check_module("module", module)
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
    check_module("module", module)
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


def check_module(argument: str, value: object) -> None:
    """Raise an error that names the argument, unless its value is a module.

    Parameters
    ----------
    argument
        Its name, as the caller knows it.
    value
        What was given.

    Raises
    ------
    TypeError
        If ``value`` is not a module.

    Examples
    --------
    >>> check_module("model", nn.Identity())
    """
    if not isinstance(value, nn.Module):
        raise TypeError(f"{argument} is a {type(value).__name__}; expected a torch.nn.Module.")
