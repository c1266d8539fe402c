"""Calls written down: traces with their context, an access log, and exemplars; over gRPC and HTTP."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from in_process import running_app
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from resnet_models.sample import load_sample
from resnet_proto import open_inference_pb2 as pb
from resnet_proto.open_inference_pb2_grpc import GRPCInferenceServiceStub
from resnet_server.app import App

IMAGES = load_sample().images[:3]
PARTS = ("queue", "compute", "answer", "batch")
OPENMETRICS = {"accept": "application/openmetrics-text; version=1.0.0"}
PICTURE = Path(__file__).parents[2] / "server/resnet_server/endpoints/http/page/examples/cat.png"


def context(number: int, sampled: bool = True) -> dict[str, str]:
    return {"traceparent": f"00-{number:032x}-{number:016x}-0{int(sampled)}", "tracestate": "vendor=1"}


def infer(app: App, headers: dict[str, str], request_id: str = "", model: str = "resnet20") -> None:
    request = pb.ModelInferRequest(model_name=model, id=request_id, raw_input_contents=(IMAGES.tobytes(),))
    request.inputs.add(name="image", datatype="UINT8", shape=IMAGES.shape)
    with grpc.insecure_channel(f"127.0.0.1:{app.grpc_port}") as channel:
        GRPCInferenceServiceStub(channel).ModelInfer(request, metadata=tuple(headers.items()), timeout=20)


class Records:
    """What one server wrote, in which calls 1 to 4 were made, and its metrics after them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.page = ""

    @property
    def spans(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "traces").read_text().splitlines()]

    def trace(self, number: int) -> list[dict[str, Any]]:
        return [span for span in self.spans if int(span["context"]["trace_id"], 16) == number]

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "access").read_text().splitlines()]


@pytest.fixture(scope="module", params=["queue", "asyncio"])
def records(request: pytest.FixtureRequest, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Records]:
    folder = tmp_path_factory.mktemp("records")
    written = Records(folder)
    files = {"traces": str(folder / "traces"), "access_log": str(folder / "access"), "trace_share": 0.0}
    with running_app(repository, folder / "plans", transport=request.param, **files) as app:
        infer(app, context(1), "request-7")
        infer(app, context(2, sampled=False))
        infer(app, {})
        with pytest.raises(grpc.RpcError):
            infer(app, context(3), model="other")
        headers = {**context(4), "x-request-id": "r-4"}
        httpx.post(f"http://127.0.0.1:{app.http_port}/classify", content=PICTURE.read_bytes(), headers=headers).raise_for_status()
        assert httpx.post(f"http://127.0.0.1:{app.http_port}/v2/repository/models/a/load").status_code == 403
        written.page = httpx.get(f"http://127.0.0.1:{app.metrics_port}/metrics", headers=OPENMETRICS).text
    yield written


def test_a_trace_has_the_callers_context_and_what_the_call_went_through(records: Records) -> None:
    by_name = {span["name"]: span for span in records.trace(1)}
    call = by_name["ModelInfer"]
    assert (call["parent_id"], call["kind"]) == (f"0x{1:016x}", "SpanKind.SERVER")
    assert "vendor" in str(call["context"]["trace_state"])
    about = call["attributes"]
    assert [about[f"resnet.{name}"] for name in ("request.id", "model", "version", "rows")] == ["request-7", "resnet20", "1", 3]
    assert about["rpc.response.status_code"] == "OK"
    assert about["network.peer.address"].startswith("ipv4:127.0.0.1:")
    assert set(by_name) == {"ModelInfer", *PARTS}
    for name in PARTS:
        part = by_name[name]
        assert part["parent_id"] == call["context"]["span_id"]
        assert call["start_time"] <= part["start_time"] <= part["end_time"] <= call["end_time"], name
    assert (
        by_name["queue"]["end_time"] <= by_name["compute"]["start_time"] < by_name["compute"]["end_time"] <= by_name["answer"]["start_time"]
    )
    (link,) = by_name["batch"]["links"]
    assert link["context"]["span_id"] == call["context"]["span_id"]
    (link,) = by_name["compute"]["links"]
    assert link["context"]["span_id"] == by_name["batch"]["context"]["span_id"]


def test_who_is_not_sampled_leaves_no_trace_and_an_error_one_span(records: Records) -> None:
    assert not records.trace(2)
    (failed,) = records.trace(3)
    assert (failed["status"]["status_code"], failed["status"]["description"]) == ("ERROR", "unknown_model")
    assert {int(span["context"]["trace_id"], 16) for span in records.spans} == {1, 3, 4}
    http = {span["name"]: span for span in records.trace(4)}
    assert set(http) == {"Classify", *PARTS}
    assert http["Classify"]["attributes"]["resnet.request.id"] == "r-4"


def test_the_access_log_has_a_line_for_each_call(records: Records) -> None:
    lines = records.lines
    assert [(line["method"], line["status"]) for line in lines] == [
        *3 * [("ModelInfer", "OK")],
        ("ModelInfer", "NOT_FOUND"),
        ("Classify", "OK"),
        ("RepositoryModelLoad", "PERMISSION_DENIED"),
    ]
    first = lines[0]
    assert (first["model"], first["version"], first["precision"], first["rows"]) == ("resnet20", "1", "fp32", 3)
    assert (first["request_id"], first["trace_id"], lines[4]["request_id"]) == ("request-7", f"{1:032x}", "r-4")
    assert 0 <= first["queue_milliseconds"] <= first["batch_milliseconds"] + first["queue_milliseconds"] <= first["milliseconds"]
    assert (lines[3]["reason"], "model" in lines[3]) == ("unknown_model", False)
    assert lines[4]["peer"].startswith("ipv4:127.0.0.1:")
    assert first["time"].endswith("+00:00")


def test_histograms_have_exemplars_of_traced_calls(records: Records) -> None:
    families = {family.name: family for family in text_string_to_metric_families(records.page)}  # type: ignore[no-untyped-call]
    samples = families["resnet_request_seconds"].samples
    found = {sample.exemplar.labels["trace_id"] for sample in samples if sample.exemplar is not None}
    assert found == {f"{number:032x}" for number in (1, 4)}


def test_otlp_goes_where_the_environment_says(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[ExportTraceServiceRequest] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            received.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as collector:
        thread = threading.Thread(target=collector.serve_forever)
        thread.start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
        try:
            with running_app(repository, tmp_path / "plans", traces="otlp", trace_share=1.0) as app:
                infer(app, {}, "by-share")
        finally:
            collector.shutdown()
            thread.join()
    (resource,) = (spans for request in received for spans in request.resource_spans)
    assert {"mine"} == {pair.value.string_value for pair in resource.resource.attributes if pair.key == "service.name"}
    assert {span.name for scope in resource.scope_spans for span in scope.spans} == {"ModelInfer", *PARTS}


def test_opentelemetry_is_not_even_imported_where_nobody_asks_for_it() -> None:
    code = "import sys, resnet_server.app, resnet_server.cli; assert not any('opentelemetry' in name for name in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
