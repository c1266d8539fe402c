"""A folder of photographs: what is read, what is said of a folder that is none, and a network trained on one."""

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from resnet_models.checkpoint import load_checkpoint
from resnet_models.cli import main
from resnet_models.errors import DataError
from resnet_models.folder import load_image_folder
from resnet_models.normalisation import IMAGENET


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes, 4 images to train on and 2 to judge on each, of odd sizes and modes."""
    random = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for label, colour in (("cat", 40), ("dog", 200)):
            (tmp_path / "photos" / split / label).mkdir(parents=True)
            for index in range(count):
                pixels = random.integers(0, 50, (90 + 30 * index, 120, 3), dtype=np.uint8) + np.uint8(colour - 25)
                image = Image.fromarray(pixels)
                image.convert("L" if index == 1 else "RGB").save(tmp_path / "photos" / split / label / f"{index}.png")
    return tmp_path / "photos"


def test_classes_are_folders_and_images_are_of_the_networks_size(folder: Path) -> None:
    found = load_image_folder(folder, 64)
    assert (found.labels, found.resize, found.name) == (("cat", "dog"), 73, "photos")
    assert (len(found.train), found.test.rows) == (8, "4 images of photos/val")
    ((x, y),) = list(found.test.evaluation_batches(IMAGENET))
    assert (tuple(x.shape), y.tolist()) == ((4, 3, 64, 64), [0, 0, 1, 1])
    assert float(x[:2].mean()) < float(x[2:].mean())


def test_crops_are_of_the_generator_and_of_nothing_else(folder: Path) -> None:
    train = load_image_folder(folder, 32).train
    order = torch.tensor([[0, 5], [7, 2]])

    def batches(seed: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        torch.rand(3)  # what others draw must not matter
        return list(train.training_batches(order, torch.Generator().manual_seed(seed), IMAGENET, torch.device("cpu")))

    first, second, other = batches(1), batches(1), batches(2)
    assert [y.tolist() for _, y in first] == [[0, 1], [1, 0]]
    assert all(torch.equal(one[0], two[0]) for one, two in zip(first, second, strict=True))
    assert not torch.equal(first[0][0], other[0][0])


def test_a_changed_file_is_another_set(folder: Path) -> None:
    before = load_image_folder(folder, 32).train.digest()
    assert load_image_folder(folder, 32).train.digest() == before
    Image.new("RGB", (300, 200), "red").save(folder / "train" / "cat" / "0.png")
    assert load_image_folder(folder, 32).train.digest() != before


def test_what_is_missing_or_damaged_is_named(folder: Path) -> None:
    (folder / "val" / "dog").rename(folder / "val" / "wolf")
    with pytest.raises(DataError, match="class 'dog' is in only one of"):
        load_image_folder(folder, 32)
    (folder / "val" / "wolf").rename(folder / "val" / "dog")
    (folder / "val" / "dog" / "0.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"dog/0\.png is no image that can be read"):
        list(load_image_folder(folder, 32).test.evaluation_batches(IMAGENET))
    with pytest.raises(DataError, match="is no folder with a folder of images for each class"):
        load_image_folder(folder / "train" / "cat", 32)


@pytest.mark.parametrize("name", ["resnet18", "plain18"])
def test_a_network_for_photographs_is_trained_on_a_folder(name: str, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    arguments = ["fit", name, "--data", str(folder), "--epochs", "1", "--batch", "4", "--out", str(out), "--threads", "1"]
    result = CliRunner().invoke(main, arguments, env={"RESNET_TRAIN_PRECISION": "fp32"})
    assert result.exit_code == 0, result.output
    info = load_checkpoint(out).info
    assert (info.labels, info.resize, info.normalisation, info.recipe) == (("cat", "dog"), 256, IMAGENET, "imagenet --batch 4")
    assert info.training is not None
    assert info.training.dataset == "photos"
