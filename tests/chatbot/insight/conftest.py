"""What the tests of the insight share: the built-in model, seen through a glass."""

import pytest

from chatbot.catalogue import DEFAULT_GPT
from chatbot.insight.glass import Glass


@pytest.fixture(scope="session")
def glass() -> Glass:
    """The built-in GPT in float32."""
    return Glass.open(DEFAULT_GPT)
