"""What several test modules share."""

import pytest

from utils.survey import survey


@pytest.fixture(scope="session")
def records():
    """The survey, run once: it measures every class of torch.nn."""
    return {record.name: record for record in survey()}
