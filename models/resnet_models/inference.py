"""Which network weights belong to, told from their names and shapes alone."""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import Tensor

from resnet_models.dialects import Body, State
from resnet_models.errors import CheckpointError
from resnet_models.variants import VARIANTS, Shortcut, Variant, named

HEAD_NAMES = ("fc", "classifier", "head", "linear", "last_linear")
CIFAR_SIZE, IMAGENET_SIZE = 32, 224


@dataclass(frozen=True)
class Head:
    """The linear layers after pooling, under our names; what of the rest was no part of it; and what was assumed."""

    tensors: State
    hidden: tuple[int, ...]
    classes: int
    used: frozenset[str]
    note: str = ""


def infer(body: Body, given: Variant | None = None) -> tuple[Variant, State, Head]:
    """The variant of a body with its head, all tensors under our names, and the head.

    With `given`, that variant with the channels, head and classes of the weights. What shapes cannot tell (where the stride is,
    antialiasing, dilation) is as in torchvision. Raises CheckpointError for weights that are no classifier of this family.
    """
    variant = given or infer_body(body.tensors)
    tensors = dict(body.tensors)
    if variant.preactivation:
        tensors = {re.sub(r"\.downsample\.conv\.", _v2_projection(variant), key): value for key, value in tensors.items()}
    head = find_head(body, feature_channels(variant))
    channels = _stem_convolutions(tensors)[0].shape[1]
    fitted = replace(variant, channels=channels, head=head.hidden, classes=head.classes)
    return fitted, tensors | head.tensors, head


def _v2_projection(variant: Variant) -> str:
    return f".downsample.{int(variant.downsampling == 'average')}."


def feature_channels(variant: Variant) -> int:
    """Channels that enter the head."""
    return variant.widths[-1] * (4 if variant.block == "bottleneck" else 1)


def _stem_convolutions(tensors: State) -> list[Tensor]:
    keys = ("conv1.weight", "conv1.0.weight", "conv1.3.weight", "conv1.6.weight")
    found = [tensors[key] for key in keys if key in tensors and tensors[key].ndim == 4]
    if len(found) not in (1, 3):
        raise CheckpointError(f"weights: the stem has {len(found)} convolutions; expected one, or three of 3x3")
    return found


def infer_body(tensors: State) -> Variant:
    """The variant of a body's tensors under our names, by its name in the table where it has one."""
    stages = _stages(tensors)
    first = "layer1.0."
    bottleneck = first + "conv3.weight" in tensors
    planes = tuple(_planes(tensors, stage, bottleneck) for stage in range(1, len(stages) + 1))
    stem = _stem_convolutions(tensors)
    stem_widths = tuple(int(conv.shape[0]) for conv in stem)
    groups, group_width = _groups(tensors, planes[0]) if bottleneck else (1, 64)
    kind = "deep" if len(stem) == 3 else "cifar" if stem[0].shape[-1] == 3 else "imagenet"
    preactivation = first + "norm1.weight" in tensors
    variant = Variant(
        name="",
        depth=2 + sum(stages) * (3 if bottleneck else 2),
        block="bottleneck" if bottleneck else "basic",
        stages=stages,
        widths=planes,
        shortcut=_shortcut(tensors),
        stem=kind,  # type: ignore[arg-type]  # one of the three
        input_size=CIFAR_SIZE if kind == "cifar" else IMAGENET_SIZE,
        classes=0,
        groups=groups,
        group_width=group_width,
        stem_widths=stem_widths if kind == "deep" else () if stem_widths == planes[:1] else stem_widths,
        downsampling="average" if _averages(tensors) or (preactivation and kind == "deep") else "convolution",
        squeeze=first + "se.fc1.weight" in tensors,
        preactivation=preactivation,
    )
    return named(variant)


def _stages(tensors: State) -> tuple[int, ...]:
    blocks: dict[int, set[int]] = {}
    for key in tensors:
        if match := re.match(r"^layer(\d+)\.(\d+)\.", key):
            blocks.setdefault(int(match[1]), set()).add(int(match[2]))
    return tuple(len(blocks[stage]) for stage in sorted(blocks))


def _planes(tensors: State, stage: int, bottleneck: bool) -> int:
    last = tensors.get(f"layer{stage}.0.{'conv3' if bottleneck else 'conv2'}.weight")
    if last is None or last.ndim != 4:
        raise CheckpointError(f"weights: layer{stage}.0 is no block of two or three convolutions")
    return int(last.shape[0]) // (4 if bottleneck else 1)


def _groups(tensors: State, planes: int) -> tuple[int, int]:
    inner, in_group = tensors["layer1.0.conv2.weight"].shape[:2]
    groups = int(inner) // int(in_group)
    return groups, int(inner) * 64 // (groups * planes)


