"""How the client builds requests, without a server."""

from pathlib import Path

import grpc
import numpy as np
import pytest
from resnet_client import ClientError
from resnet_client import messages as module
from resnet_client.messages import classify_requests, infer_requests, read_images
from resnet_proto.classifier_pb2 import ClassifyRequest


def test_images_are_split_by_rows_and_keep_their_order() -> None:
    encoded = [bytes([i]) for i in range(7)]
    requests = classify_requests(encoded, ClassifyRequest(model_name="m", model_version="2", top_k=3), max_rows=3)
    assert [list(request.images) for request in requests] == [encoded[:3], encoded[3:6], encoded[6:]]
    assert {(r.model_name, r.model_version, r.top_k) for r in requests} == {("m", "2", 3)}


def test_images_are_split_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CALL_BYTES", 10)
    requests = classify_requests([bytes(6), bytes(4), bytes(1), bytes(20)], ClassifyRequest(), max_rows=64)
    assert [[len(image) for image in request.images] for request in requests] == [[6, 4], [1], [20]]


def test_tensors_are_split_and_sent_raw() -> None:
    images = np.arange(5 * 2 * 2 * 3, dtype=np.uint8).reshape(5, 2, 2, 3)
    requests = infer_requests(images, "m", "", "", max_rows=2)
    assert [list(r.inputs[0].shape) for r in requests] == [[2, 2, 2, 3], [2, 2, 2, 3], [1, 2, 2, 3]]
    assert b"".join(r.raw_input_contents[0] for r in requests) == images.tobytes()


@pytest.mark.parametrize("images", [np.zeros((1, 2, 2, 3), np.float32), np.zeros((2, 2, 3), np.uint8), np.zeros((0, 2, 2, 3), np.uint8)])
def test_a_wrong_array_is_refused_before_anything_is_sent(images: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> None:
    with pytest.raises(ClientError, match=r"expected uint8 \[n, h, w, 3\]") as error:
        infer_requests(images, "", "", "", 8)
    assert error.value.status is grpc.StatusCode.INVALID_ARGUMENT


def test_missing_files_and_no_images_are_named(tmp_path: Path) -> None:
    with pytest.raises(ClientError, match=r"images: .*nowhere\.png cannot be read: No such file"):
        read_images([tmp_path / "nowhere.png"])
    with pytest.raises(ClientError, match="images: none given"):
        read_images([])
