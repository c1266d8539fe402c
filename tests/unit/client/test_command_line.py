"""`resnet-client` in this process, against a server without a model."""

import contextlib
import csv
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner, Result
from resnet_client.cli import main
from resnet_client.testing import FakeServer, RefusedImageError


def answer(image: bytes) -> list[float]:
    if image == b"corrupt":
        raise RefusedImageError("not a JPEG, PNG or WebP image")
    return [0.0, float(len(image))]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer(answer=answer) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index in range(100):
        (tmp_path / f"{index:02}.png").write_text("corrupt" if index == 70 else "x" * (index + 1))
    (tmp_path / "._00.png").touch()
    return tmp_path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_one_corrupt_file_of_a_hundred(server: FakeServer, folder: Path) -> None:
    result = run("classify", folder, "--url", server.url)
    assert result.exit_code == 1
    note, failure, count = result.stderr.splitlines()
    assert note == "skipped 1 sidecar (._*): not JPEG, PNG or WebP"
    assert failure == f"Error: INVALID_ARGUMENT: images[70] ({folder / '70.png'}): not a JPEG, PNG or WebP image"
    assert count == "1 of 100 images failed"
    assert sum("dog" in line for line in result.stdout.splitlines()) == 99


def test_json_has_an_object_for_each_image(server: FakeServer, folder: Path) -> None:
    result = run("classify", folder, "--url", server.url, "--json", "--quiet")
    found = json.loads(result.stdout)
    assert [Path(one["image"]).name for one in found] == [f"{index:02}.png" for index in range(100)]
    assert found[3]["labels"][0] == {"index": 1, "name": "dog", "probability": pytest.approx(0.982, abs=1e-3), "logit": 4.0}
    assert found[70]["error"] == {"status": "INVALID_ARGUMENT", "text": "not a JPEG, PNG or WebP image"}
    assert len(result.stderr.splitlines()) == 2


def test_csv_has_a_line_for_each_label(server: FakeServer, folder: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(run("classify", folder, "--url", server.url, "--csv", "--top-k", 1).stdout)))
    assert len(rows) == 100
    assert (rows[3]["rank"], rows[3]["label"], rows[3]["logit"], rows[3]["status"]) == ("1", "dog", "4", "OK")
    assert (rows[70]["label"], rows[70]["status"]) == ("", "INVALID_ARGUMENT")
    assert len(list(csv.DictReader(io.StringIO(run("classify", folder / "00.png", "--url", server.url, "--csv").stdout)))) == 2


def test_every_image_right_is_status_0_and_a_quiet_standard_error(server: FakeServer, folder: Path) -> None:
    result = run("classify", folder / "00.png", folder / "01.png", "--url", f"http://{server.url}/")
    assert (result.exit_code, result.stderr) == (0, "")


def all_of(terminal: int) -> Iterator[bytes]:
    with contextlib.suppress(OSError):  # how a terminal says that its last writer has gone
        while data := os.read(terminal, 1 << 16):
            yield data


def test_a_terminal_shows_a_bar_and_the_answers_go_to_their_file(server: FakeServer, folder: Path) -> None:
    master, terminal = os.openpty()
    shown: list[bytes] = []
    reader = threading.Thread(target=lambda: shown.extend(all_of(master)))  # a terminal that nobody reads holds its writer up
    reader.start()
    command = [sys.executable, "-m", "resnet_client", "classify", str(folder), "--url", server.url, "--json"]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=terminal, check=False, timeout=120, env=os.environ | {"TERM": "xterm"})
    os.close(terminal)
    reader.join()
    os.close(master)
    text = b"".join(shown).decode()
    assert result.returncode == 1
    assert len(json.loads(result.stdout)) == 100
    assert "classify" in text
    assert "/100" in text
    assert "1 of 100 images failed" in text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--url", "127.0.0.1:1"], "Error: UNAVAILABLE: no server answers at 127.0.0.1:1 (Connection refused)"),
        (["--url", ""], "Error: INVALID_ARGUMENT: url: '': empty; expected"),
        (["--url", "ftp://x"], "Error: INVALID_ARGUMENT: url: 'ftp://x': scheme 'ftp' is unknown"),
        (["--model", "x"], "Error: NOT_FOUND: model_name: 'x' is unknown"),
        (["--top-k", "3"], "Error: INVALID_ARGUMENT: top_k: 3; expected 0 to 2, the number of classes"),
        (["--metadata", "a b=c"], "Error: INVALID_ARGUMENT: metadata: 'a b' is no name of a header"),
    ],
)
def test_what_fails_for_all_is_one_line(arguments: list[str], text: str, server: FakeServer, folder: Path) -> None:
    result = run("classify", folder / "00.png", folder / "01.png", "--url", server.url, *arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith(text)
    assert len(result.stderr.splitlines()) == 1


def test_token_and_metadata_are_sent(server: FakeServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESNET_CLIENT_TOKEN", "secret")
    assert run("models", "--url", server.url, "--metadata", "tenant=blue").exit_code == 0
    assert server.calls[0].metadata.items() >= {"authorization": "Bearer secret", "tenant": "blue"}.items()
    server.fail(grpc.StatusCode.UNAUTHENTICATED, "authorization: the token is unknown")
    result = run("models", "--url", server.url)
    assert (result.exit_code, result.stderr) == (1, "Error: UNAUTHENTICATED: authorization: the token is unknown\n")
    assert "secret" not in run("--help").stdout + run("classify", "--help").stdout
