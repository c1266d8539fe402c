"""Tokens as their file has them, what each may do, and how much of it."""

import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from resnet_proto import classifier_pb2, open_inference_pb2
from resnet_server.cli import main
from resnet_server.endpoints.http.guard import OPEN, OTHERS, RPC_OF
from resnet_server.endpoints.security.access import CLASSIFIER, OIP, SCOPES_OF, Access, access_of, either, presented_by
from resnet_server.endpoints.security.allowance import Bucket, Rate, parse_rate
from resnet_server.endpoints.security.tokens import Tokens, line_of, new_token, read_line, read_tokens
from resnet_server.endpoints.security.watched_files import WatchedFiles
from resnet_server.errors import ForbiddenError, QuotaError, StartError, UnauthenticatedError
from resnet_server.settings import Settings

HASH = "sha256:" + 64 * "0"
ADMIN_METHODS = {
    "RepositoryModelLoad",
    "RepositoryModelUnload",
    *(f"{kind}SharedMemory{verb}" for kind in ("System", "Cuda") for verb in ("Register", "Unregister")),
}
WRITING = {"TraceSetting", "LogSettings"}


class Clock:
    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


def bearing(token: str) -> tuple[tuple[str, str], ...]:
    return (("user-agent", "x"), ("authorization", f"Bearer {token}"))


def access_to(path: Path, clock: Clock, *lines: str) -> Access:
    path.write_text("\n".join(lines))
    latest: list[Tokens] = []

    def read() -> Tokens:
        latest.append(Tokens(read_tokens(path), before=latest[-1] if latest else None))
        return latest[-1]

    return Access(WatchedFiles("tokens", (path,), read, every=1.0, now=clock), open_admin=False)


def admit(access: Access, path: str, metadata: Any) -> None:
    judge = access.judge_of(path)
    assert judge is not None
    judge(metadata)


def test_every_method_of_both_services_has_a_scope_and_admin_is_what_changes_the_server() -> None:
    oip = {method.name for method in open_inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods}
    named = {path.removeprefix(OIP) for path in SCOPES_OF if path.startswith(OIP)}
    assert oip - named <= ADMIN_METHODS
    for service, prefix in ((classifier_pb2.DESCRIPTOR.services_by_name["Classifier"], CLASSIFIER),):
        assert {prefix + method.name for method in service.methods} <= set(SCOPES_OF)
    assert not named & ADMIN_METHODS
    assert set(RPC_OF.values()) <= named | ADMIN_METHODS
    assert set(OTHERS.values()) <= set(SCOPES_OF)
    assert "/v2/models/{name}/infer" not in OPEN


def test_without_tokens_everybody_infers_and_nobody_is_an_admin() -> None:
    closed, opened = Access(None, open_admin=False), Access(None, open_admin=True)
    for path in SCOPES_OF:
        assert closed.judge_of(path) is None
    for method in ADMIN_METHODS:
        with pytest.raises(ForbiddenError, match=f"{method}: is closed; expected a token of scope 'admin'"):
            admit(closed, OIP + method, ())
        assert opened.judge_of(OIP + method) is None
    for method in WRITING:
        with pytest.raises(ForbiddenError, match="is closed"):
            closed.require_admin((), method)
        opened.require_admin((), method)


def test_each_scope_opens_its_own_methods_and_health_needs_none(tmp_path: Path) -> None:
    tokens = {scope: new_token() for scope in ("infer", "read", "admin")}
    access = access_to(tmp_path / "tokens", Clock(), *(line_of(scope, token, (scope,), {}) for scope, token in tokens.items()))
    for path, scopes in {**SCOPES_OF, **{OIP + method: ("admin",) for method in ADMIN_METHODS}}.items():
        if not scopes:
            assert access.judge_of(path) is None
            continue
        method = path.rpartition("/")[2]
        for other, token in tokens.items():
            if other in scopes:
                admit(access, path, bearing(token))
                continue
            with pytest.raises(ForbiddenError, match=f"{method}: asks for scope {either(scopes)}; the token of '{other}' has {other}"):
                admit(access, path, bearing(token))
        for metadata, text in (((), "authorization: not sent"), (bearing(new_token()), "authorization: the token is unknown")):
            with pytest.raises(UnauthenticatedError, match=text):
                admit(access, path, metadata)
    access.require_admin(bearing(tokens["admin"]), "LogSettings")
    with pytest.raises(ForbiddenError, match="LogSettings: asks for scope 'admin'"):
        access.require_admin(bearing(tokens["read"]), "LogSettings")
    assert access.name_of(bearing(tokens["read"])) == "read"
    assert access.name_of(bearing("other")) == access.name_of(()) == ""


@pytest.mark.parametrize(
    ("value", "expected"),
    [("Bearer a", "a"), ("bearer  a ", "a"), ("Basic a", None), ("a", None), (b"Bearer a", None), ("Bearer ", "")],
)
def test_only_bearers_present_a_token(value: Any, expected: str | None) -> None:
    assert presented_by((("authorization", value), ("authorization", "Bearer second"))) == expected


