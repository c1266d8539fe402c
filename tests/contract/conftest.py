"""The contract holds whichever transport serves it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import RunningServer, running_server


@pytest.fixture(scope="session", params=["queue", "asyncio"])
def server(request: pytest.FixtureRequest, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One server of each transport for all tests that leave it as it was."""
    log = tmp_path_factory.mktemp("server") / "log"
    with running_server(repository, log, "--transport", request.param) as running:
        yield running
        assert running.terminate() == 0
    assert "Traceback" not in log.read_text()
