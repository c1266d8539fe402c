"""Facts of calls: bounded, sampled, and written whatever one writer does."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from resnet_server.endpoints import call_writers
from resnet_server.endpoints.call_writers import observer_of
from resnet_server.errors import StartError
from resnet_server.metrics import call_facts
from resnet_server.metrics.access_log import AccessLog
from resnet_server.metrics.call_facts import CallFacts, CallObserver, read_context
from resnet_server.metrics.tracing import TraceWriter
from resnet_server.settings import Settings


class Caller:
    def __init__(self, **headers: str) -> None:
        self._headers = headers

    def invocation_metadata(self) -> Any:
        return tuple((key.replace("_", "-"), value) for key, value in self._headers.items())

    def peer(self) -> str:
        return "ipv4:1.2.3.4:5"


class Kept:
    """A writer that keeps what it gets, and waits before each until `go`."""

    def __init__(self, *, held: bool = False) -> None:
        self.facts: list[CallFacts] = []
        self.go = threading.Event()
        self.closed = False
        if not held:
            self.go.set()

    def write(self, facts: CallFacts) -> None:
        self.go.wait(20)
        self.facts.append(facts)

    def idle(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


class Broken(Kept):
    def write(self, facts: CallFacts) -> None:
        raise OSError("no space left")


@pytest.mark.parametrize(
    ("header", "traced"),
    [
        (f"00-{7:032x}-{8:016x}-01", True),
        (f"00-{7:032x}-{8:016x}-00", False),
        (f"00-{7:032x}-{8:016x}-03", True),
        (f"00-{0:032x}-{8:016x}-01", None),
        (f"00-{7:032x}-{0:016x}-01", None),
        (f"01-{7:032x}-{8:016x}-01", None),
        (f"00-{7:032X}-{8:016x}-01-extra", None),
        ("", None),
        ("0" * 100_000, None),
    ],
)
def test_a_context_is_taken_over_or_is_none(header: str, traced: bool | None) -> None:
    facts = CallFacts("m", 0.0)
    read_context(facts, header)
    expected = (0, 0, False) if traced is None else (7, 8, traced)
    assert (facts.trace_id, facts.parent_id, facts.traced) == expected


def test_the_share_decides_for_who_sends_no_context() -> None:
    observer = CallObserver([Kept()], trace_share=0.25, name_of=lambda metadata: "me")
    facts = [observer.begin("m", 1.0, Caller()) for _ in range(4000)]
    assert 800 < sum(each.traced for each in facts) < 1200
    assert len({each.trace_id for each in facts}) == 4000
    observer.trace_share = 0.0
    assert not any(observer.begin("m", 1.0, Caller()).traced for _ in range(100))
    one = observer.begin("m", 1.0, Caller(x_request_id="i" * 1000))
    assert (one.caller, one.peer, one.request_id) == ("me", "ipv4:1.2.3.4:5", "i" * 128)
    observer.close()


def test_more_than_can_be_written_is_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_facts, "MOST_WAITING", 5)
    dropped: list[int] = []
    writer = Kept(held=True)
    observer = CallObserver([writer], dropped=lambda: dropped.append(1))
    for number in range(20):
        observer.end(CallFacts(str(number), 0.0))
    assert 14 <= len(dropped) <= 15  # one may be in the writer's hands
    writer.go.set()
    observer.close()
    assert len(writer.facts) == 20 - len(dropped)
    assert writer.closed


def test_a_writer_that_fails_costs_the_others_nothing(caplog: pytest.LogCaptureFixture) -> None:
    kept = Kept()
    observer = CallObserver([Broken(), kept])
    for _ in range(3):
        observer.end(CallFacts("m", 0.0))
    observer.close()
    assert len(kept.facts) == 3
    assert "Broken: a call is not written: no space left" in caplog.text


def test_a_writer_that_hangs_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_facts, "CLOSE_SECONDS", 0.05)
    writer = Kept(held=True)
    observer = CallObserver([writer])
    observer.end(CallFacts("m", 0.0))
    observer.close()
    assert not writer.facts
    writer.go.set()


def test_answers_are_sampled_and_failures_all_written(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = AccessLog(str(path), share=0.0)
    for status in ("OK", "NOT_FOUND", "OK"):
        log.write(CallFacts("m", 1.0, status=status, ended=1.5))
    path.rename(tmp_path / "moved")
    log.write(CallFacts("m", 1.0, status="INTERNAL", ended=1.25))
    log.close()
    assert [json.loads(line)["status"] for line in (tmp_path / "moved").read_text().splitlines()] == ["NOT_FOUND"]
    (line,) = map(json.loads, path.read_text().splitlines())
    assert (line["status"], line["milliseconds"], set(line)) == ("INTERNAL", 250, {"time", "method", "status", "milliseconds"})


def test_calls_of_one_batch_are_linked_from_its_one_span(tmp_path: Path) -> None:
    writer = TraceWriter(str(tmp_path / "traces"))
    for number in (1, 2, 3):
        about = {"batch": 9, "batch_rows": 6, "rows": 2, "settled": 5.0, "batch_seconds": 2.0, "queue_seconds": 1.0, "engine_seconds": 1.5}
        writer.write(CallFacts("ModelInfer", 1.0, trace_id=number, traced=True, status="OK", ended=6.0, **about))  # type: ignore[arg-type]
    writer.write(CallFacts("ModelInfer", 1.0, trace_id=4, status="OK", ended=6.0))
    writer.close()
    spans = [json.loads(line) for line in (tmp_path / "traces").read_text().splitlines()]
    (batch,) = (span for span in spans if span["name"] == "batch")
    calls = {int(span["context"]["trace_id"], 16): span for span in spans if span["name"] == "ModelInfer"}
    assert {link["context"]["span_id"] for link in batch["links"]} == {span["context"]["span_id"] for span in calls.values()}
    assert set(calls) == {1, 2, 3}
    assert (batch["parent_id"], batch["attributes"]["resnet.batch.rows"]) == (calls[1]["context"]["span_id"], 6)
    computed = [span for span in spans if span["name"] == "compute"]
    assert [link["context"]["span_id"] for span in computed for link in span["links"]] == 3 * [batch["context"]["span_id"]]


def test_what_cannot_be_written_is_said_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = str(tmp_path / "absent" / "file")

    def observed(**given: Any) -> Any:
        return observer_of(Settings(tmp_path, **given), lambda _: "", lambda: None)

    for name, option in (("access_log", "access-log"), ("traces", "traces")):
        with pytest.raises(StartError, match=f"{option}: {absent} cannot be written: No such file"):
            observed(**{name: absent})
    assert observed() is None
    monkeypatch.setattr(call_writers, "NEEDED", "opentelemetry_that_is_not_here.sdk")
    with pytest.raises(StartError, match=r"OpenTelemetry is not installed; expected `pip install 'resnet-serving\[traces\]'`"):
        observed(traces="otlp")
