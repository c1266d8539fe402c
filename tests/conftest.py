"""Fixtures for all tests."""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import grpc
import hypothesis
import pytest
from published import published
from serving import RunningServer, running_server
from skips import in_ci, unexpected

ROOT = Path(__file__).parents[1]
hypothesis.settings.register_profile("shared machine", deadline=None)  # an example that waits for a processor is not a fault
hypothesis.settings.load_profile("shared machine")


@pytest.fixture(scope="session", autouse=True)
def short_plans(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Servers measure their plans in half a second, once for all tests, on ONNX Runtime, and leave nothing in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESNET_SERVER_PLAN_SECONDS", "0.5")
        patch.setenv("RESNET_SERVER_RUNTIME", "onnxruntime")  # what tries OpenVINO, too, asks for it
        patch.setenv("RESNET_SERVER_PLAN_CACHE", str(tmp_path_factory.mktemp("plans")))
        yield


@pytest.fixture(scope="session", autouse=True)
def interrupts_arrive() -> None:
    """A run started in the background of a script ignores SIGINT, and so would the processes that the tests interrupt."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def pretrained() -> Path:
    """The committed resnet20."""
    return ROOT / "models" / "resnet_models" / "pretrained" / "resnet20.safetensors"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The material beside the project; tests that need it skip where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the material beside the project is not here")
    return folder


@pytest.fixture(scope="session")
def repository(pretrained: Path, tmp_path_factory: pytest.TempPathFactory, published_cache: Path) -> Path:
    """A repository with resnet20 as the command line publishes it; tests must not change it."""
    return published(published_cache, tmp_path_factory.mktemp("published") / "repository", pretrained, "--precision", "fp32")


@pytest.fixture(scope="session")
def published_cache(pytestconfig: pytest.Config) -> Path:
    """Where published repositories outlive a run; a fresh clone has none."""
    assert pytestconfig.cache is not None
    return pytestconfig.cache.mkdir("published")


@pytest.fixture
def own_repository(repository: Path, tmp_path: Path) -> Path:
    """A copy that the test may damage."""
    return Path(shutil.copytree(repository, tmp_path / "repository"))


@pytest.fixture(scope="session")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One server for all tests that leave it as it was."""
    with running_server(repository, tmp_path_factory.mktemp("server") / "log") as running:
        yield running
        assert running.terminate() == 0


@pytest.fixture
def channel(server: RunningServer) -> Iterator[grpc.Channel]:
    """A channel to `server`."""
    with grpc.insecure_channel(server.url, options=[("grpc.max_send_message_length", -1)]) as opened:
        yield opened


@pytest.fixture(scope="session")
def precise_repository(pretrained: Path, tmp_path_factory: pytest.TempPathFactory, published_cache: Path) -> Path:
    """A repository with resnet20 in every precision; tests must not change it.

    The bundled images are too few to show that INT8 loses at most half a point on every processor, hence wider bounds.
    """
    bounds = ("--min-agreement", "int8=0.97", "--max-accuracy-loss", "int8=2")
    target = tmp_path_factory.mktemp("precise") / "repository"
    return published(published_cache, target, pretrained, "--precision", "fp32,fp16,int8", *bounds)


@pytest.fixture(scope="session")
def released_repository() -> Path:
    """The networks that are released with their certificates; tests must not change them."""
    return ROOT / "released" / "resnet_networks" / "repository"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """In CI, name every skip that is not on the list of `tests/support/skips.py`."""
    for line in unlisted(terminalreporter) if in_ci() else ():
        terminalreporter.write_line(f"SKIPPED IN CI, BUT NOT LISTED: {line}", red=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI, fail where one was skipped that is not on the list."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if in_ci() and reporter is not None and unlisted(reporter) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def unlisted(reporter: pytest.TerminalReporter) -> list[str]:
    """Skips that CI does not expect."""
    skipped = reporter.stats.get("skipped", [])
    return unexpected(
        (report.nodeid, report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)) for report in skipped
    )
