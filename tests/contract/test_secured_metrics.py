"""Metrics over TLS, for whoever has a token of scope `read`; and plain ones, which that does not change."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from in_process import running_app
from resnet_server.app import App
from resnet_server.endpoints.security.tokens import line_of, new_token
from resnet_server.errors import StartError
from tls_files import Keys

READER, CALLER = new_token(), new_token()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def app(repository: Path, keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    folder = tmp_path_factory.mktemp("secured")
    (folder / "tokens").write_text(line_of("reader", READER, ("read",), {}) + "\n" + line_of("caller", CALLER, ("infer",), {}) + "\n")
    files = {"tls_cert": keys.cert, "tls_key": keys.key, "tokens": folder / "tokens"}
    with running_app(repository, folder / "plans", secure_metrics=True, **files) as running:
        yield running


def get(app: App, keys: Keys, token: str = "") -> httpx.Response:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return httpx.get(f"https://localhost:{app.metrics_port}/metrics", verify=keys.context(), headers=headers)


def test_metrics_are_read_over_tls_by_who_may_read(app: App, keys: Keys) -> None:
    answer = get(app, keys, READER)
    assert answer.status_code == 200
    assert "resnet_model_info{" in answer.text
    refused = get(app, keys)
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert "authorization: not sent" in refused.text
    assert get(app, keys, new_token()).status_code == 401
    forbidden = get(app, keys, CALLER)
    assert forbidden.status_code == 403
    assert "asks for scope 'read'; the token of 'caller' has infer" in forbidden.text
    assert "resnet_model_info" not in refused.text + forbidden.text


def test_who_says_nothing_or_no_tls_holds_up_nobody(app: App, keys: Keys) -> None:
    with socket.create_connection(("127.0.0.1", app.metrics_port)), socket.create_connection(("127.0.0.1", app.metrics_port)) as plain:
        plain.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert get(app, keys, READER).status_code == 200
        with contextlib.suppress(ConnectionResetError):
            assert b"resnet" not in plain.recv(4096)


def test_a_certificate_that_is_renewed_is_shown_without_a_restart(app: App, keys: Keys) -> None:
    def shown() -> bytes:
        with (
            socket.create_connection(("127.0.0.1", app.metrics_port)) as plain,
            keys.context().wrap_socket(plain, server_hostname="localhost") as tls,
        ):
            return tls.getpeercert(binary_form=True) or b""

    before, renewed = shown(), keys.renew()
    assert before != renewed == shown()


def test_to_secure_them_by_nothing_is_an_error(repository: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(StartError, match="secure-metrics: given, but neither --tls-cert nor --tokens is"),
        running_app(repository, tmp_path, secure_metrics=True),
    ):
        pass
    with running_app(repository, tmp_path) as app:
        assert httpx.get(f"http://127.0.0.1:{app.metrics_port}/metrics").status_code == 200
