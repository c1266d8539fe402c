"""Somebody's ONNX classifier with our interface: layout and normalisation put in front, the batch made free."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from resnet_models.checkpoint import CheckpointInfo

from resnet_export.errors import ExportError

LEAST_OPSET = 13
BATCH = "batch"


def fold(source: Path, info: CheckpointInfo, target: Path, input_name: str, output_name: str) -> None:
    """Write `source` (FP32 NCHW to logits) as a graph of `input_name` UINT8 NHWC to `output_name`; raise ExportError if it cannot be."""
    model = onnx.load(source)
    if opset(model) < LEAST_OPSET:
        model = onnx.version_converter.convert_version(model, LEAST_OPSET)
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    free_batch(graph)
    old = next(value for value in graph.input if value.name not in weights)
    shape: list[str | int | None] = [BATCH, info.input_size, info.input_size, info.channels]
    _rename_taken(graph, {input_name, output_name})
    result = graph.output[0].name
    old_name = next(value for value in graph.input if value.name not in weights).name if old.name in {input_name, output_name} else old.name
    front = front_nodes(info, input_name, old_name)
    del graph.input[:], graph.value_info[:]
    graph.input.append(helper.make_tensor_value_info(input_name, TensorProto.UINT8, shape))
    back = helper.make_node("Identity", [result], [output_name], name="served_output")
    nodes = [*front, *graph.node, back]
    del graph.node[:], graph.output[:]
    graph.node.extend(nodes)
    graph.initializer.extend(constants(info))
    graph.output.append(helper.make_tensor_value_info(output_name, TensorProto.FLOAT, [BATCH, info.classes]))
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # onnx's checker raises types that are not public
        raise ExportError(f"{source.name}: cannot be given a free batch: {' '.join(str(error).split())[:300]}") from None
    onnx.save(model, target)


def free_batch(graph: onnx.GraphProto) -> None:
    """Let every Reshape to a fixed batch take any: exporters write the example's batch into the shape.

    The certificate's batch sizes show whether anything else was fixed.
    """
    weights = {tensor.name: tensor for tensor in graph.initializer}
    batch = next(value for value in graph.input if value.name not in weights).type.tensor_type.shape.dim[0].dim_value
    constants = {
        node.output[0]: node.attribute[0].t for node in graph.node if node.op_type == "Constant" and node.attribute[0].HasField("t")
    }
    for node in graph.node:
        tensor = weights.get(node.input[1]) or constants.get(node.input[1]) if node.op_type == "Reshape" else None
        shape = numpy_helper.to_array(tensor).tolist() if tensor is not None else []
        if batch and shape[:1] == [batch]:
            free = [0 if -1 in shape else -1, *shape[1:]]  # 0: as the input has it
            name = f"served_shape_{node.output[0]}"
            graph.initializer.append(numpy_helper.from_array(np.array(free, np.int64), name))
            node.input[1] = name


def to_half(path: Path) -> None:
    """Turn a folded file into fp16 where that is safe, its interface and normalisation kept."""
    from onnxruntime.transformers.float16 import convert_float_to_float16  # which imports much

    model = onnx.load(path)
    kept = [node.name for node in model.graph.node if node.name.startswith("served_")]
    onnx.save(convert_float_to_float16(model, keep_io_types=True, node_block_list=kept), path)


def opset(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators."""
    return int(next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")))


def _rename_taken(graph: onnx.GraphProto, names: set[str]) -> None:
    """Give values of the graph that have one of our names another."""
    for node in graph.node:
        for values in (node.input, node.output):
            for index, name in enumerate(values):
                if name in names:
                    values[index] = f"original_{name}"
    named: list[Any] = [*graph.input, *graph.output, *graph.initializer]
    for value in named:
        if value.name in names:
            value.name = f"original_{value.name}"


def front_nodes(info: CheckpointInfo, image: str, normalised: str) -> list[onnx.NodeProto]:
    """Cast, layout, colour order, (pixel - 255 * mean) / (255 * std)."""
    nodes = [
        helper.make_node("Transpose", [image], ["served_planes"], perm=[0, 3, 1, 2], name="served_layout"),
        helper.make_node("Cast", ["served_planes"], ["served_floats"], to=TensorProto.FLOAT, name="served_cast"),
    ]
    current = "served_floats"
    if info.colour_order == "BGR":
        nodes.append(helper.make_node("Gather", [current, "served_order"], ["served_colours"], axis=1, name="served_order_of_colours"))
        current = "served_colours"
    nodes.append(helper.make_node("Sub", [current, "served_mean"], ["served_centred"], name="served_mean_subtracted"))
    nodes.append(helper.make_node("Mul", ["served_centred", "served_scale"], [normalised], name="served_scaled"))
    return nodes


def constants(info: CheckpointInfo) -> list[onnx.TensorProto]:
    """What the nodes in front compute with."""
    mean = 255 * np.array(info.normalisation.mean, np.float64).reshape(1, -1, 1, 1)
    scale = 1 / (255 * np.array(info.normalisation.std, np.float64).reshape(1, -1, 1, 1))
    found = [
        numpy_helper.from_array(mean.astype(np.float32), "served_mean"),
        numpy_helper.from_array(scale.astype(np.float32), "served_scale"),
    ]
    if info.colour_order == "BGR":
        found.append(numpy_helper.from_array(np.array([2, 1, 0], np.int64), "served_order"))
    return found