def test_a_file_that_changes_is_read_again_and_a_wrong_one_is_not_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock, file, one, two = Clock(), tmp_path / "tokens", new_token(), new_token()
    access = access_to(file, clock, line_of("one", one, ("infer",), {"calls": "3/h"}))
    path = CLASSIFIER + "Classify"
    admit(access, path, bearing(one))
    file.write_text(line_of("one", one, ("infer",), {"calls": "3/h"}) + "\n" + line_of("two", two, ("infer",), {}) + "\n# a comment\n\n")
    with pytest.raises(UnauthenticatedError):
        admit(access, path, bearing(two))
    clock.time += 1
    admit(access, path, bearing(two))
    for _ in range(2):
        admit(access, path, bearing(one))
    with pytest.raises(QuotaError, match="calls: 'one' has had the 3 that it may have in 3600 s"):
        admit(access, path, bearing(one))  # what it had before the file changed is not forgotten
    for broken in ("nonsense", f"two {HASH} infer\n" * 2):
        file.write_text(broken)
        clock.time += 1
        admit(access, path, bearing(two))
    assert sum("what was read before stays in use" in record.message for record in caplog.records) == 2
    file.unlink()
    clock.time += 1
    admit(access, path, bearing(two))
    file.write_text(line_of("one", one, ("infer",), {}))
    clock.time += 1
    with pytest.raises(UnauthenticatedError):
        admit(access, path, bearing(two))


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("one infer", "2 parts; expected NAME sha256:HASH SCOPES"),
        (f"o/ne {HASH} infer", "name: 'o/ne'; expected 1 to 64"),
        ("one rsn_abcdef infer", "hash: expected sha256: and 64 hexadecimal digits, never the token itself"),
        (f"one {HASH} infer,write", "scopes: 'write'; expected some of infer,read,admin"),
        (f"one {HASH} infer bytes=3/s", "limit: 'bytes=3/s'; expected calls=N/s or rows=N/s"),
        (f"one {HASH} infer rows=0/s", "rows: '0/s'; expected a number above 0"),
        (f"one {HASH} infer rows=3", "rows: '3'; expected a number above 0 with /s"),
    ],
)
def test_a_wrong_line_says_which_part(line: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(StartError, match=text):
        read_line(line)
    file = tmp_path / "tokens"
    file.write_text(f"# first\n{line}\n")
    with pytest.raises(StartError, match=f"tokens: {file}:2: "):
        access_of(Settings(tmp_path, tokens=file))


def test_names_and_tokens_are_there_once_and_the_file_has_to_be(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"one {HASH} infer\ntwo {HASH} read\n")
    with pytest.raises(StartError, match=f"{file}:2: the token is in line 1, too"):
        read_tokens(file)
    file.write_text(f"one {HASH} infer\none {HASH[:-1]}1 read\n")
    with pytest.raises(StartError, match=f"{file}:2: the name 'one' is in line 1, too"):
        read_tokens(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(StartError, match="is no text"):
        read_tokens(file)
    with pytest.raises(StartError, match="absent cannot be read: No such file"):
        read_tokens(tmp_path / "absent")


def test_a_bucket_fills_steadily_and_large_takings_are_owed() -> None:
    clock = Clock()
    bucket = Bucket(Rate(10, 1), clock)
    assert [bucket.take(1) for _ in range(10)] == 10 * [0]
    assert bucket.take(1) == pytest.approx(0.1)
    clock.time += 0.1
    assert bucket.take(1) == 0
    clock.time += 5
    assert bucket.take(30) == 0  # as many as it ever holds, and 20 owed
    assert bucket.take(1) == pytest.approx(2.1)
    clock.time += 2.0
    assert bucket.take(1) == pytest.approx(0.1)
    clock.time += 0.1
    assert bucket.take(1) == 0
    small = Bucket(Rate(0.5, 60), clock)
    assert small.take(1) == 0
    assert small.take(1) == pytest.approx(120)
    assert [parse_rate(text) for text in ("5/s", "2.5/min", "7/h")] == [Rate(5, 1), Rate(2.5, 60), Rate(7, 3600)]


def test_rows_are_counted_apart_and_shared_by_front_ends(tmp_path: Path) -> None:
    file, token = tmp_path / "tokens", new_token()
    file.write_text(line_of("one", token, ("infer",), {"rows": "8/h"}))
    access = access_of(Settings(tmp_path, tokens=file), sharers=2)
    for _ in range(5):
        admit(access, OIP + "ModelInfer", bearing(token))
    access.take_rows(bearing(token), 4)
    with pytest.raises(QuotaError, match="rows: 'one' has had the 8 that it may have in 3600 s") as error:
        access.take_rows(bearing(token), 1)
    assert error.value.retry_after == pytest.approx(900, rel=0.01)
    Access(None, open_admin=False).take_rows((), 1_000_000)


def test_the_command_makes_a_token_that_its_line_knows(tmp_path: Path) -> None:
    runner, file = CliRunner(), tmp_path / "tokens"
    shown = runner.invoke(main, ["token", "one", "--scope", "infer", "--scope", "read", "--rows", "5/min"])
    token, line = (part.split(": ")[1].strip() for part in shown.output.strip().splitlines())
    assert line == line_of("one", token, ("infer", "read"), {"rows": "5/min"})
    assert token not in line
    file.write_text(line)  # without the end of its line
    appended = runner.invoke(main, ["token", "two", "--scope", "admin", "--append", str(file)])
    known = Tokens(read_tokens(file))
    assert [getattr(known.find(each), "name", None) for each in (token, appended.output.strip(), "x")] == ["one", "two", None]
    for arguments, text in (
        (["two", "--scope", "read", "--append", str(file)], "name: 'two' is in .* already"),
        (["a b", "--scope", "read"], "name: 'a b'; expected 1 to 64"),
        (["three", "--scope", "read", "--calls", "5"], "calls: '5'; expected a number above 0"),
        (["three", "--scope", "read", "--append", str(tmp_path)], "cannot be read|cannot be written"),
    ):
        failed = runner.invoke(main, ["token", *arguments])
        assert failed.exit_code == 1
        assert re.search(text, failed.output), failed.output
