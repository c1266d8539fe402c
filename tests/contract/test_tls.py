"""TLS on real sockets, for both transports: unmodified clients, certificates that change under traffic, probes beside it."""

import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from grpc_health.v1 import health_pb2, health_pb2_grpc
from in_process import running_app
from resnet_client import TLS, Client, UnavailableError
from resnet_models.sample import load_sample
from resnet_proto import open_inference_pb2 as pb
from resnet_proto.open_inference_pb2_grpc import GRPCInferenceServiceStub
from resnet_server.app import App
from resnet_server.endpoints.security.certificates import certificates_of
from resnet_server.errors import StartError
from resnet_server.settings import Settings
from tls_files import Keys, write

IMAGES = load_sample().images[:2]
MOST_LOOKS = 100
ALONE = [("grpc.use_local_subchannel_pool", 1)]


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plans")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module", params=["queue", "asyncio"])
def app(request: pytest.FixtureRequest, repository: Path, keys: Keys, plans: Path) -> Iterator[App]:
    """Asks clients for certificates, and answers probes without."""
    files = {"tls_cert": keys.cert, "tls_key": keys.key, "tls_client_ca": keys.client_roots}
    with running_app(repository, plans, transport=request.param, health_port=0, health_http_port=0, compression="gzip", **files) as running:
        yield running


def channel(app: App, keys: Keys) -> grpc.Channel:
    """With a connection of its own."""
    credentials = grpc.ssl_channel_credentials(keys.roots.read_bytes(), keys.client_key.read_bytes(), keys.client_cert.read_bytes())
    return grpc.secure_channel(f"localhost:{app.grpc_port}", credentials, ALONE)


def infer(opened: grpc.Channel) -> None:
    request = pb.ModelInferRequest(model_name="resnet20", raw_input_contents=(IMAGES.tobytes(),))
    request.inputs.add(name="image", datatype="UINT8", shape=IMAGES.shape)
    assert GRPCInferenceServiceStub(opened).ModelInfer(request, timeout=20).raw_output_contents


def shown_by(port: int, keys: Keys) -> bytes:
    """The certificate that a server shows on a new connection, in DER form."""
    context = keys.context(known=True)
    with socket.create_connection(("127.0.0.1", port), 10) as plain, context.wrap_socket(plain, server_hostname="localhost") as encrypted:
        found = encrypted.getpeercert(binary_form=True)
    assert found is not None
    return found


def test_unmodified_triton_clients_speak_to_it(app: App, keys: Keys) -> None:
    url = f"localhost:{app.grpc_port}"
    files = {"root_certificates": str(keys.roots), "private_key": str(keys.client_key), "certificate_chain": str(keys.client_cert)}
    tensor = tritonclient.grpc.InferInput("image", IMAGES.shape, "UINT8")
    tensor.set_data_from_numpy(IMAGES)
    with tritonclient.grpc.InferenceServerClient(url, ssl=True, **files) as client:
        by_grpc = client.infer("resnet20", [tensor]).as_numpy("logits")
    over_http = tritonclient.http.InferInput("image", IMAGES.shape, "UINT8")
    over_http.set_data_from_numpy(IMAGES)
    options = {"ca_certs": str(keys.roots), "keyfile": str(keys.client_key), "certfile": str(keys.client_cert)}
    address = f"localhost:{app.http_port}"
    with tritonclient.http.InferenceServerClient(address, ssl=True, ssl_options=options, ssl_context_factory=None) as client:
        by_http = client.infer("resnet20", [over_http]).as_numpy("logits")
    np.testing.assert_allclose(by_grpc, by_http, atol=1e-4)


def test_answers_over_http_are_compressed_for_who_asks(app: App, keys: Keys) -> None:
    images = load_sample().images[:32]
    body = {"inputs": [{"name": "image", "datatype": "UINT8", "shape": list(images.shape), "data": images.flatten().tolist()}]}
    with httpx.Client(base_url=f"https://localhost:{app.http_port}", verify=keys.context(known=True), timeout=30) as client:
        answers = [client.post("/v2/models/resnet20/infer", json=body, headers={"accept-encoding": kind}) for kind in ("gzip", "identity")]
    assert [answer.headers.get("content-encoding") for answer in answers] == ["gzip", None]
    assert int(answers[0].headers["content-length"]) < int(answers[1].headers["content-length"])
    first, second = (np.array(answer.json()["outputs"][0]["data"]) for answer in answers)
    np.testing.assert_allclose(first, second, atol=1e-4)


def test_who_has_no_certificate_is_turned_away(app: App, keys: Keys) -> None:
    with Client(f"grpcs://localhost:{app.grpc_port}", tls=TLS(keys.roots, keys.client_cert, keys.client_key)) as client:
        assert client.models()[0].ready
    with Client(f"grpcs://localhost:{app.grpc_port}", tls=TLS(keys.roots)) as client, pytest.raises(UnavailableError):
        client.models()
    with Client(f"localhost:{app.grpc_port}") as client, pytest.raises(UnavailableError):
        client.models()
    address = f"https://localhost:{app.http_port}/v2"
    assert httpx.get(address, verify=keys.context(known=True)).status_code == 200
    for given in (address, address.replace("https", "http")):
        with pytest.raises(httpx.TransportError):
            httpx.get(given, verify=keys.context())


