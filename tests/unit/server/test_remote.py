"""Repositories behind a URL: what is fetched, what is refused, and what serves when the other side is gone."""

import functools
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import grpc
import pytest
from changing import refusal, serving
from grpc_health.v1 import health_pb2, health_pb2_grpc
from resnet_server.errors import StartError
from resnet_server.models import remote
from resnet_server.models.model_settings import wanted_of
from resnet_server.models.remote import RemoteRepository, without_password
from resnet_server.models.repository import Published, Trust, model_folders, scan
from resnet_server.settings import Settings
from versions import add_version

MOST = 1 << 30


@pytest.fixture
def bucket(repository: Path) -> Iterator[str]:
    files = fsspec.filesystem("memory")
    for path in [path for path in repository.rglob("*") if path.is_file()]:
        files.pipe(f"/bucket/models/{path.relative_to(repository)}", path.read_bytes())
    files.pipe("/bucket/models/readme.txt", b"a bucket without anything is one that is not there")
    yield "memory://bucket/models"
    files.rm("/bucket", recursive=True)


def upload(version: Path) -> None:
    for path in version.iterdir():
        fsspec.filesystem("memory").pipe(f"/bucket/models/{version.parent.name}/{version.name}/{path.name}", path.read_bytes())


def read(found: RemoteRepository, versions: str = "latest") -> list[Published]:
    found.refresh()
    settings = Settings(found.root, versions=versions)
    return scan(found, models=(), wanted=wanted_of(settings), trust=Trust(), may_be_empty=True)


def names(published: list[Published]) -> list[tuple[str, str, str]]:
    return [(one.name, one.version, one.refusal) for one in published]


