"""Every program in `examples/`, run as it stands against a real server."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import resnet_server
from serving import RunningServer

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PICTURES = Path(resnet_server.__file__).parent / "endpoints" / "http" / "page" / "examples"
NAMES = sorted(path.stem for path in PICTURES.glob("*.png"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten pictures, each named after what it shows."""
    return Path(shutil.copytree(PICTURES, tmp_path / "pictures"))


def run(*command: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ | environment,
        cwd=EXAMPLES,
        stdin=subprocess.DEVNULL,
    )


def example(name: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return run(sys.executable, "-W", "error", str(EXAMPLES / name), *arguments)


def test_a_folder_is_classified_past_a_file_that_fails(folder: Path, server: RunningServer) -> None:
    (folder / "broken.png").write_bytes(b"no picture")
    result = example("classify_folder.py", str(folder), "resnet20", server.url)
    assert result.returncode == 1
    answers = [line.split("\t")[:2] for line in result.stdout.splitlines()]
    assert answers == [[str(folder / f"{name}.png"), name] for name in NAMES]
    (complaint,) = result.stderr.splitlines()
    assert complaint.startswith(f"{folder / 'broken.png'}: ")


def test_many_are_asked_at_once_and_one_that_fails_costs_only_itself(folder: Path, server: RunningServer) -> None:
    (folder / "broken.png").write_bytes(b"no picture")
    files = [str(folder / f"{name}.png") for name in (*NAMES, "broken")]
    result = example("many_at_once.py", server.url, *files)
    assert result.returncode == 0, result.stderr
    *answers, last = result.stdout.splitlines()
    assert [line.partition(",")[0] for line in answers] == [f"{name}.png: {name}" for name in NAMES]
    assert last.startswith("broken.png: INVALID_ARGUMENT")


def test_a_growing_folder_is_answered_as_it_grows(folder: Path, tmp_path: Path, server: RunningServer) -> None:
    """Each answer is awaited before the next picture comes, so nothing can have been read ahead."""
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    command = [sys.executable, "-W", "error", str(EXAMPLES / "watch_folder.py"), str(inbox), server.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        late = threading.Timer(60, watching.kill)  # an answer that never comes must not hang the run
        late.start()
        for name in NAMES[:3]:
            (folder / f"{name}.png").rename(inbox / f"{name}.png")
            assert watching.stdout.readline() == f"{name}.png: {name}\n"
        (inbox / "stop").touch()
        assert watching.stdout.read() == ""
        late.cancel()
    assert watching.returncode == 0


@pytest.fixture
def web_service(server: RunningServer) -> Iterator[str]:
    """Its address; ended by SIGTERM."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        descriptor = str(holder.fileno())
        command = [sys.executable, "-m", "uvicorn", "web_service:app", "--fd", descriptor, "--log-level", "warning"]
        with subprocess.Popen(
            command, cwd=EXAMPLES, env=os.environ | {"RESNET_ADDRESS": server.url}, pass_fds=(holder.fileno(),)
        ) as process:
            yield f"http://127.0.0.1:{holder.getsockname()[1]}"
            process.terminate()


def test_a_web_service_answers_uploads_and_passes_refusals_on(web_service: str) -> None:
    with httpx.Client(base_url=web_service, timeout=30) as client:  # the socket listens already: the first call waits for the start
        assert client.get("/health").json() == {"ready": True}
        answer = client.post("/classify", files={"picture": (PICTURES / "cat.png").read_bytes()})
        assert answer.status_code == 200, answer.text
        assert [answer.json()[0]["label"], len(answer.json())] == ["cat", 3]
        refused = client.post("/classify", files={"picture": b"no picture"})
        assert refused.status_code == 400
        assert "images[0]" in refused.json()["detail"]
        assert client.post("/classify?top=99", files={"picture": (PICTURES / "cat.png").read_bytes()}).status_code == 400


def test_a_notebook_runs(server: RunningServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Its cells in order, in one namespace, as Jupyter runs them."""
    monkeypatch.setenv("RESNET_ADDRESS", server.url)
    cells = json.loads((EXAMPLES / "predictions.ipynb").read_text())["cells"]
    namespace: dict[str, object] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            exec("".join(cell["source"]), namespace)  # noqa: S102  # it is the notebook of this repository
    printed = capsys.readouterr().out
    assert "resnet20: " in printed
    counts = [int(line.split()[1]) for line in printed.splitlines()[-10:]]
    assert sum(counts) == 300


def node(root: Path) -> tuple[str, ...]:
    """The Node example with what it needs; skips where Node is absent or no registry answers."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node is not on this machine")
    program = Path(shutil.copytree(EXAMPLES / "node", root / "examples" / "node", ignore=shutil.ignore_patterns("node_modules")))
    (root / "proto").symlink_to(ROOT / "proto")
    result = run("npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(program))
    if result.returncode:
        pytest.skip("no package registry answers")
    return "node", str(program / "classify.js")


def java(root: Path) -> tuple[str, ...]:
    """The Java example, built by its own script; `.ci/run` installs what that needs."""
    needed = ("java", "javac", "jar", "protoc", "grpc_java_plugin", "/usr/share/java/grpc-netty.jar")
    if missing := [tool for tool in needed if shutil.which(tool) is None and not Path(tool).is_file()]:
        pytest.skip(f"Java's tools are not on this machine: {', '.join(missing)}")
    result = run(str(EXAMPLES / "java" / "build.sh"), str(root))
    assert result.returncode == 0, result.stderr
    return "java", "-jar", str(root / "classify.jar")


@pytest.fixture(scope="module", params=[node, java], ids=["node", "java"])
def stranger(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """A program in another language with stubs from the .proto files: the command that takes ADDRESS MODEL FILE..."""
    command: tuple[str, ...] = request.param(tmp_path_factory.mktemp("stranger"))
    return command


def test_another_language_classifies_with_stubs_from_the_proto_file(stranger: tuple[str, ...], folder: Path, server: RunningServer) -> None:
    result = run(*stranger, server.url, "resnet20", *(str(folder / f"{name}.png") for name in NAMES))
    assert result.returncode == 0, result.stderr
    assert [line.rpartition(" ")[0] for line in result.stdout.splitlines()] == [f"{name}.png: {name}" for name in NAMES]


def test_another_language_says_what_the_server_says(stranger: tuple[str, ...], folder: Path, server: RunningServer) -> None:
    result = run(*stranger, server.url, "resnet9", str(folder / "cat.png"))
    assert (result.returncode, result.stdout) == (1, "")
    assert "resnet9" in result.stderr


def test_the_java_build_states_the_versions_it_takes_from_maven_central() -> None:
    """What `mvn` resolves cannot be tried without Maven Central: that each version is stated, and that the main class exists, can."""
    pom = (EXAMPLES / "java" / "pom.xml").read_text()
    stated = dict(re.findall(r"<([\w.]+\.version)>([\d.]+)<", pom))
    used = set(re.findall(r"<version>\$\{([\w.]+)\}<", pom))
    assert used == set(stated) == {"grpc.version", "protobuf.version"}
    (main_class,) = re.findall(r"<mainClass>([\w.]+)<", pom)
    assert (EXAMPLES / "java" / "src" / "main" / "java" / f"{main_class.replace('.', '/')}.java").exists()
    assert (EXAMPLES / "java" / re.findall(r"<sourceDirectory>(.+?)<", pom)[0] / "resnet_proto" / "classifier.proto").exists()
