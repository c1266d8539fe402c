"""TLS, tokens and metadata, on a real connection."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from clients import KINDS, ask
from resnet_client import TLS, Client, InvalidInputError, UnavailableError
from resnet_client.testing import FakeServer


class Keys:
    """An authority, and what it signed: files in PEM form."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.server = self.authority.issue_cert("localhost", "models.example")
        client = self.authority.issue_cert("client.example")
        self.roots, self.certificate, self.key = (folder / name for name in ("roots.pem", "cert.pem", "key.pem"))
        self.authority.cert_pem.write_to_path(str(self.roots))
        client.cert_chain_pems[0].write_to_path(str(self.certificate))
        client.private_key_pem.write_to_path(str(self.key))

    def credentials(self, *, of_clients: bool) -> grpc.ServerCredentials:
        pair = (self.server.private_key_pem.bytes(), self.server.cert_chain_pems[0].bytes())
        return grpc.ssl_server_credentials([pair], self.authority.cert_pem.bytes() if of_clients else None, of_clients)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def secure(keys: Keys) -> Iterator[FakeServer]:
    with FakeServer(credentials=keys.credentials(of_clients=False), address="localhost:0") as server:
        yield server


@pytest.fixture
def closed(keys: Keys) -> Iterator[FakeServer]:
    """Wants a certificate of its clients."""
    with FakeServer(credentials=keys.credentials(of_clients=True), address="localhost:0") as server:
        yield server


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scheme", ["", "https://", "grpcs://"])
def test_a_server_is_known_by_its_certificate(scheme: str, kind: str, secure: FakeServer, keys: Keys) -> None:
    for roots in (keys.roots, str(keys.roots), keys.roots.read_bytes()):
        assert ask(kind, scheme + secure.url, "classify", b"a", options={"tls": TLS(roots)})


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_of_another_authority_is_not_spoken_to(kind: str, secure: FakeServer) -> None:
    for options in ({"tls": True}, {"tls": TLS(trustme.CA().cert_pem.bytes())}, {"tls": False}):
        with pytest.raises(UnavailableError):
            ask(kind, secure.url, "classify", b"a", options=options)
    assert not secure.calls


@pytest.mark.parametrize("kind", KINDS)
def test_the_name_in_the_certificate_counts(kind: str, secure: FakeServer, keys: Keys) -> None:
    by_address = f"127.0.0.1:{secure.port}"
    with pytest.raises(UnavailableError):
        ask(kind, by_address, "classify", b"a", options={"tls": TLS(keys.roots)})
    assert ask(kind, by_address, "classify", b"a", options={"tls": TLS(keys.roots, server_name="models.example")})
    both = f"{by_address},{by_address}"
    assert ask(kind, both, "classify", b"a", options={"tls": TLS(keys.roots, server_name="models.example")})
    with pytest.raises(InvalidInputError, match=r"several addresses with TLS need tls\.server_name"):
        ask(kind, both, "classify", b"a", options={"tls": TLS(keys.roots)})


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_is_known_by_its_certificate(kind: str, closed: FakeServer, keys: Keys) -> None:
    assert ask(kind, closed.url, "classify", b"a", options={"tls": TLS(keys.roots, keys.certificate, keys.key)})
    with pytest.raises(UnavailableError):
        ask(kind, closed.url, "classify", b"a", options={"tls": TLS(keys.roots)})


def test_what_is_wrong_with_a_certificate_is_one_line(tmp_path: Path, keys: Keys) -> None:
    empty = tmp_path / "empty.pem"
    empty.touch()
    for tls, text in (
        (TLS(tmp_path / "absent.pem"), r"tls\.roots: .*absent\.pem cannot be read: No such file"),
        (TLS(empty), r"tls\.roots: .*empty\.pem is not in PEM form"),
        (TLS(keys.roots, keys.certificate), "certificate and key belong together"),
    ):
        with pytest.raises(InvalidInputError, match=text):
            Client("localhost", tls=tls)
    with pytest.raises(InvalidInputError, match="says TLS, tls=False does not"):
        Client("https://localhost", tls=False)


@pytest.mark.parametrize("kind", KINDS)
def test_token_and_metadata_go_with_every_call(kind: str, fake: FakeServer) -> None:
    tokens = iter(f"t{number}" for number in range(100))
    options: dict[str, Any] = {"token": lambda: next(tokens) + "\n", "metadata": {"X-Tenant": "blue"}}
    fake.fail(maybe_computed=False)
    for method, arguments in (("classify", [[b"1", b"2"]]), ("models", []), ("ready", [])):
        ask(kind, fake.url, method, *arguments, options=options)
    assert [call.method for call in fake.calls] == ["ListModels", "ListModels", "Classify", "ListModels", "ServerReady"]
    assert {call.metadata["x-tenant"] for call in fake.calls} == {"blue"}
    sent = [call.metadata["authorization"] for call in fake.calls]
    assert len(set(sent)) == len(sent), "a function gives a token for each attempt"
    assert all(value.startswith("Bearer t") for value in sent)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"token": " "}, "token: empty"),
        ({"token": "a\nb"}, "token: empty, or holds characters"),
        ({"metadata": {"a key": "b"}}, "metadata: 'a key' is no name of a header"),
        ({"metadata": {"grpc-timeout": "1"}}, "metadata: 'grpc-timeout' is no name"),
        ({"metadata": [("key", "ä")]}, r"metadata\.key: 'ä'; expected printable ASCII"),
    ],
)
def test_headers_that_cannot_be_sent_are_refused_at_once(options: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidInputError, match=text):
        Client("localhost", **options)
