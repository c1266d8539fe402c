"""The REST form over a real socket: the same answers and the same texts as the gRPC form, and every way to get it wrong."""

import asyncio
import base64
import gzip
import io
import json
import socket
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import urlsplit

import grpc
import httpx
import numpy as np
import pytest
from PIL import Image
from resnet_models.sample import load_sample
from resnet_proto import open_inference_pb2 as pb
from resnet_proto.limits import MAX_MESSAGE_BYTES
from resnet_proto.open_inference_pb2_grpc import GRPCInferenceServiceStub
from resnet_server.endpoints.http.calls import STATUS
from serving import RunningServer

INFER = "/v2/models/resnet20/infer"
LENGTH = "Inference-Header-Content-Length"


@pytest.fixture
def http(server: RunningServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.http_url, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def images() -> Any:
    return load_sample().images[:3]


def document(images: Any, **more: Any) -> dict[str, Any]:
    tensor = {"name": "image", "datatype": "UINT8", "shape": list(images.shape), "data": images.flatten().tolist()}
    return {"id": "7", "inputs": [{**tensor, **more}]}


def binary(images: Any, **parameters: Any) -> tuple[bytes, dict[str, str]]:
    head = document(images)
    del head["inputs"][0]["data"]
    head["inputs"][0]["parameters"] = {"binary_data_size": images.nbytes, **parameters}
    data = json.dumps(head).encode()
    return data + images.tobytes(), {LENGTH: str(len(data))}


def logits(answer: httpx.Response) -> Any:
    (output,) = answer.json()["outputs"]
    return np.array(output["data"], np.float32).reshape(output["shape"])


def by_grpc(channel: grpc.Channel, images: Any) -> Any:
    request = pb.ModelInferRequest(model_name="resnet20", raw_input_contents=(images.tobytes(),))
    request.inputs.add(name="image", datatype="UINT8", shape=images.shape)
    answer = GRPCInferenceServiceStub(channel).ModelInfer(request)
    return np.frombuffer(answer.raw_output_contents[0], np.float32).reshape(tuple(answer.outputs[0].shape))


def test_json_and_binary_and_raw_requests_give_the_logits_of_grpc(http: httpx.Client, channel: grpc.Channel, images: Any) -> None:
    expected = by_grpc(channel, images)
    flat = http.post(INFER, json=document(images))
    assert flat.status_code == 200
    assert (flat.json()["model_name"], flat.json()["model_version"], flat.json()["id"]) == ("resnet20", "1", "7")
    np.testing.assert_allclose(logits(flat), expected, atol=1e-4)
    np.testing.assert_allclose(logits(http.post(INFER, json=document(images, data=images.tolist()))), expected, atol=1e-4)
    body, headers = binary(images)
    np.testing.assert_allclose(logits(http.post(INFER, content=body, headers=headers)), expected, atol=1e-4)
    raw = http.post("/v2/models/resnet20/versions/1/infer", content=images[0].tobytes(), headers={LENGTH: "0"})
    length = int(raw.headers[LENGTH])
    assert json.loads(raw.content[:length])["outputs"][0]["parameters"] == {"binary_data_size": 40}
    np.testing.assert_allclose(np.frombuffer(raw.content[length:], np.float32), expected[0], atol=1e-4)


@pytest.mark.parametrize("where", ["output", "request"])
def test_binary_answers_on_request(where: str, http: httpx.Client, images: Any) -> None:
    wanted = document(images)
    if where == "output":
        wanted["outputs"] = [{"name": "logits", "parameters": {"binary_data": True}}]
    else:
        wanted["parameters"] = {"binary_data_output": True}
    answer = http.post(INFER, json=wanted)
    length = int(answer.headers[LENGTH])
    assert answer.headers["content-type"] == "application/octet-stream"
    assert len(answer.content) - length == json.loads(answer.content[:length])["outputs"][0]["parameters"]["binary_data_size"] == 120


def test_classification_as_strings(http: httpx.Client, images: Any) -> None:
    wanted = {**document(images), "outputs": [{"name": "logits", "parameters": {"classification": 2}}]}
    (output,) = http.post(INFER, json=wanted).json()["outputs"]
    assert (output["datatype"], output["shape"], len(output["data"])) == ("BYTES", [3, 2], 6)
    assert output["data"][0].split(":")[1:] == ["3", "cat"]


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "deflate without header"])
def test_compressed_requests(encoding: str, http: httpx.Client, channel: grpc.Channel, images: Any) -> None:
    body = json.dumps(document(images)).encode()
    raw = zlib.compressobj(wbits=-15)
    made = {"gzip": gzip.compress(body), "deflate": zlib.compress(body), "deflate without header": raw.compress(body) + raw.flush()}
    answer = http.post(INFER, content=made[encoding], headers={"Content-Encoding": encoding.split()[0]})
    np.testing.assert_allclose(logits(answer), by_grpc(channel, images), atol=1e-4)


