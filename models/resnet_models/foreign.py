"""Checkpoints of others, read without running their pickles: the weights are found by content, the variant by names and shapes."""

import argparse
import re
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from resnet_models.checkpoint import Checkpoint, CheckpointInfo, load_state
from resnet_models.dialects import Body, State, find_bodies
from resnet_models.errors import CheckpointError
from resnet_models.inference import infer
from resnet_models.network import ResNet
from resnet_models.normalisation import Normalisation
from resnet_models.variants import Variant, find_variant

IMAGENET_RESIZE = 256  # of the shorter side, before the centre of 224 is cropped: torchvision's V1 weights and the paper
SAFETENSORS = ".safetensors"
DEPTH = 6  # of nested mappings that are searched
AVERAGE = re.compile(r"ema|averag|swa", re.IGNORECASE)
SCALARS = [argparse.Namespace, OrderedDict, np.dtype, np.ndarray, *{type(np.dtype(kind)) for kind in "?bBhHiIlLqQefdgSU"}]
PATHS = {kind + name: pure for name, pure in (("PosixPath", PurePosixPath), ("WindowsPath", PureWindowsPath)) for kind in ("", "Pure")}
PATH_MODULES = ("pathlib", "pathlib._local")  # as Python 3.13 calls it; a path is read without its ways to the disk
SAVE_INSTEAD = "save the weights alone: torch.save(model.state_dict(), 'weights.pth')"


@dataclass(frozen=True)
class ForeignFacts:
    """What such a file does not say of itself; the variant is inferred where it is None."""

    variant: str | None
    labels: tuple[str, ...]
    normalisation: Normalisation


@dataclass(frozen=True)
class Weights:
    """A network's tensors as they were found: the variant, the tensors under our names, where in the file, and what to tell."""

    variant: Variant
    tensors: State
    place: str
    notes: tuple[str, ...]


def load_foreign(path: Path, facts: ForeignFacts) -> Checkpoint:
    """Read a file of weights; raise CheckpointError for what does not fit."""
    found = find_weights(path, read_content(path), facts.variant)
    if len(facts.labels) != found.variant.classes:
        raise CheckpointError(f"labels: {len(facts.labels)} given; {path.name} has {found.variant.classes} classes")
    network = build_network(found, path)
    resize = IMAGENET_RESIZE if found.variant.stem != "cifar" else None
    size = found.variant.input_size
    info = CheckpointInfo(found.variant.name, facts.labels, facts.normalisation, size, resize, source=f"weights of {path.name}")
    return Checkpoint(network, info)


def build_network(found: Weights, path: Path) -> ResNet:
    """The network with the tensors loaded, in fp32 and eval mode; raise CheckpointError naming keys that do not fit."""
    network = ResNet(found.variant)
    load_state(network, found.tensors, path)
    return network.eval()


def read_content(path: Path) -> Any:
    """What a file holds, on the CPU; raise CheckpointError for one that cannot be read without running its code."""
    if path.suffix.lower() == SAFETENSORS:
        try:
            return load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(f"checkpoint: {path} cannot be read as safetensors: {error}") from None
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_scalars()):
            warnings.simplefilter("ignore")  # of a damaged file torch asks people to report its pickle protocol
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever the damaged bytes lead to: IndexError, AssertionError, struct.error
        raise CheckpointError(f"checkpoint: {path} {_reason(str(error))}") from None


def _scalars() -> list[Any]:
    """Types that stand beside weights and run nothing: numpy's scalars, argparse's options, paths among hyperparameters."""
    from numpy._core.multiarray import _reconstruct, scalar  # what a pickled numpy number names

    older = [(scalar, "numpy.core.multiarray.scalar"), (_reconstruct, "numpy.core.multiarray._reconstruct")]
    paths = [(pure, f"{module}.{name}") for module in PATH_MODULES for name, pure in PATHS.items()]
    return [*SCALARS, scalar, _reconstruct, *older, *paths]


def _reason(text: str) -> str:
    if match := re.search(r"GLOBAL ([\w.]+)|global(?: of)? ([\w.]+\.[\w.]+)|class `([\w.]+)`", text):
        name = next(group for group in match.groups() if group)
        return f"holds an object of {name} beside its tensors, which is not read since that could run code; {SAVE_INSTEAD}"
    if "TorchScript" in text or "torch.jit" in text:
        return f"is a TorchScript archive; {SAVE_INSTEAD}, or export it to ONNX and publish that"
    return f"cannot be read as PyTorch weights: {' '.join(text.partition(chr(10))[0].split())[:200]}"


def find_weights(path: Path, content: Any, variant: str | None = None, choice: str | None = None) -> Weights:
    """The one network in `content`, by what its tensors are called; raise CheckpointError where there is none or it is no classifier.

    Where a file holds several, as training with averaged weights leaves them, `choice` names the mapping or prefix; without it the
    average is taken, as timm does, and said so.
    """
    places = list(_places(content))
    if not places:
        raise CheckpointError(f"checkpoint: {path} holds no tensors of a residual network: no layer1.0.conv1.weight under any known name")
    place, body, notes = _choose(path, places, choice)
    if odd := [key for key, value in {**body.tensors, **body.rest}.items() if value.is_quantized]:
        raise CheckpointError(f"checkpoint: {path} is quantised ({odd[0]}); publish the network before quantisation with --precision int8")
    body = replace(body, tensors=_floats(body.tensors), rest=_floats(body.rest))
    try:
        given = find_variant(variant) if variant else None
        fitted, tensors, head = infer(body, given)
    except CheckpointError as error:
        raise CheckpointError(f"checkpoint: {path}: {error}") from None
    unused = [key for key in body.rest if key not in head.used and not key.endswith("num_batches_tracked")]
    inside = {key: body.rest[key] for key in unused if key.startswith(body.prefix)}
    if unused and not inside:
        notes = (*notes, f"left aside: {_few(unused)}")
    if head.note:
        notes = (*notes, head.note)
    return Weights(fitted, tensors | inside, place, notes)


def _floats(state: State) -> State:
    return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}


def _few(names: list[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _places(content: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, Body]]:
    """Every network in nested mappings, with the place: keys joined by dots, then the prefix of its tensors."""
    if not isinstance(content, Mapping) or depth > DEPTH:
        return
    tensors = {key: value.detach() for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    for body in find_bodies(tensors):
        yield ".".join(part for part in (path, body.prefix.rstrip(".")) if part), body
    for key, value in content.items():
        if isinstance(value, Mapping) and key != "optimizer":
            yield from _places(value, f"{path}.{key}" if path else str(key), depth + 1)


def _choose(path: Path, places: list[tuple[str, Body]], choice: str | None) -> tuple[str, Body, tuple[str, ...]]:
    names = [name or "the file itself" for name, _ in places]
    if choice is not None:
        chosen = [place for place in places if choice.rstrip(".") in (place[0], place[0].split(".")[0])]
        if len(chosen) != 1:
            raise CheckpointError(f"weights: '{choice}' is not in {path.name}; expected one of {', '.join(names)}")
        return (*chosen[0], ())
    if len(places) == 1:
        return (*places[0], ())
    averaged = [place for place in places if AVERAGE.search(place[0])]
    if len(averaged) != 1:
        raise CheckpointError(f"weights: {path.name} holds several networks: {', '.join(names)}; choose with --weights")
    others = ", ".join(name for name in names if name != averaged[0][0])
    return (*averaged[0], (f"took the averaged weights {averaged[0][0]}; --weights chooses {others}",))
