"""How others name the tensors of a residual network, and the way from each to our names, which are torchvision's."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor

from resnet_models.errors import CheckpointError

State = dict[str, Tensor]

WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""What torch.compile, FSDP and activation checkpointing put anywhere into a key."""

IGNORED = re.compile(r"(?:^|\.)(?:total_ops|total_params|n_averaged|num_batches_tracked)$")
"""Counters of profilers, of AveragedModel and of batch normalisation: they do not enter the outputs."""


@dataclass(frozen=True)
class Dialect:
    """One way to name: the `anchor` is a key that every such network has, `translate` maps a key without its prefix to ours."""

    name: str
    anchor: str
    translate: Callable[[str], str]

    def prefixes(self, keys: Iterable[str]) -> list[str]:
        """What stands before the anchor: a wrapper's or a model's own prefix, such as `model.` or `backbone.`."""
        return [key.removesuffix(self.anchor) for key in keys if key == self.anchor or key.endswith("." + self.anchor)]


def _replaced(key: str, table: dict[str, str]) -> str:
    for theirs, ours in table.items():
        key = re.sub(theirs, ours, key)
    return key


PLAIN = {r"(^|\.)shortcut\.": r"\1downsample.", r"\.se\.conv_reduce\.": ".se.fc1.", r"\.se\.conv_expand\.": ".se.fc2."}

NUMBERED = {r"^0\.": "conv1.", r"^1\.": "bn1.", r"^4\.": "layer1.", r"^5\.": "layer2.", r"^6\.": "layer3.", r"^7\.": "layer4."}
"""`nn.Sequential(*resnet.children())`: 2 is the ReLU, 3 the pooling."""


def _numbered(key: str) -> str:
    return _replaced(_replaced(key, NUMBERED), PLAIN)


def _transformers(key: str) -> str:
    key = _replaced(key, {r"^embedder\.embedder\.convolution\.": "conv1.", r"^embedder\.embedder\.normalization\.": "bn1."})
    stage = re.match(r"^encoder\.stages\.(\d+)\.layers\.(\d+)\.", key)
    if stage is None:
        return key
    rest = key[stage.end() :].replace("shortcut.convolution.", "downsample.0.").replace("shortcut.normalization.", "downsample.1.")
    if layer := re.match(r"^layer\.(\d+)\.(convolution|normalization)\.", rest):
        rest = f"{'conv' if layer[2] == 'convolution' else 'bn'}{int(layer[1]) + 1}.{rest[layer.end() :]}"
    return f"layer{int(stage[1]) + 1}.{stage[2]}.{rest}"


V2_STEM = {r"^stem\.conv\.": "conv1.", r"^stem\.conv1\.": "conv1.0.", r"^stem\.norm1\.": "conv1.1.", r"^stem\.conv2\.": "conv1.3."}
V2_STEM |= {r"^stem\.norm2\.": "conv1.4.", r"^stem\.conv3\.": "conv1.6."}


def _timm_v2(key: str) -> str:
    if stage := re.match(r"^stages\.(\d+)\.blocks\.", key):
        return f"layer{int(stage[1]) + 1}.{key[stage.end() :]}"
    return _replaced(key, V2_STEM)


DIALECTS = (
    Dialect("torchvision and timm", "layer1.0.conv1.weight", lambda key: _replaced(key, PLAIN)),
    Dialect("torchvision's layers by number", "4.0.conv1.weight", _numbered),
    Dialect("transformers", "encoder.stages.0.layers.0.layer.0.convolution.weight", _transformers),
    Dialect("timm's v2", "stages.0.blocks.0.conv1.weight", _timm_v2),
)

BODY = re.compile(r"^(?:conv1|bn1|norm|layer\d+)\.")


@dataclass(frozen=True)
class Body:
    """A network found in a state dict: its dialect, the prefix of its keys, and its convolutional part under our names.

    `rest` holds the other tensors by their own names: the head is among them.
    """

    dialect: Dialect
    prefix: str
    tensors: State
    rest: State


def unwrapped(state: State) -> State:
    """The state without wrappers' marks and counters that do not enter the outputs."""
    kept = {WRAPPERS.sub("", key): value for key, value in state.items()}
    return {key: value for key, value in kept.items() if not IGNORED.search(key)}


def find_bodies(state: State) -> list[Body]:
    """Every network of the family in a state dict; several where it also holds an average or a second encoder."""
    state = unwrapped(state)
    found = [(dialect, prefix) for dialect in DIALECTS for prefix in dialect.prefixes(state)]
    return [_body(state, dialect, prefix, [other for _, other in found if other != prefix]) for dialect, prefix in found]


def _body(state: State, dialect: Dialect, prefix: str, others: list[str]) -> Body:
    tensors: State = {}
    rest: State = {}
    for key, value in state.items():
        if any(len(other) > len(prefix) and key.startswith(other) for other in others):
            continue  # another network's
        ours = dialect.translate(key.removeprefix(prefix)) if key.startswith(prefix) else ""
        if ours in tensors:
            raise CheckpointError(f"weights: {ours} is there twice, the second time as {key}")
        if BODY.match(ours):
            tensors[ours] = value
        else:
            rest[key] = value
    return Body(dialect, prefix, tensors, rest)