def test_bombs_and_bodies_too_large_are_refused(http: httpx.Client) -> None:
    bomb = gzip.compress(bytes(1 << 27))
    assert len(bomb) < 1 << 18
    answer = http.post(INFER, content=bomb, headers={"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()["error"].partition(";")[0]) == (413, f"body: more than {MAX_MESSAGE_BYTES} bytes")


async def test_a_body_announced_too_large_is_refused_before_it_comes(connection: Any) -> None:
    reader, writer = connection
    writer.write(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (INFER.encode(), 1 << 40))
    assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"HTTP/1.1 413")


def broken(images: Any) -> dict[str, tuple[bytes, dict[str, str], str]]:
    good = document(images)
    body, headers = binary(images)
    head = int(headers[LENGTH])

    def changed(**entry: Any) -> bytes:
        return json.dumps({**good, "inputs": [{**good["inputs"][0], **entry}]}).encode()

    def sized(size: object, **more: Any) -> tuple[bytes, dict[str, str]]:
        return binary(images, binary_data_size=size, **more)

    both = json.dumps({"inputs": [{**good["inputs"][0], "parameters": {"binary_data_size": 4}}]}).encode()
    return {
        "no JSON": (b"{", {}, "body: is no JSON"),
        "a list": (b"[]", {}, "body: []; expected a JSON object"),
        "NaN": (b'{"inputs": NaN}', {}, "body: is no JSON"),
        "a number beyond all": (b'{"inputs": 1e400}', {}, "body: is no JSON"),
        "100,000 deep": (b"[" * 100_000 + b"]" * 100_000, {}, "body: is no JSON"),
        "no inputs": (b"{}", {}, "inputs: null; expected a list of tensors"),
        "header longer than the body": (body, {LENGTH: str(len(body) + 1)}, f"{LENGTH}: {len(body) + 1}; expected a whole number"),
        "header no number": (body, {LENGTH: "-3"}, f"{LENGTH}: -3; expected a whole number from 0"),
        "negative size": (*sized(-1), "inputs[0].parameters.binary_data_size: -1; expected a whole number"),
        "size beyond the body": (*sized(1 << 40), "inputs[0].parameters.binary_data_size: 1099511627776; expected a whole number"),
        "size no number": (*sized("many"), "inputs[0].parameters.binary_data_size: many; expected a whole number"),
        "bytes left over": (body + b"x", headers, "body: 1 bytes behind the last tensor"),
        "data and a size": (both, {}, "inputs[0].data: given together with binary_data_size"),
        "binary cut off": (body[:-1], headers, "inputs[0].parameters.binary_data_size: 9216; expected a whole number from 0 to 9215"),
        "data of another length": (changed(data=[1, 2, 3]), {}, "inputs[0].contents.uint_contents: 3 values; expected 9216"),
        "lists beside values": (changed(data=[[1], 2]), {}, "inputs[0].data: lists beside values"),
        "text as data": (changed(data=["cat"]), {}, "inputs[0].data: cat; expected numbers"),
        "a fraction": (changed(data=[0.5]), {}, "inputs[0].data: 0.5; expected whole numbers"),
        "a negative": (changed(data=[-1]), {}, "inputs[0].data: -1; expected 0 to 255"),
        "beyond a byte": (changed(data=[256] * images.size), {}, "inputs[0].contents.uint_contents: a value of 256; expected 0 to 255"),
        "wrong shape": (changed(shape=[3, 32, 32]), {}, "inputs[0].shape: [3, 32, 32]; expected [n, 32, 32, 3]"),
        "shape no list": (changed(shape=7), {}, "inputs[0].shape: 7; expected a list"),
        "shape of floats": (changed(shape=[1.5]), {}, "inputs[0].shape: [1.5]; expected a list"),
        "wrong datatype": (changed(datatype="FP32"), {}, "inputs[0].datatype: 'FP32'; expected 'UINT8'"),
        "wrong name": (changed(name="bïld"), {}, "inputs[0].name: 'bïld'; expected 'image'"),
        "name no text": (changed(name=3), {}, "inputs[0].name: 3; expected a string"),
        "encoding unknown": (body, {**headers, "Content-Encoding": "br"}, "Content-Encoding: 'br'; expected gzip or deflate"),
        "gzip broken": (b"no gzip", {"Content-Encoding": "gzip"}, "body: is no gzip stream"),
        "gzip cut off": (gzip.compress(body)[:-9], {**headers, "Content-Encoding": "gzip"}, "body: the gzip stream is cut off"),
        "head only": (body[:head], headers, "inputs[0].parameters.binary_data_size: 9216; expected a whole number from 0 to 0"),
    }


@pytest.mark.parametrize("name", broken(np.zeros((3, 32, 32, 3), np.uint8)))
def test_what_is_wrong_is_named(name: str, http: httpx.Client, images: Any) -> None:
    body, headers, text = broken(images)[name]
    answer = http.post(INFER, content=body, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(text)
    assert list(answer.json()) == ["error"]


FAULTS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "shape of another size": ({"shape": [3, 32, 16, 3]}, {}, {}),
    "shape of another rank": ({"shape": [3, 32, 32]}, {}, {}),
    "no rows": ({"shape": [0, 32, 32, 3], "data": []}, {}, {}),
    "too many rows": ({"shape": [65, 32, 32, 3], "data": [0] * 65 * 3072}, {}, {}),
    "fewer values": ({"data": [1, 2, 3]}, {}, {}),
    "a value beyond a byte": ({"data": [256] * 9216}, {}, {}),
    "another datatype": ({"datatype": "INT8"}, {}, {}),
    "another name": ({"name": "bïld"}, {}, {}),
    "another model": ({}, {"model": "bär"}, {}),
    "another version": ({}, {"version": "9"}, {}),
    "another output": ({}, {"output": "probabilities"}, {}),
    "more classes than there are": ({}, {"output": "logits", "classification": 11}, {}),
    "a priority that is none": ({}, {}, {"priority": 9}),
    "a timeout below zero": ({}, {}, {"timeout": -1}),
    "a timeout too short": ({}, {}, {"timeout": 1}),
    "a precision that is not loaded": ({}, {}, {"precision": "fp16"}),
    "a depth that is not there": ({}, {}, {"max_depth": 3}),
}
"""Of the input, of what surrounds it, and of the parameters."""


@pytest.mark.parametrize("name", FAULTS)
def test_the_same_fault_has_the_same_text_and_status_over_both(name: str, http: httpx.Client, channel: grpc.Channel, images: Any) -> None:
    changed, around, parameters = FAULTS[name]
    entry = {**document(images)["inputs"][0], **changed}
    model, version, output = (around.get(key, "") for key in ("model", "version", "output"))
    request = pb.ModelInferRequest(model_name=model or "resnet20", model_version=version)
    tensor = request.inputs.add(name=entry["name"], datatype=entry["datatype"], shape=entry["shape"])
    tensor.contents.uint_contents.extend(entry["data"])
    body: dict[str, Any] = {"inputs": [entry], "parameters": parameters}
    for key, value in parameters.items():
        setattr(request.parameters[key], "string_param" if isinstance(value, str) else "int64_param", value)
    if output:
        wanted: dict[str, Any] = {"name": output}
        asked = request.outputs.add(name=output)
        if "classification" in around:
            wanted["parameters"] = {"classification": around["classification"]}
            asked.parameters["classification"].int64_param = around["classification"]
        body["outputs"] = [wanted]
    path = f"/v2/models/{model or 'resnet20'}" + (f"/versions/{version}" if version else "")
    answer = http.post(f"{path}/infer", json=body)
    with pytest.raises(grpc.RpcError) as error:
        GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=30)
    if name != "a timeout too short":  # which says how many milliseconds are left
        assert answer.json()["error"] == error.value.details()
    assert answer.status_code == STATUS[error.value.code()]


