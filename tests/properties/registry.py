"""Properties of PyTorch, each beside the sentence of a chapter that claims it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st

FLOATS = (torch.float32, torch.float64)
DTYPES = (*FLOATS, torch.bfloat16)


@dataclass(frozen=True)
class Property:
    """A sentence, where it stands, and the test that tries to break it.

    Attributes
    ----------
    name
        How it is linked.
    chapter
        File name of the notebook, without its ending.
    sentence
        The words in front of the link, as they stand in the notebook.
    over
        What is varied.
    test
        The function that is run.
    """

    name: str
    chapter: str
    sentence: str
    over: str
    test: Callable[..., Any]


PROPERTIES: dict[str, Property] = {}


def states(chapter: str, sentence: str, *, over: str) -> Callable[[Any], Any]:
    """Register a test as the property that a sentence states."""

    def register(test: Any) -> Any:
        name = test.__name__.removeprefix("test_").replace("_", "-")
        assert name not in PROPERTIES, name
        PROPERTIES[name] = Property(name, chapter, sentence, over, test)
        return test

    return register


def tensors(
    *shape: int, dtype: torch.dtype = torch.float32, scale: float = 1.0
) -> st.SearchStrategy[torch.Tensor]:
    """Random numbers of one shape, each example from a seed of its own."""

    def make(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return (scale * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype)

    return st.integers(0, 2**31 - 1).map(make)


def sizes(least: int = 1, most: int = 6) -> st.SearchStrategy[int]:
    return st.integers(least, most)


dtypes = st.sampled_from(DTYPES)
floats = st.sampled_from(FLOATS)
seeds = st.integers(0, 2**31 - 1)
flags = st.booleans()
rates = st.floats(0.05, 0.95)
