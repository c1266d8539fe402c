"""The server's choice among certified precisions, and what it does when a certificate does not hold here."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import grpc
import numpy as np
import pytest
from resnet_client import Client, ClientError
from resnet_models.sample import load_sample
from resnet_proto import open_inference_pb2 as pb
from resnet_proto.certificate import seal
from resnet_proto.manifest import read_manifest, sha256_file, write_manifest
from resnet_proto.open_inference_pb2_grpc import GRPCInferenceServiceStub
from serving import running_server


@pytest.fixture
def own_precise(precise_repository: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(precise_repository, tmp_path / "repository"))


def metadata(url: str) -> pb.ModelMetadataResponse:
    with grpc.insecure_channel(url) as channel:
        return GRPCInferenceServiceStub(channel).ModelMetadata(pb.ModelMetadataRequest(name="resnet20"))


def test_auto_takes_the_fastest_and_says_so(precise_repository: Path, tmp_path: Path) -> None:
    with running_server(precise_repository, tmp_path / "log") as server, Client(server.url) as client:
        (info,) = client.models()
        log = server.log.read_text()
        assert "resnet20 version 1: plan, measured now" in log
        assert re.search(rf"\* \d+ x \d+ in {info.precision} on ONNX Runtime: [\d,]+ images/s in batches of", log)
        assert f"the certificate holds here: {info.precision} on 128 images" in log
        properties = metadata(server.url).properties
        assert properties["precision"] == info.precision
        assert properties["certificate"] == info.certificate_id
        assert properties["replay_images"] == "128"
        assert float(properties["replay_seconds"]) > 0
        assert float(properties["replay_top1_agreement"]) >= 0.9


def test_a_request_chooses_among_the_precisions_that_are_loaded(precise_repository: Path, tmp_path: Path) -> None:
    images = load_sample().images[:64]
    with running_server(precise_repository, tmp_path / "log", "--precision", "int8,fp32") as server, Client(server.url) as client:
        by_precision = {precision: client.infer(images, precision=precision) for precision in ("", "int8", "fp32")}
        np.testing.assert_array_equal(by_precision[""], by_precision["int8"])
        difference = np.abs(by_precision["int8"] - by_precision["fp32"]).max()
        assert 1e-3 < difference < 3
        with pytest.raises(ClientError, match="precision: 'fp16' of model 'resnet20' is not loaded; loaded: ") as error:
            client.infer(images, precision="fp16")
        assert error.value.status is grpc.StatusCode.INVALID_ARGUMENT


def test_where_the_fastest_does_not_hold_the_next_one_is_served(own_precise: Path, tmp_path: Path) -> None:
    (own_precise / "resnet20" / "1" / "model.int8.onnx").write_bytes(b"tampered")
    with running_server(own_precise, tmp_path / "log") as server, Client(server.url) as client:
        assert client.models()[0].precision in ("fp16", "fp32")


def shift_the_reference(version: Path) -> None:
    """As on a machine whose arithmetic differs: the stored logits are not what the file computes here."""
    manifest = read_manifest(version)
    with np.load(version / "replay.npz") as file:
        arrays = dict(file)
    arrays["logits"][17, 3] += 0.5
    np.savez_compressed(version / "replay.npz", **arrays)
    manifest.replay.sha256 = sha256_file(version / "replay.npz")
    write_manifest(version, manifest)


def test_a_certificate_that_does_not_hold_here_is_refused_naming_the_image(own_precise: Path, tmp_path: Path) -> None:
    shift_the_reference(own_precise / "resnet20" / "1")
    with running_server(own_precise, tmp_path / "log", "--precision", "int8") as server:
        assert metadata(server.url).properties["precision"] == "int8"
    second = Path(shutil.copytree(own_precise / "resnet20", own_precise / "other"))
    manifest = read_manifest(second / "1")
    manifest.name = "other"
    write_manifest(second / "1", manifest)
    shutil.rmtree(own_precise / "resnet20")
    shutil.copytree(second, own_precise / "again")
    manifest.name = "again"
    del manifest.artifacts[1:]
    write_manifest(own_precise / "again" / "1", manifest)
    with running_server(own_precise, tmp_path / "log") as server, Client(server.url) as client:
        states = {info.name: info for info in client.models()}
        assert states["other"].ready
        assert not states["again"].ready
        refused = r"replay: at batch \d+ image 17 differs by 0\.5 in a logit; policy strict allows 0\.000\d+"
        assert re.search(refused, states["again"].reason)  # which batch sizes there are is the plan's


def test_a_certificate_that_fails_its_own_policy_is_refused(own_precise: Path, tmp_path: Path) -> None:
    version = own_precise / "resnet20" / "1"
    manifest = read_manifest(version)
    manifest.artifacts[0].certificate.max_abs_error = 1.0
    seal(manifest.artifacts[0].certificate)
    del manifest.artifacts[2:]
    write_manifest(version, manifest)
    with running_server(own_precise, tmp_path / "log") as server, Client(server.url) as client:
        assert client.models()[0].precision == "fp16"
        assert "fails its own policy strict" in server.log.read_text()


def test_a_certificate_of_another_file_is_refused(own_precise: Path, tmp_path: Path) -> None:
    version = own_precise / "resnet20" / "1"
    text = json.loads((version / "manifest.json").read_text())
    fp32, fp16, _ = text["artifacts"]
    fp32["certificate"] = fp16["certificate"]
    text["artifacts"] = [fp32, fp16]
    data = json.dumps(text).encode()
    (version / "manifest.json").write_bytes(data)
    (version / "manifest.sha256").write_text(f"{hashlib.sha256(data).hexdigest()}  manifest.json\n")
    with running_server(own_precise, tmp_path / "log") as server:
        assert metadata(server.url).properties["precision"] == "fp16"
        assert "the certificate was made for another file" in server.log.read_text()
