"""Inputs that many entries share."""

from __future__ import annotations

import torch
from torch import Tensor

BATCH = 6


def images(channels: int = 3, size: int = 32, batch: int = BATCH) -> Tensor:
    """Noise in the shape of a batch of square images."""
    return torch.randn(batch, channels, size, size)


def tokens(length: int = 16, vocabulary: int = 100, batch: int = BATCH) -> Tensor:
    """Random tokens in the shape of a batch of sentences."""
    return torch.randint(0, vocabulary, (batch, length))


def vectors(*shape: int) -> Tensor:
    """Noise with the batch before the shape."""
    return torch.randn(BATCH, *shape)


def graph(nodes: int = 20, edges: int = 60, channels: int = 8) -> tuple[Tensor, Tensor]:
    """Features of the nodes of a random graph, and its edges."""
    return torch.randn(nodes, channels), torch.randint(0, nodes, (2, edges))
