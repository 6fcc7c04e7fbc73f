"""What several test modules share."""

import os

import pytest
from hypothesis import HealthCheck, settings

from utils.survey import survey


@pytest.fixture(scope="session")
def records():
    """The survey, run once: it measures every class of torch.nn."""
    return {record.name: record for record in survey()}


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
