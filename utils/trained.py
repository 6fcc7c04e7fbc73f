"""The book's network, trained: what most chapters begin with."""

from __future__ import annotations

import torch
from torch import nn

from .data import DigitsLoaders, digits_loaders
from .models import digits_mlp
from .training import fit


def trained_digits_mlp(
    p: float = 0.5, *, epochs: int = 10, seed: int = 0
) -> tuple[nn.Sequential, DigitsLoaders]:
    """Train the book's network on the digits, from a seed.

    Parameters
    ----------
    p
        As for :func:`utils.models.digits_mlp`.
    epochs
        How often to go over the training part, with Adam at a learning rate of 0.01.
    seed
        For weights and dropout masks.

    Returns
    -------
    nn.Sequential
        In train mode, as :func:`utils.training.fit` leaves it, with the weights of its best epoch.
    DigitsLoaders
        Of the digits.

    Examples
    --------
    >>> from utils.evaluation import evaluate
    >>> net, loaders = trained_digits_mlp(epochs=1)
    >>> evaluate(net, loaders.validation)["accuracy"] > 0.5
    True
    """
    torch.manual_seed(seed)
    net, loaders = digits_mlp(p=p), digits_loaders()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    fit(
        net,
        loaders.train,
        loaders.validation,
        loss=nn.CrossEntropyLoss(),
        optimizer=optimizer,
        epochs=epochs,
    )
    return net, loaders