def test_certificates_change_under_traffic_and_no_call_fails(app: App, keys: Keys) -> None:
    before = {port: shown_by(port, keys) for port in (app.grpc_port, app.http_port)}
    failed: list[BaseException] = []
    done = threading.Event()

    def call(connect_anew: bool) -> None:
        try:
            with channel(app, keys) as kept:
                while not done.is_set():
                    if connect_anew:
                        with channel(app, keys) as opened:
                            infer(opened)
                        httpx.get(f"https://localhost:{app.http_port}/v2", verify=keys.context(known=True)).raise_for_status()
                    else:
                        infer(kept)
        except BaseException as error:
            failed.append(error)

    callers = [threading.Thread(target=call, args=(anew,)) for anew in (True, True, False)]
    for caller in callers:
        caller.start()
    for _ in range(5):
        renewed = keys.renew()
        for port in before:
            assert any(shown_by(port, keys) == renewed for _ in range(MOST_LOOKS))  # a caller's handshake may be reading the files
    done.set()
    for caller in callers:
        caller.join(30)
    assert not failed
    assert renewed not in before.values()


def test_an_authority_that_is_replaced_is_trusted_no_more(app: App, keys: Keys) -> None:
    old = keys.client_cert.read_bytes(), keys.client_key.read_bytes()
    known = keys.context(known=True)
    keys.renew_client(other_authority=True)
    with channel(app, keys) as opened:
        infer(opened)
    assert shown_by(app.http_port, keys)
    credentials = grpc.ssl_channel_credentials(keys.roots.read_bytes(), old[1], old[0])
    with grpc.secure_channel(f"localhost:{app.grpc_port}", credentials, ALONE) as opened, pytest.raises(grpc.RpcError):
        infer(opened)
    with pytest.raises(httpx.TransportError):
        httpx.get(f"https://localhost:{app.http_port}/v2", verify=known)


def test_files_that_are_wrong_leave_the_certificate_before_in_use(app: App, keys: Keys, caplog: pytest.LogCaptureFixture) -> None:
    shown, key = shown_by(app.grpc_port, keys), keys.key.read_bytes()
    write(keys.key, b"nonsense")
    for port in (app.grpc_port, app.http_port, app.grpc_port):
        assert shown_by(port, keys) == shown
    (record,) = [record for record in caplog.records if "what was read before stays in use" in record.message]
    assert f"tls-key: {keys.key} is not in PEM form" in record.message
    page = httpx.get(f"http://127.0.0.1:{app.metrics_port}/metrics").text
    assert 'resnet_file_readings_total{files="tls",result="failed"} ' in page
    write(keys.key, key)
    assert shown_by(app.grpc_port, keys) == shown


def test_probes_need_no_certificate_and_get_nothing_else(app: App) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{app.health_port}") as plain:
        for service in ("", "liveness", "resnet20"):
            answer = health_pb2_grpc.HealthStub(plain).Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as error:
            GRPCInferenceServiceStub(plain).ServerMetadata(pb.ServerMetadataRequest())
        assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED
    address = f"http://127.0.0.1:{app.health_http_port}"
    for path in ("live", "ready"):
        assert httpx.get(f"{address}/v2/health/{path}").status_code == 200
    assert httpx.get(f"{address}/v2/models/resnet20/ready").status_code == 200
    assert httpx.get(f"{address}/v2/models/other/ready").status_code == 503
    assert httpx.get(f"{address}/v2").status_code == 404


def encrypted(path: Path) -> Path:
    """A key with a password."""
    from cryptography.hazmat.primitives import serialization as s

    key = s.load_pem_private_key(path.read_bytes(), None)
    out = path.with_name("encrypted.pem")
    out.write_bytes(key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.BestAvailableEncryption(b"secret")))
    return out


def test_what_is_wrong_at_the_start_is_one_line(tmp_path: Path) -> None:
    keys, other = Keys(tmp_path), tmp_path / "other"
    other.mkdir()
    absent, empty = tmp_path / "absent.pem", tmp_path / "empty.pem"
    empty.touch()
    cert, key = keys.cert, keys.key
    wrong: tuple[tuple[dict[str, Any], str], ...] = (
        ({"tls_cert": cert}, "tls-key: not given, but tls-cert is"),
        ({"tls_key": key}, "tls-cert: not given, but tls-key is"),
        ({"tls_client_ca": cert}, "tls-cert: not given, but tls-client-ca"),
        ({"tls_cert": absent, "tls_key": key}, r"tls-cert: .*absent\.pem cannot be read: No such file"),
        ({"tls_cert": cert, "tls_key": empty}, r"tls-key: .*empty\.pem is not in PEM form"),
        ({"tls_cert": cert, "tls_key": Keys(other).key}, r"tls-key: .* is no key of .*server\.pem: KEY_VALUES_MISMATCH"),
        ({"tls_cert": cert, "tls_key": encrypted(key)}, "without a password"),
        ({"tls_cert": cert, "tls_key": key, "tls_client_ca": key}, "tls-client-ca: .* holds no certificate"),
    )
    for given, text in wrong:
        with pytest.raises(StartError, match=text):
            certificates_of(Settings(tmp_path, **given))
    assert certificates_of(Settings(tmp_path)) is None
    made = certificates_of(Settings(tmp_path, tls_cert=cert, tls_key=key))
    assert made is not None
    assert made.context().verify_mode is ssl.CERT_NONE