def test_paths_and_methods(http: httpx.Client, images: Any) -> None:
    unknown = http.post("/v2/models/b%C3%A4r%2F1/infer", json=document(images))
    assert (unknown.status_code, unknown.json()["error"]) == (404, "POST /v2/models/bär/1/infer: Not Found")
    other = http.post("/v2/models/b%C3%A4r/infer", json=document(images))
    assert (other.status_code, other.json()["error"]) == (404, "model_name: 'bär' is unknown; served: resnet20")
    assert http.get(INFER).status_code == 405
    assert http.head("/v2/health/live").status_code == 200
    assert http.request("OPTIONS", INFER).status_code in (200, 405)
    assert http.get("/v2/models/resnet20/versions/9").json()["error"].startswith("model_version: '9' of model 'resnet20' is unknown")


def test_health_metadata_and_index(http: httpx.Client) -> None:
    assert http.get("/v2/health/live").json() == {"live": True}
    assert http.get("/v2/health/ready").json() == {"ready": True}
    assert http.get("/v2/models/resnet20/ready").json() == {"ready": True, "name": "resnet20"}
    assert http.get("/v2/models/other/ready").status_code == 503
    assert http.get("/v2").json()["name"] == "resnet-serving"
    model = http.get("/v2/models/resnet20").json()
    assert (model["name"], model["versions"], model["inputs"][0]["shape"]) == ("resnet20", ["1"], [-1, 32, 32, 3])
    assert http.post("/v2/repository/index").json() == [{"name": "resnet20", "version": "1", "state": "READY", "reason": ""}]


