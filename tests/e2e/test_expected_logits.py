"""`--expect logits.npz`: what the owner's code computed is what the certificate, the replay and the server are held to."""

from pathlib import Path

import numpy as np
import others
import pytest
import torch
from click.testing import CliRunner
from in_process import running_app
from networks import logits_of, seeded
from numpy.typing import NDArray
from photographs import photograph
from resnet_client import Client
from resnet_export.cli import main
from resnet_models.normalisation import IMAGENET
from resnet_proto.manifest import read_manifest, sha256_file
from resnet_proto.manifest_pb2 import Manifest
from torch import nn
from torchvision.transforms import CenterCrop, Resize

PICTURES = 20
SIZE, RESIZED = 64, 73


def pixels() -> NDArray[np.uint8]:
    """UINT8 [n, h, w, 3] as the owner's code makes them of the photographs."""
    return np.stack([np.asarray(CenterCrop(SIZE)(Resize(RESIZED)(photograph(index)))) for index in range(PICTURES)])


def owners(network: nn.Module, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the owner's code computes."""
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (IMAGENET.mean, IMAGENET.std))
    normalised = (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - mean) / std
    return np.asarray(logits_of(network, normalised).numpy())


def published(folder: Path, network: nn.Module, expected: Path, *more: str) -> tuple[int, str]:
    """Publish the weights of a network, held to the owner's logits."""
    torch.save(network.state_dict(), folder / "weights.pth")
    (folder / "labels.txt").write_text("".join(f"label {index}\n" for index in range(others.CLASSES)))
    options = ["--labels", str(folder / "labels.txt"), "--size", str(SIZE), "--resize", str(RESIZED), "--expect", str(expected), *more]
    arguments = ["publish", str(folder / "weights.pth"), "--repository", str(folder / "repository"), "--name", "mine", "--no-profile"]
    result = CliRunner().invoke(main, [*arguments, "--precision", "fp32", *options])
    return result.exit_code, result.output


def files_and_logits(folder: Path, network: nn.Module) -> Path:
    """The owner's file: names of photographs beside it, and logits."""
    for index in range(PICTURES):
        photograph(index).save(folder / f"{index}.png")
    names = [f"{index}.png" for index in range(PICTURES)]
    np.savez(folder / "logits.npz", files=names, logits=owners(network, pixels()))
    return folder / "logits.npz"


def test_the_owners_logits_are_what_is_certified_replayed_and_served(tmp_path: Path) -> None:
    network = seeded(others.plain())
    expected = files_and_logits(tmp_path, network)
    status, output = published(tmp_path, network, expected, "--copy-images")
    assert status == 0, output
    version = tmp_path / "repository" / "mine" / "1"
    manifest: Manifest = read_manifest(version)
    (artifact,) = manifest.artifacts
    certificate = artifact.certificate
    assert (certificate.reference, certificate.images) == ("logits of the owner's code", PICTURES)
    assert certificate.images_source == f"{PICTURES} images of logits.npz, with the logits of their owner's code"
    assert (manifest.source.checkpoint_sha256, manifest.source.checkpoint_file) == (sha256_file(tmp_path / "weights.pth"), "weights.pth")
    assert manifest.replay.generated_images is False  # copied, since that was asked for
    wanted = owners(network, pixels())
    with running_app(tmp_path / "repository", tmp_path / "plans") as app, Client(app.grpc_address) as client:
        (info,) = client.models()
        assert (info.ready, info.certificate_id) == (True, certificate.id)  # the replay held
        answers = client.classify([tmp_path / f"{index}.png" for index in range(PICTURES)], top_k=others.CLASSES)
        raw = client.infer(pixels())
    encoded = np.array([[one.logit for one in sorted(answer.labels, key=lambda one: one.index)] for answer in answers])
    for found in (raw, encoded):
        np.testing.assert_allclose(found, wanted, atol=1e-3 * float(wanted.std()))


@pytest.mark.parametrize("other", ["ceil_mode", "smooth", "other_epsilon"])
def test_weights_of_another_network_are_not_published_against_the_owners_logits(other: str, tmp_path: Path) -> None:
    network = getattr(others, other)()
    expected = files_and_logits(tmp_path, network)
    status, output = published(tmp_path, network, expected)
    assert status == 1
    assert "fails policy strict" in output
    assert not (tmp_path / "repository" / "mine").exists()


def test_other_preprocessing_than_the_owners_is_not_published(tmp_path: Path) -> None:
    network = seeded(others.plain())
    expected = files_and_logits(tmp_path, network)
    status, output = published(tmp_path, network, expected, "--interpolation", "bicubic")
    assert status == 1
    assert "fails policy strict: max absolute logit error" in output
