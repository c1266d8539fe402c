"""One server for each transport."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import RunningServer, running_server


@pytest.fixture(scope="module", params=["queue", "asyncio"])
def server(request: pytest.FixtureRequest, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that every message of this folder goes to."""
    with running_server(repository, tmp_path_factory.mktemp("fuzzed") / "log", "--transport", request.param) as running:
        yield running
        assert running.terminate() == 0
