"""Files of weights: ours, and state dicts of others with what they do not say (.pth, .pt, .th, .ckpt, .bin, .safetensors)."""

from pathlib import Path

from resnet_models.checkpoint import Checkpoint, CheckpointInfo, is_ours, load_checkpoint
from resnet_models.foreign import IMAGENET_RESIZE, Weights, build_network, find_weights, read_content
from resnet_models.normalisation import IMAGENET, Normalisation
from resnet_models.variants import Variant

from resnet_export.sources.interface import Given, Source, labels_for, missing
from resnet_export.sources.lightning import is_lightning, lightning_labels


def read(path: Path, given: Given) -> Source:
    """Read a checkpoint; raise ExportError naming the options that a foreign file needs or that ours does not take."""
    if is_ours(path):
        names = tuple(option.removeprefix("--").replace("-", "_") for option in given.stated())
        given.refuse(*names, because=f"{path.name} says this itself; the options are for foreign files")
        return Source(load_checkpoint(path), path)
    content = read_content(path)
    found = find_weights(path, content, given.variant, given.weights)
    labels = lightning_labels(content, found.variant.classes) if given.labels is None else ()
    normalisation = None if found.variant.stem == "cifar" or found.variant.channels != 3 else IMAGENET
    needed = (*(() if normalisation else ("mean", "std")), *(() if labels else ("labels",)))
    missing(path, given, needed, found.variant.classes)
    if given.labels is not None:
        labels = labels_for(given.labels, found.variant.classes)
    mean, std = given.mean or (normalisation or IMAGENET).mean, given.std or (normalisation or IMAGENET).std
    info = CheckpointInfo(
        found.variant.name,
        labels,
        Normalisation(mean, std),
        found.variant.input_size,
        None if found.variant.stem == "cifar" else IMAGENET_RESIZE,
        source=f"weights of {path.name}",
        channels=found.variant.channels,
        reference=definition(found.variant),
    )
    return Source(Checkpoint(build_network(found, path), given.over(info)), path, (*_kind(content), *_told(found)))


def definition(variant: Variant) -> str:
    """What a certificate of weights alone says: which network they were put into, since that is what is compared."""
    stride = {"1x1": ", v1: stride on the first 1x1 convolution", "3x3": ", v1.5: stride on the 3x3 convolution"}[variant.stride_on]
    stride = stride if variant.block == "bottleneck" and not variant.preactivation else ""
    return f"parity with our definition of {variant.name}{stride}; the weights came without the code that trained them"


def _kind(content: object) -> tuple[str, ...]:
    return ("a Lightning checkpoint: its callbacks, optimiser and loss are left aside",) if is_lightning(content) else ()


def _told(found: Weights) -> tuple[str, ...]:
    place = f" in '{found.place}'" if found.place else ""
    return (f"found {found.variant.name}, {found.variant.classes} classes{place}", *found.notes)
