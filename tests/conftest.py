"""What several test modules share."""

import os

import pytest
import torch
from hypothesis import HealthCheck, settings

from utils.models import digits_mlp
from utils.survey import survey


@pytest.fixture(scope="session")
def records():
    """The survey, run once: it measures every class of torch.nn."""
    return {record.name: record for record in survey()}


@pytest.fixture
def settled_mlp():
    """The book's network with weights from a seed and running statistics that have settled."""
    torch.manual_seed(0)
    model = digits_mlp()
    for _ in range(20):
        model(torch.randn(32, 1, 8, 8))
    return model


# The same examples each time; `make test-properties` tries others, and more of them.
settings.register_profile(
    "book",
    derandomize="EXAMPLES" not in os.environ,
    max_examples=int(os.environ.get("EXAMPLES", "20")),
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("book")
