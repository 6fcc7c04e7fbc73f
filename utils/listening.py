"""Which modules act on their mode, told from what they are."""

from __future__ import annotations

import dis
import inspect
import re
from types import CodeType, FunctionType
from typing import Any

import torch
from torch import nn

from .arguments import check_module
from .torch_internals import BATCH_NORMS, DROPOUTS, INSTANCE_NORMS, forward_pre_hooks

SCRIPTED_DROPOUTS = (
    "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout",
)  # fmt: skip
"""Names by which a scripted dropout is known."""
RATES = re.compile("drop|surviv|stoch|keep|prob|noise|path|^p$|^rate$", re.IGNORECASE)
"""Names under which a class keeps how much it drops."""


def listens(module: nn.Module) -> bool:
    """Say whether a module itself acts on its mode, its children left aside.

    For the classes of ``torch.nn`` the answer is what the survey measured, arguments included: a
    dropout with ``p=0`` does not listen. For any other class it is whether a method of it
    mentions ``training``, unless it has numbers that are called a dropout, or a rate by another
    usual name, and all of them are 0.

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
    if _known_to_listen(module):
        return True
    if any(type(hook).__name__ == "SpectralNorm" for hook in forward_pre_hooks(module)):
        return True
    if not asks_its_flag(module):
        return False
    rates = [
        value
        for name, value in vars(module).items()
        if RATES.search(name) and isinstance(value, (int, float)) and not isinstance(value, bool)
    ]
    return not rates or any(rates)


def asks_its_flag(module: nn.Module) -> bool:
    """Whether a method that is not PyTorch's own reads ``self.training``.

    Examples
    --------
    >>> asks_its_flag(nn.Dropout())
    False
    """
    own = [cls for cls in type(module).__mro__ if not cls.__module__.startswith("torch.nn.modules")]
    return any(_mentions_training(cls, module) for cls in own)


def _known_to_listen(module: nn.Module) -> bool | None:
    """What is known of a class of torch.nn; None for other classes."""
    scripted = isinstance(module, torch.jit.ScriptModule)
    # A class of one's own may have any name, also one of these.
    name = str(module.original_name) if scripted else ""
    layer: Any = module
    if isinstance(module, (BATCH_NORMS, INSTANCE_NORMS)) or name.startswith(
        ("BatchNorm", "InstanceNorm")
    ):
        return getattr(module, "running_mean", None) is not None
    if isinstance(module, DROPOUTS) or name in SCRIPTED_DROPOUTS:
        return getattr(module, "p", 1) > 0
    if isinstance(module, nn.RReLU) or name == "RReLU":
        return bool(layer.lower != layer.upper)
    if isinstance(module, nn.RNNBase) or name in ("RNN", "LSTM", "GRU"):
        return bool(layer.dropout > 0 and layer.num_layers > 1)
    if isinstance(module, nn.MultiheadAttention) or name == "MultiheadAttention":
        return bool(layer.dropout > 0)
    if isinstance(module, nn.TransformerEncoder):
        # Without gradients, eval mode leaves padded positions out, and writes zeros there.
        return bool(getattr(module, "use_nested_tensor", False))
    hooked = any(True for _ in forward_pre_hooks(module))
    return False if type(module).__module__.startswith("torch.nn.modules") and not hooked else None


def _mentions_training(cls: type, module: nn.Module) -> bool:
    members = [
        member.fget if isinstance(member, property) else member
        for name, member in vars(cls).items()
        if name not in ("train", "eval", "__init__")
    ]
    # what a decorator such as torch.no_grad stands around
    methods = [inspect.unwrap(member) for member in members if isinstance(member, FunctionType)]
    codes = [
        (method.__code__, method.__code__.co_varnames[0])
        for method in methods
        if isinstance(method, FunctionType) and method.__code__.co_argcount
    ]
    while codes:
        code, own = codes.pop()
        # Hugging Face's layers ask for the mode to decide on checkpointing alone.
        checkpoints = getattr(module, "gradient_checkpointing", True)
        only_checkpoints = "gradient_checkpointing" in code.co_names and not checkpoints
        if _reads_own_flag(code, own) and not only_checkpoints:
            return True
        codes += [(const, own) for const in code.co_consts if isinstance(const, CodeType)]
    return False


def _reads_own_flag(code: CodeType, own: str) -> bool:
    """Whether a function reads ``self.training``, or asks for it by name.

    ``own`` is what it calls the module. ``self.trainer.training`` is somebody else's flag.
    """
    before = None
    for step in dis.get_instructions(code):
        if step.argval == "training" and step.opname.startswith(("LOAD_ATTR", "LOAD_METHOD")):
            if before is not None and before.argval == own:
                return True
        elif step.opname == "LOAD_CONST" and step.argval == "training":
            return "getattr" in code.co_names
        before = step
    return False
