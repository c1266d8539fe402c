"""The user's own module, for whatever no table knows: `--model package.module:factory`, or `publish(module, ...)` of `api`."""

import importlib
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from resnet_models.checkpoint import CheckpointInfo
from resnet_models.dialects import unwrapped
from resnet_models.errors import CheckpointError
from resnet_models.foreign import SAVE_INSTEAD, build_network, find_weights, read_content
from resnet_models.network import ResNet
from safetensors.torch import save_model
from torch import nn

from resnet_export.errors import ExportError
from resnet_export.sources.interface import Given, Preprocessing, Source, labels_for
from resnet_export.sources.settling import LogitsOf, settle


@contextmanager
def source_of(module: nn.Module, preprocessing: Preprocessing, labels: tuple[str, ...], name: str, multi_label: bool) -> Iterator[Source]:
    """A source of a module in memory; its weights are written to a temporary file, whose digest names them."""
    described = f"{type(module).__module__}.{type(module).__qualname__}"
    info = CheckpointInfo(name, labels, source=f"module {described}", multi_label=multi_label, **preprocessing.facts())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "module.safetensors"
        save_model(module, str(path))
        yield settled(module, info, path, described)


def settled(module: nn.Module, info: CheckpointInfo, path: Path, described: str) -> Source:
    """The source with our network in the module's place where it computes the same; raise ExportError for wrong numbers of classes."""
    _check(module, info, described)
    checkpoint, notes = settle(_ours(module, path), module, info, described)
    return Source(checkpoint, path, notes)


def _check(module: nn.Module, info: CheckpointInfo, described: str) -> None:
    image = torch.zeros(1, info.channels, info.input_size, info.input_size)
    try:
        with torch.inference_mode():
            logits = LogitsOf(module.eval())(image)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ExportError(f"model: {described} does not take {list(image.shape)}: {' '.join(str(error).split())[:300]}") from None
    if logits.shape[1] != info.classes:
        raise ExportError(f"labels: {info.classes} given; {described} gives {logits.shape[1]} logits")


def _ours(module: nn.Module, path: Path) -> ResNet | None:
    try:
        return build_network(find_weights(path, dict(module.state_dict())), path)
    except CheckpointError:
        return None


def read_factory(text: str, weights: Path | None, given: Given) -> Source:
    """`package.module:factory` called without arguments; `weights` are loaded into what it gives, unless it brings its own."""
    given.refuse("variant", because="--model says the architecture")
    module = _called(text)
    if weights is not None:
        _load(module, weights, given.weights)
    if given.mean is None or given.std is None or given.labels is None:
        lacking = [option for option in ("mean", "std", "labels") if getattr(given, option) is None]
        raise ExportError(f"model: {text} does not say {', '.join(f'--{option}' for option in lacking)}; give these options")
    preprocessing = Preprocessing(given.mean, given.std)
    name = text.rpartition(":")[2].lower().replace("_", "-")
    classes = _classes(module, given, len(given.mean))
    info = CheckpointInfo(name, labels_for(given.labels, classes), source=f"module {text}", **preprocessing.facts())
    file = weights or Path(str(sys.modules[text.partition(":")[0]].__file__))
    return settled(module, given.over(info), file, text)


def _classes(module: nn.Module, given: Given, channels: int) -> int:
    size = given.size or 224
    with torch.inference_mode():
        return int(LogitsOf(module.eval())(torch.zeros(1, channels, size, size)).shape[1])


def _called(text: str) -> nn.Module:
    name, colon, attribute = text.partition(":")
    if not colon or not attribute:
        raise ExportError(f"model: '{text}'; expected PACKAGE.MODULE:FACTORY")
    if "" not in sys.path:
        sys.path.insert(0, "")  # as `python -m` does: the user's code lies where they stand
    try:
        built = getattr(importlib.import_module(name), attribute)()
    except Exception as error:  # the user's own code may raise anything
        raise ExportError(f"model: {text} cannot be built: {type(error).__name__}: {error}") from None
    if not isinstance(built, nn.Module):
        raise ExportError(f"model: {text} gives a {type(built).__name__}; expected a torch.nn.Module")
    return built


def _load(module: nn.Module, path: Path, choice: str | None) -> None:
    """Load the mapping of a file that fits the module, whatever stands before its keys; raise ExportError if none does."""
    own = set(unwrapped(module.state_dict()))
    best: tuple[int, dict[str, torch.Tensor]] = (len(own) + 1, {})
    for place, tensors in _mappings(read_content(path)):
        if choice is not None and choice != place:
            continue
        for stripped in _stripped(unwrapped(tensors), own):
            lacking = len(own - stripped.keys())
            best = min(best, (lacking, stripped), key=lambda pair: pair[0])
    if best[0]:
        missing = ", ".join(sorted(own - best[1].keys())[:5])
        raise ExportError(f"weights: {path.name} does not fit the module: missing {missing}; {SAVE_INSTEAD}")
    try:
        module.load_state_dict({key: value for key, value in best[1].items() if key in own}, strict=False)
    except RuntimeError as error:
        raise ExportError(f"weights: {path.name} does not fit the module: {' '.join(str(error).split())[:300]}") from None


def _mappings(content: Any, place: str = "") -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    if isinstance(content, Mapping):
        tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, torch.Tensor)}
        if tensors:
            yield place, tensors
        for key, value in content.items():
            yield from _mappings(value, f"{place}.{key}" if place else str(key))


def _stripped(tensors: dict[str, torch.Tensor], own: set[str]) -> Iterator[dict[str, torch.Tensor]]:
    """The tensors without every prefix under which one of the module's own keys stands."""
    probe = min(own, default="")
    prefixes = {key.removesuffix(probe) for key in tensors if key == probe or key.endswith("." + probe)}
    for prefix in sorted(prefixes, key=len):
        yield {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
