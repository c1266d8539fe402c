"""Requests, built and serialised before the load begins."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from resnet_proto.open_inference_pb2 import ModelInferRequest, ModelMetadataResponse

from resnet_bench.errors import BenchError
from resnet_bench.material import Material

DTYPES: dict[str, type[np.generic]] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}
"""Datatypes of the Open Inference Protocol; BYTES has no fixed size and cannot be made up."""

DISTINCT = 32  # different requests of one load: enough that no cache answers, few enough to build at once
SEED = 20


@dataclass(frozen=True)
class Tensor:
    """An input: name, the protocol's datatype, and shape with -1 where the rows go."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def sized(self, rows: int) -> tuple[int, ...]:
        """The shape with `rows`; raises BenchError where more than one size is open, or rows are asked of a fixed shape."""
        if self.shape.count(-1) > 1:
            raise BenchError(f"input: '{self.name}' has shape {list(self.shape)}; say its size with --input NAME:DATATYPE:SHAPE")
        if rows != 1 and -1 not in self.shape:
            raise BenchError(f"rows: {rows}; '{self.name}' has the fixed shape {list(self.shape)}, expected 1")
        return tuple(rows if size == -1 else size for size in self.shape)


@dataclass(frozen=True)
class Requests:
    """Serialised ModelInferRequests to send in turn; `classes` holds the reference's top-1 of each one's rows, None if unknown."""

    key: str
    data: tuple[bytes, ...]
    classes: tuple[NDArray[np.int64], ...] | None = None


def tensors_of(metadata: ModelMetadataResponse) -> tuple[Tensor, ...]:
    """The inputs that a server describes; raises BenchError where it describes none."""
    if not metadata.inputs:
        raise BenchError(f"input: the server does not describe the inputs of '{metadata.name}'; say them with --input")
    return tuple(Tensor(tensor.name, tensor.datatype, tuple(tensor.shape)) for tensor in metadata.inputs)


def generated(model: str, version: str, tensors: tuple[Tensor, ...], rows: int) -> Requests:
    """Requests of noise for any model."""
    random = np.random.default_rng(SEED)
    data = []
    for _ in range(DISTINCT):
        request = ModelInferRequest(model_name=model, model_version=version)
        for tensor in tensors:
            shape = tensor.sized(rows)
            request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=shape)
            request.raw_input_contents.append(_noise(random, tensor, shape).tobytes())
        data.append(request.SerializeToString())
    return Requests(f"{model}/{version}/{rows}", tuple(data))


def _noise(random: np.random.Generator, tensor: Tensor, shape: tuple[int, ...]) -> NDArray[np.generic]:
    dtype = DTYPES.get(tensor.datatype)
    if dtype is None:
        raise BenchError(f"input: '{tensor.name}' is {tensor.datatype}; expected one of {', '.join(DTYPES)}")
    if np.issubdtype(dtype, np.floating):
        return random.random(shape, np.float32).astype(dtype)
    return random.integers(0, 2 if dtype is np.bool_ else 128, shape).astype(dtype)


def from_images(model: str, version: str, tensor: Tensor, material: Material, rows: int) -> Requests:
    """Requests of `rows` images each, all different, with what the reference says of them."""
    data, classes = [], []
    for start in range(0, len(material.images), max(1, min(rows, len(material.images)))):
        window = material.window(start, rows)
        request = ModelInferRequest(model_name=model, model_version=version)
        request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=window.images.shape)
        request.raw_input_contents.append(window.images.tobytes())
        data.append(request.SerializeToString())
        classes.append(window.classes)
    known = tuple(labels for labels in classes if labels is not None)
    return Requests(f"{model}/{version}/{rows}", tuple(data), known if len(known) == len(data) else None)
