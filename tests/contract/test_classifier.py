"""resnet.v1.Classifier over a real socket: labels for encoded images, and a clear refusal of what is not one."""

import csv
import io
import struct
import zlib
from pathlib import Path

import grpc
import numpy as np
import pytest
from PIL import Image
from resnet_models.sample import load_sample
from resnet_proto import classifier_pb2 as pb
from resnet_proto.classifier_pb2_grpc import ClassifierStub


@pytest.fixture
def stub(channel: grpc.Channel) -> ClassifierStub:
    return ClassifierStub(channel)


def encode(index: int, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(load_sample().images[index]).save(buffer, kind, **options)
    return buffer.getvalue()


def bomb(side: int) -> bytes:
    """A PNG of a few bytes that claims side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def refusal(stub: ClassifierStub, request: pb.ClassifyRequest) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as error:
        stub.Classify(request)
    return error.value.code(), error.value.details() or ""


def test_each_image_gets_its_own_labels_and_the_call_says_how_it_was_computed(stub: ClassifierStub) -> None:
    sample = load_sample()
    response = stub.Classify(pb.ClassifyRequest(images=[encode(i) for i in range(20)], top_k=10))
    right = [result.labels[0].index == sample.labels[i] for i, result in enumerate(response.results)]
    assert len(right) == 20
    assert sum(right) >= 16
    for result in response.results:
        probabilities = [label.probability for label in result.labels]
        assert sum(probabilities) == pytest.approx(1, abs=1e-4)
        assert probabilities == sorted(probabilities, reverse=True)
    execution = response.execution
    assert (response.model_name, response.model_version, execution.provider) == ("resnet20", "1", "CPUExecutionProvider")
    assert 1 <= execution.batch_rows <= 20
    assert execution.compute_seconds > 0
    assert execution.decode_seconds > 0
    assert execution.queue_seconds >= 0
    assert len(execution.certificate_id) == 64


def test_a_call_with_a_deadline_is_decoded_and_answered_within_it(stub: ClassifierStub) -> None:
    (result,) = stub.Classify(pb.ClassifyRequest(images=[encode(0)]), timeout=30).results
    assert result.labels


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(orientation: int, stub: ClassifierStub) -> None:
    upright = Image.fromarray(load_sample().images[1])
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    stored.save(buffer, "PNG", exif=exif)
    plain, rotated = stub.Classify(pb.ClassifyRequest(images=[encode(1), buffer.getvalue()])).results
    assert [label.logit for label in rotated.labels] == pytest.approx([label.logit for label in plain.labels], abs=1e-4)


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {"quality": 95}), ("WEBP", {"lossless": True})])
def test_other_formats(kind: str, options: dict[str, object], stub: ClassifierStub) -> None:
    plain, other = stub.Classify(pb.ClassifyRequest(images=[encode(1), encode(1, kind, **options)])).results
    assert other.labels[0].index == plain.labels[0].index


def test_a_larger_image_is_resized_and_its_centre_cropped(stub: ClassifierStub) -> None:
    image = Image.fromarray(load_sample().images[1]).resize((64, 64), Image.Resampling.BICUBIC)
    wide = Image.new("RGB", (192, 64))
    wide.paste(image, (64, 0))
    buffer = io.BytesIO()
    wide.save(buffer, "PNG")
    plain, cropped = stub.Classify(pb.ClassifyRequest(images=[encode(1), buffer.getvalue()])).results
    assert cropped.labels[0].index == plain.labels[0].index


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1", "CMYK", "I;16"])
def test_every_pixel_mode_is_taken(mode: str, stub: ClassifierStub) -> None:
    colour = Image.fromarray(load_sample().images[1])
    deep = Image.fromarray(np.asarray(colour.convert("L"), np.uint16) * 257)
    image = deep if mode == "I;16" else colour.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG" if mode == "CMYK" else "PNG")
    grey = io.BytesIO()
    Image.fromarray(load_sample().images[1]).convert("L").save(grey, "PNG")
    as_grey, result = stub.Classify(pb.ClassifyRequest(images=[grey.getvalue(), buffer.getvalue()])).results
    assert len(result.labels) == 5
    if mode in ("L", "LA", "I;16"):
        assert [label.logit for label in result.labels] == pytest.approx([label.logit for label in as_grey.labels], abs=1e-4)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "images[1]: 0 bytes cannot be decoded"),
        (b"not an image", "images[1]: 12 bytes cannot be decoded"),
        (encode(0)[:200], "cannot be decoded"),
        (b"GIF89a" + bytes(20), "expected JPEG, PNG or WebP"),
        (bomb(60_000), "images[1]: 60000x60000 pixels; expected at most 50000000"),
    ],
)
def test_what_is_no_image_is_refused_by_its_position(data: bytes, message: str, stub: ClassifierStub) -> None:
    code, details = refusal(stub, pb.ClassifyRequest(images=[encode(0), data]))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert message in details
    assert stub.Classify(pb.ClassifyRequest(images=[encode(0)])).results


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (pb.ClassifyRequest(), grpc.StatusCode.INVALID_ARGUMENT, "images: 0 given; expected 1 to 64"),
        (pb.ClassifyRequest(images=[encode(0)] * 65), grpc.StatusCode.INVALID_ARGUMENT, "images: 65 given; expected 1 to 64"),
        (
            pb.ClassifyRequest(images=[encode(0)], top_k=11),
            grpc.StatusCode.INVALID_ARGUMENT,
            "top_k: 11; expected at most 10, the number of classes",
        ),
        (
            pb.ClassifyRequest(images=[encode(0)], model_name="x"),
            grpc.StatusCode.NOT_FOUND,
            "model_name: 'x' is unknown; served: resnet20",
        ),
    ],
)
def test_a_wrong_request_is_refused(request_: pb.ClassifyRequest, code: grpc.StatusCode, message: str, stub: ClassifierStub) -> None:
    assert refusal(stub, request_) == (code, message)


def test_models_are_listed_with_their_manifest(stub: ClassifierStub) -> None:
    (model,) = stub.ListModels(pb.ListModelsRequest()).models
    assert (model.name, model.version, model.state, model.precision) == ("resnet20", "1", pb.ServedModel.STATE_READY, "fp32")
    assert model.manifest.network.parameters == 269_722
    assert model.max_batch_rows == 64


def test_hostile_images_never_hurt_the_server(stub: ClassifierStub, shared: Path) -> None:
    good = encode(0)
    with (shared / "images" / "index.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert len(rows) > 80
    for row in rows:
        name = row["file"]
        request = pb.ClassifyRequest(images=[(shared / "images" / name).read_bytes()])
        if row["pillow"] == "ok" and row["format"] in ("JPEG", "PNG", "WEBP") and int(row["width"]) * int(row["height"]) <= 50_000_000:
            assert len(stub.Classify(request).results) == 1, name
        else:
            code, details = refusal(stub, request)
            assert code is grpc.StatusCode.INVALID_ARGUMENT, (name, details)
            assert details.startswith("images[0]: "), (name, details)
        assert stub.Classify(pb.ClassifyRequest(images=[good])).results