def _averages(tensors: State) -> bool:
    """The average takes a place in the shortcut's sequence, so that its convolution is second and not first."""
    return any(re.search(r"\.downsample\.1\.weight$", key) and value.ndim == 4 for key, value in tensors.items())


def _shortcut(tensors: State) -> Shortcut:
    """C where blocks that keep the shape project, too."""
    if any(re.match(r"layer\d+\.[1-9]\d*\.downsample\.", key) for key in tensors):
        return "C"
    first = tensors.get("layer1.0.downsample.0.weight")
    if first is not None and first.ndim == 4 and first.shape[0] == first.shape[1]:
        return "C"
    return "B" if any(".downsample." in key for key in tensors) else "A"


def find_head(body: Body, features: int) -> Head:
    """The linear layers that take `features` channels; raise CheckpointError where there is none, or one too many."""
    linear = {key.removesuffix(".weight"): value for key, value in body.rest.items() if _is_linear(key, value)}
    starts = [name for name, value in linear.items() if value.shape[1] == features]
    if len(starts) > 1:
        usual = [name for name in starts if name.removeprefix(body.prefix).split(".")[0] in HEAD_NAMES]
        starts = usual[:1] if len(usual) == 1 or len({_parent(name) for name in usual}) == 1 else starts
    if len(starts) != 1:
        found = f"{len(starts)} do: {', '.join(starts[:3])}" if starts else "none does; a backbone without its classifier?"
        raise CheckpointError(f"weights: one linear layer must take the {features} channels of the last stage, {found}")
    chain = list(_chain(linear, starts[0]))
    if any(key.startswith(_parent(starts[0])) and key.endswith("running_mean") for key in body.rest) and _parent(starts[0]):
        raise CheckpointError(f"weights: the head {_parent(starts[0])} normalises between its linear layers; give --model PACKAGE:FACTORY")
    return _as_head(body, linear, chain)


def _is_linear(key: str, value: object) -> bool:
    shape = getattr(value, "shape", ())
    return key.endswith(".weight") and (len(shape) == 2 or (len(shape) == 4 and tuple(shape[2:]) == (1, 1)))


def _parent(name: str) -> str:
    """The sequence that a numbered layer is part of; empty for a layer that stands alone."""
    parent, _, last = name.rpartition(".")
    return parent + "." if last.isdigit() else ""


def _chain(linear: State, start: str) -> Iterator[str]:
    yield start
    parent = _parent(start)
    followers = sorted((name for name in linear if parent and _parent(name) == parent), key=lambda name: int(name.rpartition(".")[2]))
    for name in followers[followers.index(start) + 1 :] if start in followers else []:
        if linear[name].shape[1] != linear[start].shape[0]:
            raise CheckpointError(f"weights: {name} does not take what {start} gives; give --model PACKAGE:FACTORY")
        yield name
        start = name


def _as_head(body: Body, linear: State, chain: list[str]) -> Head:
    """The chain as `fc`, or `fc.0`, `fc.2`, ... with a ReLU after each but the last; adjacent layers are multiplied into one."""
    weights = [linear[name].flatten(1).double() for name in chain]
    biases = [
        body.rest[f"{name}.bias"].double() if f"{name}.bias" in body.rest else weights[i].new_zeros(len(weights[i]))
        for i, name in enumerate(chain)
    ]
    merged = [(weights[0], biases[0])]
    for (name, following), weight, bias in zip(itertools.pairwise(chain), weights[1:], biases[1:], strict=True):
        if int(following.rpartition(".")[2]) == int(name.rpartition(".")[2]) + 1:
            before = merged.pop()
            merged.append((weight @ before[0], weight @ before[1] + bias))
        else:
            merged.append((weight, bias))
    names = ["fc"] if len(merged) == 1 else [f"fc.{2 * i}" for i in range(len(merged))]
    tensors = {f"{name}.weight": pair[0].float() for name, pair in zip(names, merged, strict=True)}
    tensors |= {f"{name}.bias": pair[1].float() for name, pair in zip(names, merged, strict=True)}
    hidden = tuple(len(bias) for _, bias in merged[:-1])
    note = "the file does not say what is between the head's linear layers; a ReLU is assumed (--model or --expect settles it)"
    used = frozenset(key for name in chain for key in (f"{name}.weight", f"{name}.bias") if key in body.rest)
    return Head(tensors, hidden, len(merged[-1][1]), used, note if hidden else "")


def nearest(tensors: State, variant: Variant) -> str:
    """A phrase naming the variant that the weights' names and shapes belong to, where that is another."""
    try:
        found = infer_body(tensors)
    except CheckpointError:
        return ""
    if found.architecture() == variant.architecture():
        return ""
    known = "" if found.name in VARIANTS else ", which the table does not have"
    return f"the names and shapes are those of {found.name}{known}"
