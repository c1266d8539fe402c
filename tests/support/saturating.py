"""INT8 where pairs of products are added in 16 bits, as processors without VNNI do: in NumPy, and on an emulated one.

`vpmaddubsw` multiplies bytes of two neighbouring input channels and adds both products with saturation; the sums are then added in 32 bits.
"""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from resnet_models.checkpoint import load_checkpoint, save_checkpoint
from resnet_models.sample import load_sample
from torch import nn

QEMU = shutil.which("qemu-x86_64")
NO_QEMU = "qemu-x86_64 is not installed"
PROCESSOR = "Haswell"  # AVX2, and neither VNNI nor AVX-512
DOMAIN = "saturating"
CLIPPED_AT = 0.3  # standard deviations: most weights then have one of two values, and neighbouring products add up


def clip_weights(checkpoint: Path, target: Path) -> Path:
    """Write a network whose INT8 saturates: weights clipped, statistics of batch normalisation measured again."""
    found = load_checkpoint(checkpoint)
    normalisation = found.info.normalisation
    for module in found.network.modules():
        if isinstance(module, nn.Conv2d):
            spread = CLIPPED_AT * module.weight.data.std(dim=(1, 2, 3), keepdim=True)
            module.weight.data = module.weight.data.clamp(-spread, spread)
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    pixels = torch.from_numpy(load_sample("calibration").images.transpose(0, 3, 1, 2).copy()).float() / 255
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (normalisation.mean, normalisation.std))
    found.network.train()
    with torch.no_grad():
        found.network((pixels - mean) / std)
    save_checkpoint(target, found.network.eval(), replace(found.info, accuracy=None, accuracy_images=""))
    return target


class PairConv(OpRun):
    """A convolution of UINT8 and INT8 whose products are added by pairs in `bits`."""

    op_domain = DOMAIN

    def _run(self, x: Any, scale: Any, zero: Any, weight: Any, scales: Any, bias: Any = None, **how: Any) -> tuple[Any]:
        strides, pads, bits = how["strides"], how["pads"], how["bits"]
        assert (x.dtype, weight.dtype) == (np.uint8, np.int8)
        edges = ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3]))
        padded = np.pad(x, edges, constant_values=zero).astype(np.int32).transpose(0, 2, 3, 1)
        weights = weight.astype(np.int32)
        height, width = ((padded.shape[1 + axis] - weight.shape[2 + axis]) // strides[axis] + 1 for axis in (0, 1))
        total = np.zeros((len(x), height, width, len(weight)), np.int32)
        places = list(np.ndindex(*weight.shape[2:], weight.shape[1]))  # channels run fastest, as in the kernels
        for first in range(0, len(places), 2):
            pair = np.zeros_like(total)
            for row, column, channel in places[first : first + 2]:
                rows = slice(row, row + (height - 1) * strides[0] + 1, strides[0])
                columns = slice(column, column + (width - 1) * strides[1] + 1, strides[1])
                pair += padded[:, rows, columns, channel, None] * weights[:, channel, row, column]
            total += np.clip(pair, -(1 << (bits - 1)), (1 << (bits - 1)) - 1)
        total -= int(zero) * weights.sum((1, 2, 3))
        found = total.astype(np.float32) * (np.float32(scale) * scales) + (0 if bias is None else bias)
        return (found.transpose(0, 3, 1, 2).astype(np.float32),)


def logits_with_pairs(path: Path, images: NDArray[np.uint8], bits: int) -> NDArray[np.float32]:
    """FP32 [n, classes] of an INT8 file where pairs of products are added in so many bits."""
    model = onnx.load(path)
    made_by = {node.output[0]: node for node in model.graph.node}
    for node in model.graph.node:
        sources = [made_by.get(name) for name in node.input[:2]]
        if node.op_type != "Conv" or any(source is None or source.op_type != "DequantizeLinear" for source in sources):
            continue
        pixels, weights = (list(source.input) for source in sources if source is not None)
        known = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        assert known["group"] == 1
        node.input[:] = [*pixels, *weights[:2], *node.input[2:]]
        node.op_type, node.domain = "PairConv", DOMAIN
        del node.attribute[:]
        node.attribute.extend(helper.make_attribute(name, known[name]) for name in ("strides", "pads"))
        node.attribute.append(helper.make_attribute("bits", bits))
    model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    computed: Any = ReferenceEvaluator(model, new_ops=[PairConv]).run(None, {"image": images})
    return np.asarray(computed[0], np.float32)


def on_haswell(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run this Python on an emulated processor without VNNI: ONNX Runtime then takes its AVX2 kernels."""
    assert QEMU is not None
    command = [QEMU, "-cpu", PROCESSOR, sys.executable, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    done.stderr = "".join(line for line in done.stderr.splitlines(keepends=True) if "qemu-x86_64: warning" not in line)
    return done
