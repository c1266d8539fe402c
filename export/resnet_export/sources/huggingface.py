"""Hugging Face: a folder of `ResNetForImageClassification`, or `hf:REPO`. Labels and preprocessing are in its JSON files."""

from pathlib import Path
from typing import Any

from resnet_models.checkpoint import CheckpointInfo, Exportable
from resnet_models.errors import CheckpointError
from resnet_models.foreign import build_network, find_weights
from resnet_models.network import ResNet
from resnet_models.variants import find_variant
from torch import nn

from resnet_export.errors import ExportError
from resnet_export.sources.hub_folder import CONFIG, library, read_json, read_tensors, weights_file
from resnet_export.sources.interface import Given, Preprocessing, Source
from resnet_export.sources.settling import settle

PREFIX = "hf:"
PROCESSOR = "preprocessor_config.json"
RESAMPLING = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # by Pillow's numbers
SQUASHED_FROM = 384  # pixels: from this size on ConvNext's processor, which ResNet's folders name, keeps no proportions


def read_folder(folder: Path, given: Given) -> Source:
    """Read configuration, preprocessing and weights; raise ExportError for another kind of model."""
    given.refuse("variant", "weights", "model", because=f"{folder.name}/{CONFIG} says the architecture")
    config = read_json(folder / CONFIG)
    if config.get("model_type") != "resnet":
        raise ExportError(f"checkpoint: {folder.name} is a {config.get('model_type')!r} of transformers; expected a resnet")
    path = weights_file(folder)
    tensors = read_tensors(path)
    transformers = library("transformers")
    ours = _ours(path, tensors, config)
    name = ours.variant.name if ours is not None else f"resnet-{config.get('layer_type', 'bottleneck')}"
    info = given.over(_facts(folder, config, name))
    if transformers is not None:
        checkpoint, notes = settle(ours, _theirs(transformers, folder), info, "transformers' ResNetForImageClassification")
        return Source(checkpoint, path, notes)
    if ours is None:
        raise ExportError(f"checkpoint: {folder.name} has layers that the table lacks; `pip install transformers` and publish again")
    return Source(Exportable(ours, info), path, ("transformers is not installed: the certificate compares with our definition",))


def _ours(path: Path, tensors: dict[str, Any], config: dict[str, Any]) -> ResNet | None:
    """Our network, if the table has all that the configuration asks for."""
    if config.get("hidden_act", "relu") != "relu" or config.get("downsample_in_first_stage"):
        return None
    try:
        variant = find_weights(path, tensors).variant
        name = f"{variant.name}-v1" if config.get("downsample_in_bottleneck") and variant.block == "bottleneck" else None
        return build_network(find_weights(path, tensors, find_variant(name).name if name else None), path)
    except CheckpointError:
        return None


def _theirs(transformers: Any, folder: Path) -> nn.Module:
    try:
        model: nn.Module = transformers.ResNetForImageClassification.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers raises whatever a file of another release leads to
        raise ExportError(f"checkpoint: transformers cannot read {folder.name}: {' '.join(str(error).split())[:300]}") from None
    return model.float()


def _facts(folder: Path, config: dict[str, Any], name: str) -> CheckpointInfo:
    labels = config.get("id2label") or {str(index): f"LABEL_{index}" for index in range(2)}  # transformers leaves its default out
    ordered = tuple(str(labels[key]) for key in sorted(labels, key=int))
    if [int(key) for key in sorted(labels, key=int)] != list(range(len(labels))) or not labels:
        raise ExportError(f"checkpoint: {folder.name}/{CONFIG} has no id2label from 0 on")
    return CheckpointInfo(
        name,
        ordered,
        source=f"transformers {config.get('_name_or_path') or folder.name}",
        multi_label=config.get("problem_type") == "multi_label_classification",
        reference=f"our definition of {name}",
        **_preprocessing(folder, read_json(folder / PROCESSOR), int(config.get("num_channels", 3))).facts(),
    )


def _preprocessing(folder: Path, processor: dict[str, Any], channels: int) -> Preprocessing:
    size, crop = processor.get("size", 224), processor.get("crop_size")
    if not processor.get("do_resize", True):
        raise ExportError(f"checkpoint: {folder.name}/{PROCESSOR} does not resize; give --size with a folder whose processor does")
    mean, std = _normalisation(processor, channels)
    shape: dict[str, Any] = {"interpolation": RESAMPLING[int(processor.get("resample", 3))]}
    edge = size if isinstance(size, int) else size.get("shortest_edge")
    kind = str(processor.get("image_processor_type") or processor.get("feature_extractor_type") or "ConvNextFeatureExtractor")
    if edge is None:
        shape |= {"size": _square(folder, size), "squash": True}
    elif kind.startswith("ConvNext") and edge < SQUASHED_FROM:
        shape |= {"size": edge, "resize": int(edge / processor.get("crop_pct", 224 / 256))}
    elif kind.startswith("ConvNext"):
        shape |= {"size": edge, "squash": True}
    else:
        shape |= {"size": edge, "resize": edge}
    if processor.get("do_center_crop") and crop is not None:
        shape |= {"size": crop if isinstance(crop, int) else _square(folder, crop), "resize": shape.get("resize") or shape["size"]}
    return Preprocessing(mean, std, crop_rounding="down", **shape)


def _normalisation(processor: dict[str, Any], channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std on the scale 0..1, whatever factor the processor rescales by."""
    scale = 255 * float(processor.get("rescale_factor", 1 / 255)) if processor.get("do_rescale", True) else 255.0
    normalised = processor.get("do_normalize", True)
    mean = processor["image_mean"] if normalised else [0.0] * channels
    std = processor["image_std"] if normalised else [1.0] * channels
    return tuple(value / scale for value in mean), tuple(value / scale for value in std)


def _square(folder: Path, size: dict[str, int]) -> int:
    if size.get("height") != size.get("width") or not size.get("height"):
        raise ExportError(f"checkpoint: {folder.name}/{PROCESSOR} has size {size}; expected a square or shortest_edge")
    return int(size["height"])
