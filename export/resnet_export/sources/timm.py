"""timm: a folder in the Hub's layout, or `timm:NAME`. Architecture, size, crop, normalisation and labels are in its configuration."""

import math
from pathlib import Path
from typing import Any

import torch
from resnet_models.checkpoint import CheckpointInfo, Exportable
from resnet_models.errors import CheckpointError
from resnet_models.foreign import build_network, find_weights
from resnet_models.network import ResNet
from resnet_models.variants import VARIANTS
from torch import nn
from torchvision.models._meta import _IMAGENET_CATEGORIES

from resnet_export.errors import ExportError
from resnet_export.sources.hub_folder import CONFIG, download, library, read_json, read_tensors, weights_file
from resnet_export.sources.interface import Given, Preprocessing, Source, labels_for, missing
from resnet_export.sources.settling import settle

PREFIX = "timm:"


def is_timm(config: dict[str, Any]) -> bool:
    """Whether timm wrote a config.json."""
    return isinstance(config.get("architecture"), str)


def read_named(text: str, given: Given) -> Source:
    """`timm:NAME`, such as `timm:resnet50.a1_in1k`."""
    name = text.removeprefix(PREFIX)
    return read_folder(download(name if "/" in name else f"timm/{name}", text), given)


def read_folder(folder: Path, given: Given) -> Source:
    """Read config.json and weights; raise ExportError for an architecture that neither this project nor an installed timm has."""
    given.refuse("variant", "weights", "model", because=f"{folder.name}/{CONFIG} says the architecture")
    config = read_json(folder / CONFIG)
    stated = {**config, **config.get("pretrained_cfg", {})}
    path, architecture = weights_file(folder), config["architecture"]
    tensors = read_tensors(path)
    classes = int(config.get("num_classes", stated.get("num_classes", 1000)))
    info = given.over(_facts(folder, given, architecture, classes, stated))
    ours, notes = _ours(path, tensors, architecture)
    theirs = _theirs(architecture, tensors, classes, info.channels, config.get("model_args") or {})
    if theirs is not None:
        checkpoint, told = settle(ours, theirs, info, f"timm's {architecture}")
        return Source(checkpoint, path, (*notes, *told))
    if ours is None or config.get("model_args"):
        raise ExportError(f"checkpoint: {architecture} of {folder.name} is not in the table; `pip install timm` and publish again")
    return Source(Exportable(ours, info), path, (*notes, "timm is not installed: the certificate compares with our definition"))


def _facts(folder: Path, given: Given, architecture: str, classes: int, stated: dict[str, Any]) -> CheckpointInfo:
    channels, height, width = stated.get("input_size", (3, 224, 224))
    if height != width:
        raise ExportError(f"checkpoint: {folder.name} takes {height}x{width} pixels; expected a square")
    crop, mode = float(stated.get("crop_pct") or 0.875), stated.get("crop_mode") or "center"
    if mode not in ("center", "squash"):
        raise ExportError(f"checkpoint: {folder.name} has crop_mode '{mode}'; expected center or squash")
    preprocessing = Preprocessing(
        tuple(stated["mean"])[:channels],
        tuple(stated["std"])[:channels],
        height,
        math.floor(height / crop),
        stated.get("interpolation") or "bicubic",
        squash=mode == "squash",
    )
    source = f"timm {architecture}.{stated['tag']}" if stated.get("tag") else f"timm {architecture}"
    labels = _labels(folder, given, classes, stated)
    return CheckpointInfo(architecture, labels, source=source, reference=f"our definition of {architecture}", **preprocessing.facts())


def _labels(folder: Path, given: Given, classes: int, stated: dict[str, Any]) -> tuple[str, ...]:
    names = stated.get("label_names")
    descriptions = stated.get("label_descriptions") or {}
    if names and len(names) == classes:
        return tuple(str(descriptions.get(name, name)) for name in names)
    if classes == len(_IMAGENET_CATEGORIES):
        return tuple(_IMAGENET_CATEGORIES)
    missing(folder, given, ("labels",), classes)
    assert given.labels is not None  # noqa: S101  # `missing` raises where it is
    return labels_for(given.labels, classes)


def _ours(path: Path, tensors: dict[str, torch.Tensor], architecture: str) -> tuple[ResNet | None, tuple[str, ...]]:
    for variant in (architecture, None) if architecture in VARIANTS else (None,):  # model_args may have changed what the name says
        try:
            found = find_weights(path, tensors, variant)
            return build_network(found, path), found.notes
        except CheckpointError:
            continue
    return None, ()


def _theirs(architecture: str, tensors: dict[str, torch.Tensor], classes: int, channels: int, args: dict[str, Any]) -> nn.Module | None:
    timm = library("timm")
    if timm is None:
        return None
    try:
        model: nn.Module = timm.create_model(architecture, pretrained=False, num_classes=classes, in_chans=channels, **args)
        model.load_state_dict(tensors)
    except Exception as error:  # timm raises whatever the arguments of another release lead to
        raise ExportError(f"checkpoint: timm cannot build {architecture}: {' '.join(str(error).split())[:300]}") from None
    return model
