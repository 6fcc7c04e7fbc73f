"""Random numbers: the state of every generator, kept, set and put back."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

GENERATORS = (torch.Generator, random.Random, np.random.Generator, np.random.RandomState)
"""Kinds of generators of random numbers."""


def state_of(generator: Any) -> Any:
    if isinstance(generator, random.SystemRandom):
        return None  # it asks the operating system
    if isinstance(generator, (torch.Generator, np.random.RandomState)):
        return generator.get_state()
    if isinstance(generator, random.Random):
        return generator.getstate()
    return generator.bit_generator.state


def set_state(generator: Any, state: Any) -> None:
    if state is None:
        return
    if isinstance(generator, (torch.Generator, np.random.RandomState)):
        generator.set_state(state)
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    else:
        generator.bit_generator.state = state


@contextmanager
def randomness_kept() -> Iterator[None]:
    """Put the random states of torch, numpy and Python back afterwards.

    Examples
    --------
    >>> before = torch.get_rng_state()
    >>> with randomness_kept():
    ...     _ = torch.rand(3)
    >>> torch.equal(before, torch.get_rng_state())
    True
    """
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def seed_everything(seed: int) -> None:
    """Seed torch, numpy and Python.

    Examples
    --------
    >>> with randomness_kept():
    ...     seed_everything(0)
    """
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def global_random_state() -> tuple[Any, ...]:
    kind, keys, *rest = np.random.get_state()
    return torch.get_rng_state(), random.getstate(), (kind, keys.tobytes(), *rest)  # type: ignore[attr-defined]
