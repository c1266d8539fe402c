"""A folder of photographs as training data: `train/CLASS/*` and `val/CLASS/*`, as ImageNet is usually laid out."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from resnet_models.augment import normalise
from resnet_models.data import Batch
from resnet_models.errors import DataError
from resnet_models.normalisation import Normalisation

EVALUATION_BATCH = 64
FEW = 2_000  # images, up to which starting reader processes takes longer than reading
READERS = 8
RESIZE = 256 / 224  # of the crop's size, for the shorter side: the paper's and torchvision's test-time resize


@dataclass(frozen=True)
class Photographs:
    """One split: `files` relative to `root` with their classes' indices; `size` of the square that networks see, in pixels."""

    root: Path
    files: tuple[tuple[str, int], ...]
    size: int

    @property
    def rows(self) -> str:
        """How many, and of which folder."""
        return f"{len(self.files):,} images of {self.root.parent.name}/{self.root.name}"

    def __len__(self) -> int:
        return len(self.files)

    def digest(self) -> str:
        """SHA-256 over names, classes and sizes in bytes, in order; not over the content, which would read the whole set."""
        digest = hashlib.sha256()
        for name, label in self.files:
            digest.update(f"{name}\0{label}\0{(self.root / name).stat().st_size}\n".encode())
        return digest.hexdigest()

    def training_batches(
        self, order: Tensor, generator: torch.Generator, normalisation: Normalisation, device: torch.device
    ) -> Iterator[Batch]:
        """Random crops of 8 to 100 % of the area and flips (Szegedy et al., arXiv 1409.4842, section 6), each from a seed of its own.

        The seeds come from `generator`, so that a resumed run sees the same crops whatever process reads them.
        """
        seeds = torch.randint(0, 2**62, order.shape, generator=generator)
        chosen = [list(zip(rows, drawn, strict=True)) for rows, drawn in zip(order.tolist(), seeds.tolist(), strict=True)]
        for x, y in _loader(_Augmented(self), batch_sampler=chosen):
            yield normalise(x.to(device), normalisation), y.to(device)

    def evaluation_batches(self, normalisation: Normalisation) -> Iterator[Batch]:
        """The centre of each image whose shorter side was resized."""
        for x, y in _loader(_Centred(self), batch_size=EVALUATION_BATCH):
            yield normalise(x, normalisation), y


@dataclass(frozen=True)
class ImageFolders:
    """Both splits of a folder; labels are the names of the class folders."""

    train: Photographs
    test: Photographs
    name: str
    labels: tuple[str, ...]
    resize: int | None


def load_image_folder(folder: Path, size: int) -> ImageFolders:
    """List `folder`; raise DataError where train/ or val/ is missing or empty, or their classes differ."""
    splits = {name: _list(folder / name) for name in ("train", "val")}
    train, val = splits["train"], splits["val"]
    if train.classes != val.classes:
        odd = sorted(set(train.classes) ^ set(val.classes))[0]
        raise DataError(f"data: class '{odd[:60]}' is in only one of {folder / 'train'} and {folder / 'val'}")
    photographs = {
        name: Photographs(
            folder / name, tuple((Path(path).relative_to(folder / name).as_posix(), label) for path, label in found.samples), size
        )
        for name, found in splits.items()
    }
    return ImageFolders(photographs["train"], photographs["val"], folder.resolve().name, tuple(train.classes), round(size * RESIZE))


def _list(folder: Path) -> Any:
    try:
        return ImageFolder(str(folder))
    except (FileNotFoundError, NotADirectoryError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"data: {folder} is no folder with a folder of images for each class: {reason}") from None


def _loader(dataset: Any, **options: Any) -> Iterator[Batch]:  # a dataset of single images; the loader stacks them
    readers = 0 if len(dataset) <= FEW else min(READERS, os.cpu_count() or 1)
    context = "spawn" if readers else None  # forking a process that has threads may hang the child
    return iter(DataLoader(dataset, num_workers=readers, multiprocessing_context=context, **options))


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise DataError(f"data: {path} is no image that can be read: {error}") from None


class _Augmented(Dataset[tuple[Tensor, int]]):
    """Indexed by (row, seed)."""

    def __init__(self, photographs: Photographs) -> None:
        self.photographs = photographs
        self.transform = v2.Compose([v2.RandomResizedCrop(photographs.size, antialias=True), v2.RandomHorizontalFlip(), v2.PILToTensor()])

    def __len__(self) -> int:
        return len(self.photographs)

    def __getitem__(self, index: tuple[int, int]) -> tuple[Tensor, int]:
        row, seed = index
        name, label = self.photographs.files[row]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.transform(_open(self.photographs.root / name)), label


class _Centred(Dataset[tuple[Tensor, int]]):
    """Indexed by row."""

    def __init__(self, photographs: Photographs) -> None:
        self.photographs = photographs
        size = photographs.size
        self.transform = v2.Compose([v2.Resize(round(size * RESIZE), antialias=True), v2.CenterCrop(size), v2.PILToTensor()])

    def __len__(self) -> int:
        return len(self.photographs)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        name, label = self.photographs.files[row]
        return self.transform(_open(self.photographs.root / name)), label
