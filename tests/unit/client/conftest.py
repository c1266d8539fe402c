"""A server without a model for the client's tests; it has its own real socket."""

from collections.abc import Iterator

import pytest
from resnet_client.testing import FakeServer


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    """Two classes: fewer than the five labels that are usual."""
    with FakeServer() as server:
        yield server
