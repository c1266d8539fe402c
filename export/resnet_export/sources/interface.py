"""What every origin gives, and what the command line may say in addition."""

import math
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from resnet_models.checkpoint import CheckpointInfo, Exportable
from resnet_models.labels import read_labels
from resnet_models.normalisation import Normalisation, Triple
from resnet_proto.manifest import INTERPOLATIONS

from resnet_export.errors import ExportError

COLOUR_ORDERS = ("RGB", "BGR")


@dataclass(frozen=True)
class Source:
    """A network with its facts and reference, the file whose digest names it, and what the user should know."""

    checkpoint: Exportable
    file: Path
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes what a network takes.

    The shorter side is resized to `resize` pixels (None: `size`), or with `squash` both sides are, and the centre of `size` x `size`
    is cropped; then a pixel p of channel c becomes (p / 255 - mean[c]) / std[c], channels in `colour_order`.
    `crop_rounding` of half an odd margin: to even, as torchvision does, or "down", as transformers does.
    """

    mean: Triple
    std: Triple
    size: int = 224
    resize: int | None = None
    interpolation: str = "bilinear"
    squash: bool = False
    antialias: bool = True
    colour_order: str = "RGB"
    crop_rounding: str = ""

    def __post_init__(self) -> None:
        check_normalisation(self.mean, self.std)
        if self.interpolation not in INTERPOLATIONS:
            raise ExportError(f"interpolation: '{self.interpolation}'; expected one of {', '.join(INTERPOLATIONS)}")
        if self.colour_order not in COLOUR_ORDERS:
            raise ExportError(f"colour_order: '{self.colour_order}'; expected RGB or BGR")
        if self.size < 1 or (self.resize is not None and self.resize < 1):
            raise ExportError(f"size: {self.size}, resize: {self.resize}; expected pixels, at least 1")

    def facts(self) -> dict[str, Any]:
        """The fields of a `CheckpointInfo`."""
        stated = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in ("mean", "std", "size")}
        normalisation = Normalisation(tuple(map(float, self.mean)), tuple(map(float, self.std)))
        return stated | {"input_size": self.size, "normalisation": normalisation, "channels": len(self.mean)}


def check_normalisation(mean: Triple, std: Triple) -> None:
    """Raise ExportError unless both are finite, of one length, and every standard deviation is positive."""
    if len(mean) != len(std) or not mean:
        raise ExportError(f"mean has {len(mean)} numbers and std {len(std)}; expected one of each for every channel")
    if not all(math.isfinite(value) for value in (*mean, *std)) or min(std) <= 0:
        raise ExportError(f"mean {mean}, std {std}; expected finite numbers on the scale 0..1, std above 0")


@dataclass(frozen=True)
class Given:
    """What the command line says; None leaves a fact to the source, or to what its kind of network usually has."""

    variant: str | None = None
    mean: Triple | None = None
    std: Triple | None = None
    labels: Path | None = None
    weights: str | None = None
    size: int | None = None
    resize: int | None = None
    interpolation: str | None = None
    squash: bool | None = None
    antialias: bool | None = None
    colour_order: str | None = None
    multi_label: bool | None = None
    model: str | None = field(default=None)

    def stated(self) -> dict[str, object]:
        """The options that were given, by the names people type."""
        named = {f"--{item.name.replace('_', '-')}": getattr(self, item.name) for item in fields(self)}
        return {option: value for option, value in named.items() if value is not None}

    def refuse(self, *names: str, because: str) -> None:
        """Raise ExportError if one of the options was given, so that none is ignored silently."""
        if useless := [option for option in self.stated() if option.removeprefix("--").replace("-", "_") in names]:
            raise ExportError(f"{', '.join(useless)}: {because}")

    def over(self, info: CheckpointInfo) -> CheckpointInfo:
        """The source's facts with those given here in their place."""
        mean, std = self.mean or info.normalisation.mean, self.std or info.normalisation.std
        check_normalisation(mean, std)
        if len(mean) != info.channels:
            raise ExportError(f"mean: {len(mean)} numbers; the network takes {info.channels} channels")
        size = self.size or info.input_size
        facts: dict[str, Any] = {"normalisation": Normalisation(mean, std), "input_size": size}
        if self.size is not None and self.resize is None and info.resize is not None:
            facts["resize"] = max(size, round(info.resize * size / info.input_size))
        for name in ("resize", "interpolation", "squash", "antialias", "colour_order", "multi_label"):
            if getattr(self, name) is not None:
                facts[name] = getattr(self, name)
        if self.labels is not None:
            facts["labels"] = labels_for(self.labels, info.classes)
        return replace(info, **facts)


def labels_for(path: Path, classes: int) -> tuple[str, ...]:
    """Read labels; raise ExportError unless there is one for each class."""
    labels = read_labels(path)
    if len(labels) != classes:
        raise ExportError(f"labels: {path.name} holds {len(labels)}; the network has {classes} classes")
    return labels


def missing(path: Path, given: Given, needed: tuple[str, ...], classes: int) -> None:
    """Raise ExportError naming the facts that a file does not say and nobody gave."""
    lacking = [f"--{name.replace('_', '-')}" for name in needed if getattr(given, name) is None]
    if lacking:
        raise ExportError(f"checkpoint: {path.name} has {classes} classes and does not say {', '.join(lacking)}; give these options")