class Handler(SimpleHTTPRequestHandler):
    """A static server that says nothing."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name is the base class's
        pass


@contextmanager
def http_server(folder: Path) -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def test_a_repository_over_http_is_served_and_its_copy_serves_when_it_is_gone(
    own_repository: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given: dict[str, Any] = {"repository_cache": tmp_path / "cache", "precision": "fp32"}
    with http_server(own_repository) as port:
        given["remote"] = f"http://127.0.0.1:{port}"
        with serving(own_repository, tmp_path / "plans", **given) as server:
            assert server.infer() == "1"
            add_version(own_repository / "resnet20", "2")
            server.client.load_model("resnet20")
            assert server.infer() == "2"
    with serving(own_repository, tmp_path / "plans", **given) as server:
        assert server.infer() == "2"
        assert f"repository: {given['remote']} cannot be read" in caplog.text
        assert "stands for it" in caplog.text
        assert "version 1 is refused: cannot be fetched" in server.load("1")[1]  # what is not served is not kept
        assert server.infer() == "2"
    given["repository_cache"] = tmp_path / "another"
    with (
        pytest.raises(StartError, match=r"repository: http://127.0.0.1:[0-9]+ cannot be read: "),
        serving(own_repository, tmp_path, **given),
    ):
        pass


def test_polling_follows_the_other_side_and_takes_nothing_that_is_not_what_its_manifest_says(
    bucket: str, own_repository: Path, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"remote": bucket, "repository_cache": tmp_path / "cache", "model_control": "poll", "poll_seconds": 0.05}
    model = own_repository / "resnet20"
    with (
        serving(own_repository, tmp_path / "plans", precision="fp32", **given) as server,
        grpc.insecure_channel(server.app.grpc_address) as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel)

        def wait(service: str, wanted: str) -> None:
            for answer in health.Watch(health_pb2.HealthCheckRequest(service=service), timeout=60):
                if answer.status == health_pb2.HealthCheckResponse.ServingStatus.Value(wanted):
                    return

        upload(add_version(model, "2"))
        wait("resnet20/2", "SERVING")
        damaged = add_version(model, "3")
        (damaged / "model.fp32.onnx").write_bytes(b"on its way")
        upload(damaged)
        wait("resnet20/3", "NOT_SERVING")
        assert server.infer() == "2"
        assert "is refused: " in server.index()["3"][1]
        fsspec.filesystem("memory").rm("/bucket/models/resnet20", recursive=True)
        wait("resnet20", "SERVICE_UNKNOWN")
        assert refusal(server.infer)[0] == "NOT_FOUND"


def test_only_what_is_chosen_is_fetched_once_and_a_damaged_copy_is_fetched_again(
    bucket: str, own_repository: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    upload(add_version(own_repository / "resnet20", "2"))
    caplog.set_level(logging.INFO)
    found = RemoteRepository(bucket, tmp_path, MOST)
    assert names(read(found)) == [("resnet20", "2", "")]
    assert not any((found.root / "resnet20" / "1").iterdir())
    assert names(read(found, "all")) == [("resnet20", "1", ""), ("resnet20", "2", "")]
    assert caplog.text.count("version 2: fetched from memory://bucket/models") == 1
    (found.root / "resnet20" / "2" / "model.fp32.onnx").write_bytes(b"rot")
    assert names(read(RemoteRepository(bucket, tmp_path, MOST))) == [("resnet20", "2", "")]
    assert "is damaged: model.fp32.onnx: sha256 is" in caplog.text
    again = RemoteRepository(bucket, tmp_path, MOST)
    again.refresh()
    again.prune({again.root / "resnet20" / "2"})
    assert not any((again.root / "resnet20" / "1").iterdir())
    assert any((again.root / "resnet20" / "2").iterdir())


def test_what_does_not_come_whole_leaves_no_trace_and_is_asked_for_again(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = fsspec.filesystem("memory")
    labels = files.cat("/bucket/models/resnet20/1/labels.txt")
    files.rm("/bucket/models/resnet20/1/labels.txt")
    found = RemoteRepository(bucket, tmp_path, MOST)
    ((_, _, reason),) = names(read(found))
    assert reason.startswith("what memory://bucket/models has is refused: labels.txt: cannot be read")
    assert [path.name for path in (found.root / "resnet20").iterdir()] == ["1"]
    assert not any((found.root / "resnet20" / "1").iterdir())
    files.pipe("/bucket/models/resnet20/1/labels.txt", labels)
    assert names(read(found))[0][2] == reason  # not at every look
    monkeypatch.setattr(remote, "RETRY_SECONDS", 0.0)
    assert names(read(found)) == [("resnet20", "1", "")]


def test_the_copy_is_bounded_and_a_server_that_stops_fetches_no_more(bucket: str, tmp_path: Path) -> None:
    ((_, _, reason),) = names(read(RemoteRepository(bucket, tmp_path, 1 << 19)))
    assert "repository-cache-bytes: the copy would take more than 524288" in reason
    stopping = RemoteRepository(bucket, tmp_path, MOST)
    stopping.give_up()
    assert "the server stops" in names(read(stopping))[0][2]


def test_settings_come_with_the_model_and_what_is_gone_stays_for_engines_but_is_not_found(bucket: str, tmp_path: Path) -> None:
    files = fsspec.filesystem("memory")
    files.pipe("/bucket/models/resnet20/serving.toml", b"threads = 0")
    found = RemoteRepository(bucket, tmp_path, MOST)
    assert "serving.toml: threads: 0" in names(read(found))[0][2]
    files.rm("/bucket/models/resnet20/serving.toml")
    assert names(read(found)) == [("resnet20", "1", "")]
    files.rm("/bucket/models/resnet20/1", recursive=True)
    files.pipe("/bucket/models/resnet20/notes.txt", b"")
    assert read(found) == []
    assert (found.root / "resnet20" / "1" / "model.fp32.onnx").exists()
    files.pipe("/bucket/models/other name/1/x", b"")
    files.pipe("/bucket/models/..hidden/1/x", b"")
    found.refresh()
    assert list(model_folders(found.root)) == ["resnet20"]


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("nonsense://bucket", "repository: nonsense://bucket cannot be opened: "),
        ("memory://nowhere", "repository: memory://nowhere cannot be read: FileNotFoundError"),
    ],
)
def test_a_url_that_leads_nowhere_is_one_error(url: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(StartError) as error:
        RemoteRepository(url, tmp_path, MOST).refresh()
    assert str(error.value).startswith(text)


def test_no_password_is_shown() -> None:
    assert without_password("https://user:secret@host/models?token=secret") == "https://host/models"
    assert without_password("s3://bucket/models") == "s3://bucket/models"


def test_two_servers_may_have_one_mirror(bucket: str, tmp_path: Path) -> None:
    found = [RemoteRepository(bucket, tmp_path, MOST) for _ in range(2)]
    threads = [threading.Thread(target=read, args=(one,)) for one in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [names(read(one)) for one in found] == 2 * [[("resnet20", "1", "")]]
    assert not [path for path in (found[0].root / "resnet20").iterdir() if path.name.startswith((".staged", ".old"))]
