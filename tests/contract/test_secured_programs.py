"""Our own command lines speak to a server that wants a certificate and a token, and say in one line what is missing."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from in_process import running_app
from resnet_server.app import App
from resnet_server.endpoints.security.tokens import line_of, new_token
from tls_files import Keys

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "server/resnet_server/endpoints/http/page/examples/cat.png"
TOKEN = new_token()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def app(repository: Path, keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    folder = tmp_path_factory.mktemp("secured")
    (folder / "tokens").write_text(line_of("one", TOKEN, ("infer",), {}))
    files = {"tls_cert": keys.cert, "tls_key": keys.key, "tls_client_ca": keys.client_roots, "tokens": folder / "tokens"}
    with running_app(repository, folder / "plans", health_port=0, **files) as running:
        yield running


def run(*arguments: str, token: str = "") -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"RESNET_CLIENT_TOKEN": token}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False)


def files_of(keys: Keys) -> tuple[str, ...]:
    return ("--ca", str(keys.roots), "--cert", str(keys.client_cert), "--key", str(keys.client_key))


def test_the_client_classifies(app: App, keys: Keys) -> None:
    command = ("-m", "resnet_client", "classify", str(PICTURE), "--url", f"grpcs://localhost:{app.grpc_port}", *files_of(keys), "--json")
    found = run(*command, token=TOKEN)
    assert (found.returncode, found.stderr) == (0, "")
    refused = run(*command, token="rsn_other")  # noqa: S106  # none that works
    assert refused.returncode == 1
    assert refused.stderr.strip() == "Error: UNAUTHENTICATED: authorization: the token is unknown; expected one that this server was given"


def test_the_benchmark_measures(app: App, keys: Keys, tmp_path: Path) -> None:
    load = ("--model", "resnet20", "--concurrency", "1", "--duration", "300ms", "--warm-up", "100ms", "--allow-disturbed", "--json")
    command = ("-m", "resnet_bench", "load", "--url", f"localhost:{app.grpc_port}", *load)
    found = run(*command, *files_of(keys), token=TOKEN)
    assert found.returncode == 0, found.stderr
    assert '"answered": 0' not in found.stdout
    refused = run(*command, *files_of(keys))
    assert (refused.returncode, "UNAUTHENTICATED" in refused.stderr) == (1, True)
    other = run(*command, "--tls", "--driver", "h2load")
    assert (other.returncode, "--driver h2load and --soak speak no TLS" in other.stderr) == (2, True)
    half = run(*command, "--cert", str(keys.client_cert))
    assert (half.returncode, "certificate and key belong together" in half.stderr) == (1, True)


def test_the_health_check_of_the_image_asks_the_port_for_probes(app: App) -> None:
    script = ROOT / "deploy" / "image" / "healthcheck.py"
    for port, status in ((str(app.health_port), 0), ("off", 1)):
        environment = os.environ | {"RESNET_SERVER_HEALTH_PORT": port, "RESNET_SERVER_GRPC_PORT": str(app.grpc_port)}
        assert subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, check=False).returncode == status
