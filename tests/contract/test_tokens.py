"""Tokens on real sockets, for both transports and over HTTP: the same texts, and nothing is read of a call that may not come in."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import tritonclient.grpc
import tritonclient.http
from in_process import running_app
from resnet_client import AccessError, Client, OverloadedError
from resnet_models.sample import load_sample
from resnet_proto import open_inference_pb2 as pb
from resnet_proto.open_inference_pb2_grpc import GRPCInferenceServiceStub
from resnet_server.app import App
from resnet_server.endpoints.security.access import CLASSIFIER, OIP, SCOPES_OF, either
from resnet_server.endpoints.security.tokens import line_of, new_token
from tritonclient.utils import InferenceServerException

IMAGES = load_sample().images[:2]
OPEN_PATHS = ("/", "/openapi.json", "/page/page.js", "/v2/health/live", "/v2/health/ready", "/v2/models/resnet20/ready")
Bearer = dict[str, str]
Bearers = dict[str, Bearer]


@pytest.fixture(scope="module")
def tokens() -> Bearer:
    return {name: new_token() for name in ("infer", "read", "admin", "calls", "rows", "stream")}


@pytest.fixture(scope="module")
def bearers(tokens: Bearer) -> Bearers:
    """Headers by the name of a token."""
    return {name: {"authorization": f"Bearer {token}"} for name, token in tokens.items()}


@pytest.fixture(scope="module", params=["queue", "asyncio"])
def app(request: pytest.FixtureRequest, repository: Path, tokens: Bearer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    folder = tmp_path_factory.mktemp("tokens")
    scopes = {"calls": "infer", "rows": "infer", "stream": "infer"}
    rates = {"calls": {"calls": "3/h"}, "rows": {"rows": "2/h"}, "stream": {"calls": "3/h"}}
    lines = [line_of(name, token, (scopes.get(name, name),), rates.get(name, {})) for name, token in tokens.items()]
    (folder / "file").write_text("\n".join(lines))
    with running_app(repository, folder / "plans", transport=request.param, tokens=folder / "file", reflection=False) as running:
        yield running


@pytest.fixture
def channel(app: App) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{app.grpc_port}") as opened:
        yield opened


@pytest.fixture
def http(app: App) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{app.http_port}") as client:
        yield client


def refused(channel: Any, path: str, message: bytes = b"", metadata: dict[str, str] | None = None) -> Any:
    with pytest.raises(grpc.RpcError) as error:
        channel.unary_unary(path)(message, metadata=tuple((metadata or {}).items()), timeout=20)
    return error.value


def test_a_call_without_a_token_is_unauthenticated_and_without_the_scope_denied(channel: grpc.Channel, bearers: Bearers) -> None:
    for path, scopes in SCOPES_OF.items():
        if not scopes or not path.startswith((OIP, CLASSIFIER)):
            continue
        error = refused(channel, path)
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:  # this server does not have it
            continue
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        assert error.details() == "authorization: not sent; expected 'Bearer' and a token"
        denied = refused(channel, path, metadata=bearers["admin"])
        text = f"{path.rpartition('/')[2]}: asks for scope {either(scopes)}; the token of 'admin' has admin"
        assert (denied.code(), denied.details()) == (grpc.StatusCode.PERMISSION_DENIED, text)
    assert refused(channel, "/test.None/None").code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_call_that_may_not_come_in_is_not_read(channel: grpc.Channel) -> None:
    for message in (b"\xff" * 1000, bytes(65 << 20)):  # no message of the method; more than the server takes
        assert refused(channel, OIP + "ModelInfer", message).code() is grpc.StatusCode.UNAUTHENTICATED


def test_health_asks_for_no_token(app: App, http: httpx.Client) -> None:
    with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{app.grpc_port}") as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("resnet20")
    for path in OPEN_PATHS:
        assert http.get(path).status_code == 200, path


def test_http_gives_the_same_texts(http: httpx.Client, channel: grpc.Channel, bearers: Bearers) -> None:
    places = (
        ("POST", "/v2/models/resnet20/infer", OIP + "ModelInfer"),
        ("POST", "/v2/models/resnet20/versions/1/infer", OIP + "ModelInfer"),
        ("POST", "/classify", CLASSIFIER + "Classify"),
        ("GET", "/v2", OIP + "ServerMetadata"),
        ("GET", "/models", CLASSIFIER + "ListModels"),
        ("GET", "/v2/models/resnet20", OIP + "ModelMetadata"),
        ("GET", "/v2/models/resnet20/stats", OIP + "ModelStatistics"),
        ("POST", "/v2/repository/index", OIP + "RepositoryIndex"),
    )
    for verb, path, method in places:
        for headers, status in (({}, 401), ({"authorization": "Bearer x"}, 401), (bearers["admin"], 403)):
            answer = http.request(verb, path, headers=headers, content=b"{" if verb == "POST" else None)
            assert (answer.status_code, answer.json()["error"]) == (status, refused(channel, method, metadata=headers).details()), path
            assert answer.headers.get("www-authenticate") == ("Bearer" if status == 401 else None)
    for name in ("load", "unload"):
        answer = http.post(f"/v2/repository/models/resnet20/{name}", headers=bearers["read"])
        assert (answer.status_code, "asks for scope 'admin'" in answer.text) == (403, True)
        assert http.post(f"/v2/repository/models/resnet20/{name}", headers=bearers["admin"]).status_code not in (401, 403)
    assert http.get("/nowhere").status_code == 404


def test_unmodified_clients_infer_with_their_token(app: App, bearers: Bearers) -> None:
    for module, port in ((tritonclient.grpc, app.grpc_port), (tritonclient.http, app.http_port)):
        tensor = module.InferInput("image", IMAGES.shape, "UINT8")
        tensor.set_data_from_numpy(IMAGES)
        with module.InferenceServerClient(f"127.0.0.1:{port}") as client:  # the one over HTTP adds to the headers it is given
            assert client.infer("resnet20", [tensor], headers=dict(bearers["infer"])).as_numpy("logits").shape == (2, 10)
            assert client.get_server_metadata(headers=bearers["read"])
            with pytest.raises(InferenceServerException, match="the token is unknown"):
                client.infer("resnet20", [tensor], headers={"authorization": "Bearer rsn_guess"})


def test_our_client_says_what_is_wrong(app: App, tokens: Bearer) -> None:
    url = f"127.0.0.1:{app.grpc_port}"
    with Client(url, token=tokens["infer"]) as client:
        assert client.infer(IMAGES, model="resnet20").shape == (2, 10)
    for token, status in ((None, grpc.StatusCode.UNAUTHENTICATED), (tokens["admin"], grpc.StatusCode.PERMISSION_DENIED)):
        with Client(url, token=token) as client, pytest.raises(AccessError) as error:
            client.infer(IMAGES, model="resnet20")
        assert error.value.status is status


def test_who_has_had_enough_is_told_when_to_come_back(app: App, http: httpx.Client, tokens: Bearer, bearers: Bearers) -> None:
    picture = (Path(__file__).parents[2] / "server/resnet_server/endpoints/http/page/examples/cat.png").read_bytes()
    answers = [http.post("/classify", content=picture, headers=bearers["calls"]) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[3].json()["error"] == "calls: 'calls' has had the 3 that it may have in 3600 s; try again later"
    assert 1190 <= int(answers[3].headers["retry-after"]) <= 1200
    with Client(f"127.0.0.1:{app.grpc_port}", token=tokens["rows"], timeout=5) as client:
        assert len(client.infer(IMAGES, model="resnet20")) == 2
        with pytest.raises(OverloadedError, match="rows: 'rows' has had the 2 that it may have in 3600 s") as error:
            client.infer(IMAGES[:1], model="resnet20")
        assert error.value.retry_after == pytest.approx(1800, abs=10)
    assert http.post("/classify", content=picture, headers=bearers["rows"]).status_code == 429


def test_what_was_turned_away_is_counted(app: App, channel: grpc.Channel) -> None:
    refused(channel, OIP + "ModelInfer")
    page = httpx.get(f"http://127.0.0.1:{app.metrics_port}/metrics").text
    assert 'resnet_rejects_total{model="",reason="unauthenticated",version=""} ' in page
    assert 'method="ModelInfer",model="",status="UNAUTHENTICATED"' in page
    assert "/" not in "".join(line for line in page.splitlines() if line.startswith("resnet_requests_total{"))


def test_reflection_can_be_closed(channel: Any, bearers: Bearers) -> None:
    path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    with pytest.raises(grpc.RpcError) as error:
        next(channel.stream_stream(path)(iter([b""]), metadata=tuple(bearers["read"].items())))
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_each_request_of_a_stream_is_a_call_of_its_token(channel: grpc.Channel, bearers: Bearers) -> None:
    request = pb.ModelInferRequest(model_name="resnet20", raw_input_contents=[IMAGES.tobytes()])
    request.inputs.add(name="image", datatype="UINT8", shape=IMAGES.shape)
    answers = list(GRPCInferenceServiceStub(channel).ModelStreamInfer(iter([request] * 5), metadata=tuple(bearers["stream"].items())))
    assert [bool(answer.error_message) for answer in answers] == [False, False, False, True, True]
    assert answers[3].error_message == "calls: 'stream' has had the 3 that it may have in 3600 s; try again later"
    assert answers[3].infer_response.parameters["status"].string_param == "RESOURCE_EXHAUSTED"
    assert answers[3].infer_response.parameters["retry_after_ms"].int64_param > 0
