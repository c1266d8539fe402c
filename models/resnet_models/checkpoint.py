"""Our checkpoint format: safetensors whose metadata say what the network is and how it came to be."""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from resnet_models.errors import CheckpointError
from resnet_models.files import write_atomically
from resnet_models.network import ResNet
from resnet_models.normalisation import Normalisation
from resnet_models.training_record import TrainingRecord
from resnet_models.variants import find_variant


@dataclass(frozen=True)
class Epoch:
    """One point of the training curve; errors in percent."""

    epoch: int
    train_loss: float
    train_error: float
    test_error: float


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint says of itself.

    `accuracy` is top-1 in percent on `accuracy_images` (a phrase naming data and rows), or None if unknown;
    `input_size` in pixels; an encoded image's shorter side is resized to `resize` pixels (None: the input size) by
    `interpolation` (as Pillow names it) before the centre is cropped; with `squash` both sides are, whatever the proportions;
    without `antialias` as PyTorch's `interpolate` does; `crop_rounding` is the manifest's. `channels` in the network's own
    `colour_order`. `multi_label`: every label stands on its own (sigmoid). `reference` says what computes the right answers;
    empty: our definition of the variant. `trained` is False for random weights; `training` is None in files of releases that did
    not record it.
    """

    variant: str
    labels: tuple[str, ...]
    normalisation: Normalisation
    input_size: int
    resize: int | None = None
    interpolation: str = "bilinear"
    trained: bool = True
    accuracy: float | None = None
    accuracy_images: str = ""
    recipe: str = ""
    seed: int | None = None
    epochs: int | None = None
    git_revision: str = ""
    source: str = ""
    squash: bool = False
    antialias: bool = True
    crop_rounding: str = ""
    channels: int = 3
    colour_order: str = "RGB"
    multi_label: bool = False
    reference: str = ""
    curve: tuple[Epoch, ...] = field(default_factory=tuple)
    training: TrainingRecord | None = None

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.labels)


@dataclass(frozen=True)
class Exportable:
    """A network in eval mode and what is known of it.

    `network` is what is exported: of this family, or a module of somebody's own that maps normalised FP32 [n, c, h, w] to logits
    FP32 [n, classes]. `reference` computes the right answers where that is another module, such as the library's that the weights
    come from.
    """

    network: nn.Module
    info: CheckpointInfo
    reference: nn.Module | None = None


@dataclass(frozen=True)
class Checkpoint(Exportable):
    """A network of this family."""

    network: ResNet


def save_checkpoint(path: Path, network: ResNet, info: CheckpointInfo) -> None:
    """Write weights and metadata to `path`, atomically."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    metadata = {key: json.dumps(value) for key, value in asdict(info).items()} | {"classes": str(info.classes)}
    write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata))


def is_ours(path: Path) -> bool:
    """Whether a file is safetensors with the metadata that `save_checkpoint` writes."""
    try:
        with safe_open(path, framework="pt") as file:
            return "variant" in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint of our format; raise CheckpointError if it is not one or does not fit its variant."""
    try:
        with safe_open(path, framework="pt") as file:
            info = parse_info(path, file.metadata() or {})
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # safe_open is not a mapping
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"checkpoint: {path} cannot be read as safetensors: {error}") from None
    network = ResNet(find_variant(info.variant), info.classes)
    load_state(network, state, path)
    return Checkpoint(network.eval(), info)


def parse_info(path: Path, metadata: dict[str, str]) -> CheckpointInfo:
    """Decode safetensors metadata; raise CheckpointError naming a field that is missing or malformed."""
    known = {f.name for f in fields(CheckpointInfo)}
    missing = {"variant", "labels", "normalisation", "input_size"} - metadata.keys()
    if missing:
        raise CheckpointError(f"checkpoint: {path} lacks metadata {', '.join(sorted(missing))}; not written by resnet-train")
    try:
        values = {key: json.loads(value) for key, value in metadata.items() if key in known}
        values["labels"] = tuple(values["labels"])
        mean, std = values["normalisation"]["mean"], values["normalisation"]["std"]
        values["normalisation"] = Normalisation(tuple(mean), tuple(std))
        values["curve"] = tuple(Epoch(**point) for point in values.get("curve", ()))
        if record := values.get("training"):
            values["training"] = TrainingRecord(**record)
        return CheckpointInfo(**values)
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"checkpoint: {path} has malformed metadata: {error!r}") from None


MOST_KEYS = 5


def load_state(network: ResNet, state: dict[str, torch.Tensor], path: Path) -> None:
    """Load `state`, or raise CheckpointError naming at most five keys that do not fit, and the variant that they are of."""
    own = network.state_dict()
    counters = {key for key in own if key.endswith("num_batches_tracked")}  # absent in files of old torch releases
    problems = [f"missing {key}" for key in own if key not in state and key not in counters]
    problems += [f"unexpected {key}" for key in state if key not in own]
    problems += [
        f"{key} has shape {list(state[key].shape)}, expected {list(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    if problems:
        shown = "; ".join(problems[:MOST_KEYS])
        more = f"; and {len(problems) - MOST_KEYS} more" if len(problems) > MOST_KEYS else ""
        raise CheckpointError(f"checkpoint: {path} does not fit {network.variant.name}: {shown}{more}{_helping(network, state)}")
    network.load_state_dict({key: state.get(key, own[key]) for key in own})


def _helping(network: ResNet, state: dict[str, torch.Tensor]) -> str:
    from resnet_models.inference import nearest  # which needs this module's errors only; imported where something is wrong

    if found := nearest(state, network.variant):
        return f". Perhaps another variant: {found}"
    return ". For layers that no variant has, give --model PACKAGE:FACTORY, which builds your own module"
