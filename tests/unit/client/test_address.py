"""What people write as an address."""

import pytest
from clients import KINDS, ask
from resnet_client import Client, InvalidInputError
from resnet_client.address import Address, parse_url
from resnet_client.testing import FakeServer


@pytest.mark.parametrize(
    ("url", "target", "tls"),
    [
        ("host:9", "host:9", False),
        ("host", "host:8001", False),
        (" host:9\n", "host:9", False),
        ("host:9/", "host:9", False),
        ("HTTP://Host:9/", "host:9", False),
        ("grpc://host", "host:8001", False),
        ("https://host", "host:443", True),
        ("grpcs://host.example:9", "host.example:9", True),
        ("10.0.0.1:9", "10.0.0.1:9", False),
        ("[::1]:9", "[::1]:9", False),
        ("my_host-1.local.:9", "my_host-1.local.:9", False),
    ],
)
def test_one_address(url: str, target: str, tls: bool) -> None:
    assert parse_url(url) == Address(target, tls)


def test_what_grpc_resolves_itself_is_left_to_it() -> None:
    assert parse_url("dns:///name:9") == Address("dns:///name:9", tls=False, balanced=True)
    assert parse_url("unix:/run/s.sock") == Address("unix:/run/s.sock", tls=False)


def test_several_addresses_are_balanced() -> None:
    assert parse_url("127.0.0.1:1, 127.0.0.2:2/") == Address("ipv4:127.0.0.1:1,127.0.0.2:2", False, True, "127.0.0.1:1")
    assert parse_url("grpc://[::1]:1,[::2]:2").target == "ipv6:[::1]:1,[::2]:2"


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("a:1,,b:2", "empty"),
        ("ftp://host:9", "scheme 'ftp' is unknown"),
        ("tcp://10.96.3.4:8001", "scheme 'tcp' is unknown"),
        ("host:port", "expected host:port"),
        ("host:99999", "expected host:port"),
        ("host:0", "expected host:port"),
        ("http://host:9/v2/models", "a gRPC address has no path"),
        ("http://host:9?x=1", "a gRPC address has no path"),
        ("user:secret@host:9", "a gRPC address has no path, query or user"),
        ("ho st:9", "expected host:port"),
        ("[::1:9", "expected host:port"),
        ("grpc://a:1,grpcs://b:1", "some addresses with TLS and some without"),
        ("127.0.0.1:1,[::1]:1", "one family"),
        ("127.0.0.1:1,nowhere.invalid:1", "nowhere.invalid cannot be resolved"),
    ],
)
def test_anything_else_is_refused_in_one_line(url: str, text: str) -> None:
    with pytest.raises(InvalidInputError) as error:
        Client(url)
    assert str(error.value).startswith(f"INVALID_ARGUMENT: url: {url!r}: ")
    assert text in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_calls_are_spread_over_several_addresses(kind: str) -> None:
    with FakeServer() as first, FakeServer() as second:
        for _ in range(100):  # until both are connected, all go to the one that is
            ask(kind, f"{first.url},{second.url}", "classify", [bytes([n]) for n in range(1, 200)])
            if first.calls and second.calls:
                break
        assert first.calls
        assert second.calls


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_is_gone_is_left_out(kind: str, fake: FakeServer) -> None:
    with FakeServer() as gone:
        pass
    assert len(ask(kind, f"{gone.url},{fake.url}", "classify", [b"a", b"b"])) == 2
