"""ONNX: a classifier that somebody exported already, float NCHW in and logits out, with its preprocessing stated on the command line."""

from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from resnet_models.checkpoint import CheckpointInfo, Exportable
from resnet_models.normalisation import IMAGENET, Normalisation
from torch import Tensor, nn

from resnet_export.errors import ExportError
from resnet_export.runtime import open_session
from resnet_export.sources.interface import Given, Source, labels_for, missing

SUFFIX = ".onnx"
LOGITS = ("Softmax", "LogSoftmax", "Sigmoid")
IMAGENET_SIZE, IMAGENET_RESIZE = 224, 256


class OnnxNetwork(nn.Module):
    """The file as ONNX Runtime computes it: what the served file, made from it, is compared with."""

    def __init__(self, path: Path, model: onnx.ModelProto) -> None:
        super().__init__()
        self.path = path
        self.parameter_count = sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer if tensor.data_type == 1)
        self._model = onnx.shape_inference.infer_shapes(model)
        self._input = the_input(path, model)
        self._batch = fixed_batch(self._input)
        self._session = open_session(path)

    def forward(self, x: Tensor) -> Tensor:
        """FP32 [n, channels, h, w] to FP32 logits [n, classes], in batches of the size that the file has."""
        images = x.cpu().contiguous().numpy()
        step = self._batch or len(images)
        parts = [self._run(images[start : start + step], step) for start in range(0, len(images), step)]
        return torch.from_numpy(np.concatenate(parts))

    def cost(self) -> tuple[int, int]:
        """Weighted layers, and the multiply-adds of one image where the file's shapes are known."""
        shapes = {value.name: dimensions(value) for value in (*self._model.graph.value_info, *self._model.graph.output)}
        weights = {tensor.name: list(tensor.dims) for tensor in self._model.graph.initializer}
        layers = [node for node in self._model.graph.node if node.op_type in ("Conv", "Gemm", "MatMul") and node.input[1] in weights]
        costs = (
            prod(weights[node.input[1]][1:]) * prod(shapes.get(node.output[0], [0, 0])[1:]) for node in layers if node.op_type == "Conv"
        )
        return len(layers), sum(costs) + sum(prod(weights[node.input[1]]) for node in layers if node.op_type != "Conv")

    def _run(self, images: Any, step: int) -> Any:
        padded = np.concatenate([images, np.zeros((step - len(images), *images.shape[1:]), np.float32)])
        return self._session.run(None, {self._input.name: padded})[0][: len(images)]


def read(path: Path, given: Given) -> Source:
    """Read an ONNX classifier; raise ExportError for one of another interface, naming what is expected."""
    given.refuse("variant", "weights", "model", because=f"{path.name} is a whole network")
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except Exception as error:  # onnx raises its own, protobuf's and the file system's
        raise ExportError(f"checkpoint: {path} is no ONNX model: {' '.join(str(error).split())[:200]}") from None
    dims = dimensions(the_input(path, model))
    channels, size = check_shape(path, dims, given)
    classes = count_classes(path, model)
    colour = channels == len(IMAGENET.mean)
    missing(path, given, ("labels",) if colour and given.mean and given.std else ("mean", "std", "labels"), classes)
    labels = labels_for(given.labels, classes) if given.labels else ()
    normalisation = Normalisation(given.mean or (), given.std or ())
    resize = round(size * IMAGENET_RESIZE / IMAGENET_SIZE) if size >= IMAGENET_SIZE else None
    info = CheckpointInfo(
        model_name(path),
        labels,
        normalisation,
        size,
        resize,
        source=f"ONNX file {path.name}",
        channels=channels,
        reference=f"{path.name} itself in ONNX Runtime",
    )
    return Source(Exportable(OnnxNetwork(path, model).eval(), given.over(info)), path)


def model_name(path: Path) -> str:
    """A name for the model from the file's."""
    kept = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "-" for letter in path.stem.lower())
    return kept.lstrip("._-") or "onnx"


def the_input(path: Path, model: onnx.ModelProto) -> onnx.ValueInfoProto:
    """The one input that is no weight; raise ExportError for several, or another type than float."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1 or len(model.graph.output) != 1:
        raise ExportError(f"checkpoint: {path.name} has {len(inputs)} inputs and {len(model.graph.output)} outputs; expected one of each")
    if inputs[0].type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        kind = onnx.TensorProto.DataType.Name(inputs[0].type.tensor_type.elem_type)
        raise ExportError(f"checkpoint: {path.name} takes {kind}; expected FLOAT [batch, channels, height, width]")
    return inputs[0]


def dimensions(value: onnx.ValueInfoProto) -> list[int]:
    """The shape, 0 for what is free."""
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim]


def fixed_batch(value: onnx.ValueInfoProto) -> int:
    """The batch size that is written into the file; 0 where it is free."""
    return dimensions(value)[0]


def check_shape(path: Path, dims: list[int], given: Given) -> tuple[int, int]:
    """Channels and size; raise ExportError unless the input is square NCHW and its size is known or given."""
    if len(dims) != 4 or dims[2] != dims[3] or (dims[1] > 16 and dims[1] != 0):
        raise ExportError(f"checkpoint: {path.name} takes {dims}; expected [batch, channels, height, width] with a square image")
    size = dims[2] or given.size
    if not size or (given.size and given.size != size):
        raise ExportError(
            f"checkpoint: {path.name} takes images of {dims[2] or 'any'} pixels, --size is {given.size}; give the size it has"
        )
    return dims[1] or len(given.mean or IMAGENET.mean), size


def count_classes(path: Path, model: onnx.ModelProto) -> int:
    """Classes of the output; raise ExportError for probabilities, from which no logits come back, or another rank."""
    output = model.graph.output[0]
    last = next((node for node in model.graph.node if output.name in node.output), None)
    if last is not None and last.op_type in LOGITS:
        raise ExportError(f"checkpoint: {path.name} ends in {last.op_type}; expected logits: export the network without it")
    shapes = onnx.shape_inference.infer_shapes(model).graph.output[0]
    dims = dimensions(shapes)
    if len(dims) != 2 or not dims[1]:
        raise ExportError(f"checkpoint: {path.name} gives {dims}; expected logits [batch, classes]")
    return dims[1]
