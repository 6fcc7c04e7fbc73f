"""Dropout on purpose: many answers to one input, and what their spread says (Gal, 2016)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from .arguments import check_module
from .listening import SCRIPTED_DROPOUTS, asks_its_flag, listens
from .modes import evaluating
from .nested import relative_gap
from .torch_internals import BATCH_NORMS, DROPOUTS, INSTANCE_NORMS

__all__ = ["mutual_information", "only_dropout", "predictive_entropy", "sample_outputs"]

ModuleT = TypeVar("ModuleT", bound=nn.Module)

NOT_DROPOUT = (BATCH_NORMS, INSTANCE_NORMS, nn.RReLU)
"""Layers that listen and do something else in train mode."""
HOLDERS = (
    nn.RNNBase,
    nn.MultiheadAttention,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoderLayer,
)
"""Layers of PyTorch with dropout inside, or in front of it: each asks a flag of its own."""
SCRIPTED = (*SCRIPTED_DROPOUTS, "RNN", "LSTM", "GRU", "MultiheadAttention")
"""The same, as their names when they are scripted."""


@contextmanager
def only_dropout(model: ModuleT) -> Iterator[ModuleT]:
    """Put a model in eval mode, and in it everything that drops in train mode.

    That is: dropout layers, recurrent layers and attention, which drop by themselves, transformer
    layers, whose fast path would pass over the dropout inside them, and classes of one's own with
    a method that asks ``self.training``, for a functional dropout. A flag that is asked by anything
    else, such as a function that is given the module, a hook, or another module, is not found.
    Batch norm and the like stay in eval mode. Modes are restored afterwards, each module's own.

    Parameters
    ----------
    model
        Any module.

    Yields
    ------
    nn.Module
        The same model.

    Raises
    ------
    TypeError
        If ``model`` is not a module.
    ValueError
        If nothing in it drops: all draws would be the same.

    References
    ----------
    Gal, Y. and Ghahramani, Z. (2016). Dropout as a Bayesian Approximation: Representing Model
    Uncertainty in Deep Learning. ICML. https://arxiv.org/abs/1506.02142

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout())
    >>> with only_dropout(net):
    ...     [layer.training for layer in net]
    [False, False, True]
    """
    check_module("model", model)
    dropping = [module for module in model.modules() if _drops(module)]
    if not any(map(_has_a_rate, dropping)):
        raise ValueError(
            f"model is a {type(model).__name__} in which nothing drops; expected one with dropout "
            "and a rate above 0."
        )
    with evaluating(model):
        for module in dropping:
            module.training = True
        yield model


def sample_outputs(
    model: nn.Module, inputs: Tensor, draws: int, *, seed: int | None = None, rows: int = 4096
) -> Tensor:
    """Answer each input many times with dropout on, each time with masks of its own.

    The draws are put into common batches: with batch norm off a row does not depend on the others,
    so a thousand draws cost one pass over a thousand times as many rows, not a thousand calls.

    Parameters
    ----------
    model
        Takes inputs of shape ``(N, ...)`` and returns a tensor of shape ``(N, ...)``.
    inputs
        Shape ``(N, ...)``.
    draws
        How many answers to give to each.
    seed
        For the masks; the global random state of torch is left as it was. Drawn from it if None.
    rows
        Rows in a batch, at most.

    Returns
    -------
    Tensor
        Shape ``(draws, N, ...)``, without a graph.

    Warns
    -----
    UserWarning
        If all draws are equal, up to rounding: what drops is not reached, or drops a weight, for
        a whole batch at once; then ``rows=N`` gives each draw a batch of its own.

    Raises
    ------
    TypeError
        If ``model`` is not a module.
    ValueError
        If ``draws`` is below 1, the inputs are empty, nothing in the model drops, or a buffer
        moves: then a class of one's own does more in train mode than drop.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(2, 3), nn.Dropout())
    >>> sample_outputs(net, torch.ones(5, 2), 100, seed=0).shape
    torch.Size([100, 5, 3])
    """
    if draws < 1:
        raise ValueError(f"draws is {draws}; expected at least 1.")
    if inputs.dim() == 0 or not len(inputs):
        raise ValueError(f"inputs has shape {tuple(inputs.shape)}; expected (N, ...), N above 0.")
    repeated = inputs.repeat(draws, *[1] * (inputs.dim() - 1))
    check_module("model", model)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    cuda = [inputs.device] if inputs.is_cuda else []
    with torch.random.fork_rng(devices=cuda, enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        with only_dropout(model), torch.no_grad():
            answers = torch.cat([model(part) for part in repeated.split(rows)])
    moved = [n for n, b in model.named_buffers() if n in before and not torch.equal(b, before[n])]
    if moved:
        with torch.no_grad():
            for name in moved:
                model.get_buffer(name).copy_(before[name])
        raise ValueError(
            f"model moves its buffer {moved[0]} while dropout is on (put back); expected one in "
            "which nothing but dropout asks the flag of the same module."
        )
    drawn = answers.unflatten(0, (draws, len(inputs)))
    if draws > 1 and _agree(drawn):
        warnings.warn(
            f"all {draws} draws are equal: what drops in the model is not reached, or it drops "
            "for a whole batch at once.",
            stacklevel=2,
        )
    return drawn


def predictive_entropy(probabilities: Tensor) -> Tensor:
    """Measure how undecided the average answer is, in nats.

    Parameters
    ----------
    probabilities
        Shape ``(draws, N, C)``, each row with sum 1.

    Returns
    -------
    Tensor
        Shape ``(N,)``: from 0, all draws are sure of one class, to ``log(C)``.

    Raises
    ------
    ValueError
        If the shape is another or rows do not add up to 1: scores instead of probabilities.

    Examples
    --------
    >>> two_sure_of_different_classes = torch.eye(2).unsqueeze(1)
    >>> predictive_entropy(two_sure_of_different_classes)
    tensor([0.6931])
    """
    _check_probabilities(probabilities)
    return _entropy(probabilities.mean(dim=0))


def mutual_information(probabilities: Tensor) -> Tensor:
    """Measure how much the draws disagree, in nats: what another draw would tell.

    The predictive entropy less the mean entropy of the draws. A picture that is ambiguous has a
    high entropy in each draw, and little mutual information.

    Parameters
    ----------
    probabilities
        Shape ``(draws, N, C)``, each row with sum 1.

    Returns
    -------
    Tensor
        Shape ``(N,)``: from 0, all draws say the same, to the predictive entropy.

    Raises
    ------
    ValueError
        As for :func:`predictive_entropy`.

    References
    ----------
    Houlsby, N., Huszar, F., Ghahramani, Z. and Lengyel, M. (2011). Bayesian Active Learning for
    Classification and Preference Learning. https://arxiv.org/abs/1112.5745

    Examples
    --------
    >>> two_sure_of_different_classes = torch.eye(2).unsqueeze(1)
    >>> two_that_are_undecided = torch.full((2, 1, 2), 0.5)
    >>> mutual_information(two_sure_of_different_classes)
    tensor([0.6931])
    >>> mutual_information(two_that_are_undecided)
    tensor([0.])
    """
    _check_probabilities(probabilities)
    spread = _entropy(probabilities.mean(dim=0)) - _entropy(probabilities).mean(dim=0)
    return spread.clamp(min=0)


def _agree(drawn: Tensor) -> bool:
    """Whether draws are equal, up to rounding: they stand in one batch, at other places.

    In half precision rounding is as large as many a spread: there they must be equal to the bit.
    """
    eps = torch.finfo(drawn.dtype).eps if drawn.is_floating_point() else 0.0
    return relative_gap(drawn, drawn[:1].expand_as(drawn)) <= (64 * eps if eps < 1e-4 else 0.0)


def _drops(module: nn.Module) -> bool:
    if isinstance(module, (*HOLDERS, DROPOUTS)):
        return True
    if isinstance(module, torch.jit.ScriptModule):
        return listens(module) and module.original_name in SCRIPTED
    return _asks_for_dropout(module)


def _asks_for_dropout(module: nn.Module) -> bool:
    """Whether a class of one's own asks its flag; for what but dropout cannot be told."""
    theirs = type(module).__module__.startswith("torch.")
    return not theirs and not isinstance(module, NOT_DROPOUT) and asks_its_flag(module)


def _has_a_rate(module: nn.Module) -> bool:
    """Whether a module that drops has a rate above 0, as far as it can be seen."""
    if _asks_for_dropout(module):
        return True
    if isinstance(module, DROPOUTS):
        return module.p > 0
    if isinstance(module, nn.RNNBase):
        return module.dropout > 0 and module.num_layers > 1
    if isinstance(module, nn.MultiheadAttention):
        return module.dropout > 0
    return not isinstance(module, HOLDERS)  # the dropout inside it speaks for itself


def _entropy(probabilities: Tensor) -> Tensor:
    return torch.special.entr(probabilities).sum(dim=-1)


def _check_probabilities(probabilities: Tensor) -> None:
    if probabilities.dim() != 3 or not probabilities.numel():
        raise ValueError(
            f"probabilities has shape {tuple(probabilities.shape)}; expected (draws, N, C)."
        )
    off = (probabilities.sum(dim=-1) - 1).abs().max().item()
    if not off < 1e-2 or probabilities.min() < 0:
        raise ValueError(
            "probabilities has rows that do not add up to 1; expected the softmax of scores."
        )
