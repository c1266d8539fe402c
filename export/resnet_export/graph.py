"""The served graph: `image` UINT8 [batch, h, w, channels] in, `logits` FP32 [batch, classes] out, and nothing it can do without."""

import copy
import io
import itertools
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import onnx
import torch
from resnet_models.blocks import PadShortcut
from resnet_models.checkpoint import Exportable
from resnet_models.network import ResNet
from resnet_models.normalisation import Normalisation
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from resnet_export.errors import ExportError
from resnet_export.onnx_folding import fold, to_half
from resnet_export.sources.onnx import OnnxNetwork

INPUT, OUTPUT = "image", "logits"


class ServingGraph(nn.Module):
    """The network with layout and normalisation inside, and the arithmetic that can be done beforehand done.

    Batch normalisation is folded into the convolutions, and the division by 255 * std into the first one's weights.
    The mean is subtracted in the graph, before the first convolution pads: folded into a bias it would be wrong at
    the border, where the padding is zero after normalisation. A network trained on BGR gets its first weights turned around.
    Option A's slice and pad become a 1x1 convolution of ones and zeros, which ONNX Runtime fuses with the addition (6 % faster
    on CPU, docs/decisions/0001-lean-graph.md).
    """

    mean: Tensor

    def __init__(self, network: ResNet, normalisation: Normalisation, colour_order: str = "RGB") -> None:
        super().__init__()
        folded = copy.deepcopy(network).eval().cpu()
        fold_batch_norms(folded)
        if isinstance(folded.conv1, nn.Sequential) and isinstance(folded.bn1, nn.BatchNorm2d):
            folded.conv1[-1], folded.bn1 = fuse_conv_bn_eval(folded.conv1[-1], folded.bn1), nn.Identity()  # type: ignore[type-var]  # a Conv2d
        for block in folded.blocks():
            if isinstance(block.downsample, PadShortcut):
                block.downsample = as_convolution(block.downsample)
        scale = 255 * torch.tensor(normalisation.std).view(1, -1, 1, 1)
        weight = (folded.first_conv.weight.double() / scale).float()
        folded.first_conv.weight.data = weight.flip(1) if colour_order == "BGR" else weight
        mean = 255 * torch.tensor(normalisation.mean).view(1, -1, 1, 1)
        self.network = folded
        self.register_buffer("mean", mean.flip(1) if colour_order == "BGR" else mean)

    def forward(self, image: Tensor) -> Tensor:
        """UINT8 [n, h, w, channels] to FP32 logits [n, classes]."""
        return self.classify(self.network.features(image.permute(0, 3, 1, 2).float() - self.mean))

    def classify(self, features: Tensor) -> Tensor:
        """Pool and classify; the network's own pooling is traced into a dozen nodes of index arithmetic, a mean is one."""
        return self.network.fc(features.mean((2, 3)))  # type: ignore[no-any-return]  # nn.Module.__call__ is Any


class HalfGraph(ServingGraph):
    """Weights and activations in fp16; the input's mean is subtracted in fp32, where bytes are exact, and logits are FP32."""

    def __init__(self, network: ResNet, normalisation: Normalisation, colour_order: str = "RGB") -> None:
        super().__init__(network, normalisation, colour_order)
        self.network.half()  # the mean stays in fp32

    def forward(self, image: Tensor) -> Tensor:
        """UINT8 [n, h, w, channels] to FP32 logits [n, classes]."""
        centred = (image.permute(0, 3, 1, 2).float() - self.mean).half()
        return self.classify(self.network.features(centred)).float()


class PlainGraph(nn.Module):
    """Any network as it is, with normalisation in front: for modules that are not of this family, and for comparison."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, normalisation: Normalisation, colour_order: str = "RGB", *, half: bool = False) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).eval().cpu()
        self.half_precision = half
        if half:
            self.network.half()
        self.turned = colour_order == "BGR"
        self.register_buffer("mean", torch.tensor(normalisation.mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(normalisation.std).view(1, -1, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """UINT8 [n, h, w, channels] to FP32 logits [n, classes]."""
        planes = image.permute(0, 3, 1, 2).float()
        normalised = ((planes.flip(1) if self.turned else planes) / 255 - self.mean) / self.std
        logits: Tensor = self.network(normalised.half() if self.half_precision else normalised)
        return logits.float()


def serving_graph(checkpoint: Exportable, *, half: bool = False) -> nn.Module:
    """The lean graph of a network of this family, the plain one of any other module."""
    info, network = checkpoint.info, checkpoint.network
    if isinstance(network, ResNet):
        return (HalfGraph if half else ServingGraph)(network, info.normalisation, info.colour_order)
    return PlainGraph(network, info.normalisation, info.colour_order, half=half)


def write_graph(checkpoint: Exportable, path: Path, *, half: bool = False, plain: bool = False) -> None:
    """Write the served graph to `path`, or with `plain` the graph exported without care; raise ExportError where it cannot be made."""
    info, network = checkpoint.info, checkpoint.network
    if isinstance(network, OnnxNetwork):
        fold(network.path, info, path, INPUT, OUTPUT)
        if half:
            to_half(path)
        return
    graph = PlainGraph(network, info.normalisation, info.colour_order) if plain else serving_graph(checkpoint, half=half)
    try:
        export_onnx(graph, info.input_size, path, info.channels)
    except Exception as error:  # torch.export raises a type of its own for every construct that it cannot trace
        if isinstance(network, ResNet):
            raise
        reason = " ".join(str(error).split())[:400]
        raise ExportError(f"model: {info.variant} cannot be traced by torch.export: {reason}") from None


def as_convolution(shortcut: PadShortcut) -> nn.Conv2d:
    """A 1x1 convolution with stride that copies each channel to its padded place."""
    channels = shortcut.in_channels
    copied = channels + shortcut.before + shortcut.after
    conv = nn.Conv2d(channels, copied, kernel_size=1, stride=shortcut.stride, bias=False)
    places = torch.arange(channels)
    conv.weight.data.zero_()
    conv.weight.data[places + shortcut.before, places] = 1
    return conv


def fold_batch_norms(module: nn.Module) -> None:
    """Replace every convolution that a batch normalisation follows by one with the same result, in place."""
    for name, following in itertools.pairwise(list(module._modules)):
        conv, norm = module._modules[name], module._modules[following]
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(module, name, fuse_conv_bn_eval(conv, norm))
            setattr(module, following, nn.Identity())
    for child in module.children():
        fold_batch_norms(child)


def opset_of(path: Path) -> int:
    """The version of ONNX's own operators that a file uses."""
    return int(next(entry.version for entry in onnx.load(path).opset_import if entry.domain in ("", "ai.onnx")))


def export_onnx(graph: nn.Module, size: int, path: Path, channels: int = 3) -> None:
    """Trace `graph` with torch.export, dynamic in the batch, and write one self-contained file."""
    example = torch.zeros(2, size, size, channels, dtype=torch.uint8)
    with _quiet():
        program = torch.onnx.export(
            graph,
            (example,),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            verbose=False,
        )
    program.save(str(path), external_data=False)  # type: ignore[union-attr]  # None only where a path was given above
    onnx.checker.check_model(onnx.load(path), full_check=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter reports its own deprecations and passes; users are told of the result instead."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.onnx._internal", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
