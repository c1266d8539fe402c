"""Checkpoints: what is written is read, and what does not fit is said."""

import errno
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from resnet_models.checkpoint import CheckpointInfo, Epoch, load_checkpoint, load_state, save_checkpoint
from resnet_models.errors import CheckpointError
from resnet_models.files import write_atomically
from resnet_models.labels import CIFAR10_LABELS
from resnet_models.network import build
from resnet_models.normalisation import CIFAR10
from safetensors.torch import load_file, save_file

INFO = CheckpointInfo("resnet20", CIFAR10_LABELS, CIFAR10, 32, accuracy=91.5, seed=3, curve=(Epoch(1, 2.0, 70.0, 65.0),))


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    network = build("resnet20")
    save_checkpoint(tmp_path / "a.safetensors", network, INFO)
    loaded = load_checkpoint(tmp_path / "a.safetensors")
    assert loaded.info == INFO
    assert not loaded.network.training
    for key, value in network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[key], value)


def test_every_key_that_does_not_fit_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, build("resnet20"), INFO)
    state = load_file(path)
    state["extra"] = torch.zeros(1)
    del state["fc.bias"]
    state["conv1.weight"] = torch.zeros(8, 3, 3, 3)
    with pytest.raises(CheckpointError) as error:
        load_state(build("resnet20"), state, path)
    text = str(error.value)
    assert "missing fc.bias" in text
    assert "unexpected extra" in text
    assert "conv1.weight has shape [8, 3, 3, 3], expected [16, 3, 3, 3]" in text


def test_a_checkpoint_of_another_variant_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, build("resnet20"), replace(INFO, variant="resnet32"))
    with pytest.raises(CheckpointError, match=r"does not fit resnet32: missing layer1\.3\.conv1\.weight"):
        load_checkpoint(path)


@pytest.mark.parametrize("damage", ["truncated", "foreign", "absent"])
def test_a_file_that_is_no_checkpoint_is_refused(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, build("resnet20"), INFO)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "foreign":
        save_file({"weight": torch.zeros(1)}, path)
    else:
        path.unlink()
    with pytest.raises(CheckpointError, match=r"checkpoint: .*a\.safetensors"):
        load_checkpoint(path)


def test_a_full_disk_leaves_the_previous_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"previous")

    def fill_the_disk(temporary: Path) -> None:
        temporary.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, fill_the_disk)
    assert path.read_bytes() == b"previous"
    assert list(tmp_path.iterdir()) == [path]


def test_the_committed_network_says_what_it_is(pretrained: Path) -> None:
    info = load_checkpoint(pretrained).info
    assert info.accuracy is not None
    assert info.accuracy >= 91.0
    assert info.accuracy_images == "9,980 pixel-exact CIFAR-10 test images"
    assert len(info.git_revision) == 40
    assert len(info.curve) == info.epochs
