"""Which network is exported where a library's own is at hand: ours if it computes the same, else the library's as it is."""

from dataclasses import replace

import torch
from resnet_models.checkpoint import CheckpointInfo, Exportable
from torch import Tensor, nn

from resnet_export.errors import ExportError

CLOSE = 1e-4  # of the logits' spread
TRIED = 4


class LogitsOf(nn.Module):
    """A module whose output is a tensor of logits, whether the module gives that, a tuple or an object with `logits`."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        """FP32 [n, channels, h, w] to FP32 logits [n, classes]; raise ExportError for another output."""
        output = self.module(x)
        output = getattr(output, "logits", output)
        if isinstance(output, dict):
            output = output.get("logits", output)
        if not isinstance(output, Tensor) or output.ndim != 2:
            raise ExportError(f"model: gives {type(output).__name__} {list(getattr(output, 'shape', []))}; expected logits [n, classes]")
        return output


def differ(ours: nn.Module, theirs: nn.Module, info: CheckpointInfo) -> float:
    """The largest difference of a logit on seeded noise and flat pictures, as a share of the logits' spread."""
    generator = torch.Generator().manual_seed(0)
    size, channels = info.input_size, info.channels
    images = torch.randn(TRIED, channels, size, size, generator=generator)
    images[-1] = torch.randn(channels, 1, 1, generator=generator)  # no structure: only borders and bias show
    with torch.inference_mode():
        wanted, actual = theirs.eval()(images), ours.eval()(images)
    if wanted.shape != actual.shape:
        return float("inf")
    return float((wanted - actual).abs().max()) / max(float(wanted.std()), 1e-12)


def settle(ours: nn.Module | None, theirs: nn.Module, info: CheckpointInfo, library: str) -> tuple[Exportable, tuple[str, ...]]:
    """A checkpoint whose reference is `theirs`: with our network where it computes the same, since its graph is leaner."""
    theirs = LogitsOf(theirs.eval())
    info = replace(info, reference=library)
    if ours is not None and differ(ours, theirs, info) <= CLOSE:
        return Exportable(ours.eval(), info, theirs), ()
    note = f"no variant of ours computes what {library} does; its own graph is exported"
    return Exportable(theirs, info, theirs), (note,)
