"""CIFAR-10 (Krizhevsky 2009) as tensors: from an `.npz` pair or from a torchvision folder."""

import hashlib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from resnet_models.augment import crop_and_flip, normalise
from resnet_models.errors import DataError
from resnet_models.labels import CIFAR10_LABELS
from resnet_models.normalisation import Normalisation

NPZ_NAMES = ("cifar10_train.npz", "cifar10_test.npz")
TORCHVISION_FOLDER = "cifar-10-batches-py"
EVALUATION_BATCH = 250
HELD_OUT_SEED = 0  # which images are held out must not depend on the run's seed
Batch = tuple[Tensor, Tensor]


class ImageSource(Protocol):
    """Labelled images that a run trains or is judged on; `rows` is a phrase that says which."""

    @property
    def rows(self) -> str:
        """Which rows of which data."""

    def __len__(self) -> int: ...

    def digest(self) -> str:
        """SHA-256 that is equal if and only if these are the same images in the same order."""

    def training_batches(
        self, order: Tensor, generator: torch.Generator, normalisation: Normalisation, device: torch.device
    ) -> Iterator[Batch]:
        """Normalised, augmented FP32 [batch, 3, h, w] and INT64 [batch] on `device`, for each row of INT64 [steps, batch] indices."""

    def evaluation_batches(self, normalisation: Normalisation) -> Iterator[Batch]:
        """All images in order, normalised and not augmented, FP32 [n, 3, h, w] and INT64 [n], on the CPU."""


class Dataset(Protocol):
    """Both splits, the classes' names, and the shorter side in pixels that images are resized to before they are cropped."""

    @property
    def name(self) -> str:
        """The data set's name."""

    @property
    def train(self) -> ImageSource:
        """What is trained on."""

    @property
    def test(self) -> ImageSource:
        """What is judged on."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes' names, in order."""

    @property
    def resize(self) -> int | None:
        """Shorter side in pixels before the crop; None: none is made."""


@dataclass(frozen=True)
class Images:
    """`x` UINT8 [n, 3, 32, 32] RGB, `y` INT64 [n] class indices, and a phrase that says which rows these are."""

    x: Tensor
    y: Tensor
    rows: str

    def __len__(self) -> int:
        return len(self.y)

    def digest(self) -> str:
        """SHA-256 over shape, pixels and labels: equal if and only if these are the same rows in the same order."""
        digest = hashlib.sha256(f"{tuple(self.x.shape)}".encode())
        digest.update(self.x.contiguous().numpy().data)
        digest.update(self.y.contiguous().numpy().data)
        return digest.hexdigest()

    def training_batches(
        self, order: Tensor, generator: torch.Generator, normalisation: Normalisation, device: torch.device
    ) -> Iterator[Batch]:
        """With the paper's augmentation, done on `device`, where all images live for as long as the iterator."""
        x, y = self.x.to(device), self.y.to(device)
        for rows in order.to(device):
            yield crop_and_flip(normalise(x[rows], normalisation), generator), y[rows]

    def evaluation_batches(self, normalisation: Normalisation) -> Iterator[Batch]:
        """In batches of 250."""
        for x, y in zip(torch.split(self.x, EVALUATION_BATCH), torch.split(self.y, EVALUATION_BATCH), strict=True):
            yield normalise(x, normalisation), y

    def head(self, count: int) -> "Images":
        """The first `count` images."""
        return Images(self.x[:count], self.y[:count], f"first {count} of {self.rows}")


@dataclass(frozen=True)
class Cifar10:
    """Both splits."""

    train: Images
    test: Images
    name: str = "CIFAR-10"
    labels: tuple[str, ...] = CIFAR10_LABELS
    resize: int | None = None

    def holding_out(self, count: int) -> "Cifar10":
        """Train on all but `count` training images and judge on those, so that a recipe is chosen without the test images.

        Raises DataError where nothing would be left to train on.
        """
        total = len(self.train)
        if count >= total:
            raise DataError(f"validation: {count}; expected fewer than the {total} training images")
        order = torch.randperm(total, generator=torch.Generator().manual_seed(HELD_OUT_SEED))
        held, kept = order[:count].sort().values, order[count:].sort().values
        rows = self.train.rows
        train = Images(self.train.x[kept], self.train.y[kept], f"{total - count:,} of {rows}")
        return Cifar10(train, Images(self.train.x[held], self.train.y[held], f"{count:,} held out of {rows}"))


def load_cifar10(folder: Path, *, download: bool = False) -> Cifar10:
    """Load CIFAR-10 from `folder`; raise DataError saying which file is missing or broken.

    The folder holds `cifar10_train.npz` and `cifar10_test.npz` (`x` uint8 [n, 3, 32, 32], `y` uint8 [n] and,
    where some rows are stand-ins, `exact` bool [n]: only exact rows are used) or torchvision's
    `cifar-10-batches-py`, which `download` fetches through torchvision.
    """
    paths = [folder / name for name in NPZ_NAMES]
    if all(path.is_file() for path in paths):
        return Cifar10(_from_npz(paths[0], "training"), _from_npz(paths[1], "test"))
    missing = [path.name for path in paths if not path.is_file()]
    if len(missing) == 1:
        raise DataError(f"data: {folder} lacks {missing[0]}")
    if not download and not (folder / TORCHVISION_FOLDER).is_dir():
        raise DataError(f"data: {folder} has neither {' and '.join(NPZ_NAMES)} nor {TORCHVISION_FOLDER}/; --download fetches the latter")
    return Cifar10(_from_torchvision(folder, True, download), _from_torchvision(folder, False, download))


def _from_npz(path: Path, split: str) -> Images:
    try:
        with np.load(path) as file:
            x, y = file["x"], file["y"]
            exact = file["exact"] if "exact" in file else np.ones(len(y), bool)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"data: {path} is truncated or not a CIFAR-10 .npz: {error}") from None
    if x.dtype != np.uint8 or x.ndim != 4 or x.shape[1:] != (3, 32, 32) or len(x) != len(y) or len(y) == 0:
        raise DataError(f"data: {path} holds x {x.dtype}{list(x.shape)} and y {list(y.shape)}; expected uint8 [n, 3, 32, 32] and [n]")
    if int(y.max()) > 9:
        raise DataError(f"data: {path} has a label {int(y.max())}; expected 0..9")
    rows = f"{int(exact.sum()):,} pixel-exact CIFAR-10 {split} images" if not exact.all() else f"{len(y):,} CIFAR-10 {split} images"
    return Images(torch.from_numpy(x[exact]), torch.from_numpy(y[exact]).long(), rows)


def _from_torchvision(folder: Path, train: bool, download: bool) -> Images:
    from torchvision.datasets import CIFAR10  # a second to import, and only this path needs it

    try:
        data = CIFAR10(str(folder), train=train, download=download)
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise DataError(f"data: {folder / TORCHVISION_FOLDER} cannot be used: {error}") from None
    x = torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous()
    return Images(x, torch.tensor(data.targets), f"{len(x):,} CIFAR-10 {'training' if train else 'test'} images")