def test_a_timeout_that_cannot_be_kept_is_504_and_too_many_rows_400(http: httpx.Client, images: Any) -> None:
    late = http.post(INFER, json={**document(images), "parameters": {"timeout": 1}})
    assert late.status_code == 504
    assert "error" in late.json()
    many = np.zeros((65, 32, 32, 3), np.uint8)
    body, headers = binary(many)
    assert http.post(INFER, content=body, headers=headers).json()["error"] == "inputs[0].shape: 65 rows; expected 1 to 64"


def encoded() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(load_sample().images[0]).save(stream, "PNG")
    return stream.getvalue()


def test_a_picture_as_body_as_form_and_as_base64(http: httpx.Client) -> None:
    as_body = http.post("/classify", content=encoded(), headers={"Content-Type": "image/png"}).json()
    assert (len(as_body), as_body[0]["label"]) == (5, "cat")
    assert as_body[0]["score"] > as_body[1]["score"]
    as_form = http.post("/classify?top_k=2", files={"image": ("cat.png", encoded(), "image/png")}).json()
    as_json = http.post("/classify", json={"inputs": base64.b64encode(encoded()).decode(), "parameters": {"top_k": 2}}).json()
    assert as_form == as_json == as_body[:2]
    details = http.post("/classify?details=1", content=encoded()).json()
    assert (details["model"], details["precision"], len(details["certificate"])) == ("resnet20", "fp32", 64)
    assert details["milliseconds"]["compute"] > 0


def test_pictures_that_are_none(http: httpx.Client) -> None:
    assert http.post("/classify", content=b"no picture").json()["error"].startswith("images[0]: ")
    assert http.post("/classify", content=b"").status_code == 400
    assert http.post("/classify", json={"inputs": "%"}).json()["error"].startswith("inputs: is no base64")
    assert http.post("/classify", json={}).json()["error"] == "inputs: null; expected a picture in base64"
    assert "form: holds no file" in http.post("/classify", files={"other": b"x"}).json()["error"]
    assert http.post("/classify?top_k=many", content=encoded()).json()["error"] == "top_k: many; expected a whole number"


@pytest.fixture
async def connection(server: RunningServer) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    address = urlsplit(server.http_url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    yield reader, writer
    writer.close()


async def test_several_requests_on_one_connection_and_expect_100(connection: Any, images: Any) -> None:
    reader, writer = connection
    one = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    writer.write(3 * one)
    for _ in range(3):
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        await reader.readuntil(b'{"live":true}')
    body = json.dumps(document(images)).encode()
    writer.write(b"POST %s HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % (INFER.encode(), len(body)))
    assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"HTTP/1.1 100")
    await reader.readline()
    writer.write(body)
    assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"HTTP/1.1 200")


def test_a_caller_gone_in_the_middle_of_an_upload_harms_nobody(server: RunningServer, http: httpx.Client) -> None:
    address = urlsplit(server.http_url)
    for _ in range(20):
        with socket.create_connection((address.hostname, address.port)) as gone:
            gone.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nhalf" % INFER.encode())
    assert http.get("/v2/health/ready").json() == {"ready": True}


SCRIPT = """
import sys, numpy as np
import tritonclient.http as client
url, path = sys.argv[1:]
images = np.load(path)
with client.InferenceServerClient(url) as server:
    assert server.is_server_live() and server.is_server_ready() and server.is_model_ready("resnet20")
    assert not server.is_model_ready("other")
    server.get_server_metadata(); server.get_model_metadata("resnet20"); server.get_model_repository_index()
    for binary in (True, False):
        tensor = client.InferInput("image", images.shape, "UINT8")
        tensor.set_data_from_numpy(images, binary_data=binary)
        wanted = client.InferRequestedOutput("logits", binary_data=binary)
        for compression in (None, "gzip", "deflate"):
            answer = server.infer("resnet20", [tensor], outputs=[wanted], request_compression_algorithm=compression)
            if binary:
                np.save(path, answer.as_numpy("logits"))
            else:
                np.testing.assert_allclose(np.load(path), answer.as_numpy("logits"), atol=1e-4)
"""


def test_tritons_http_client_unmodified(server: RunningServer, channel: grpc.Channel, images: Any, tmp_path: Any) -> None:
    np.save(tmp_path / "images.npy", images)
    command = [sys.executable, "-c", SCRIPT, server.http_url.removeprefix("http://"), str(tmp_path / "images.npy")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 0, result.stderr
    np.testing.assert_allclose(np.load(tmp_path / "images.npy"), by_grpc(channel, images), atol=1e-4)
