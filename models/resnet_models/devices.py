"""Which device trains, and in which arithmetic."""

from typing import Literal

import torch

from resnet_models.errors import ResnetModelsError

Precision = Literal["fp32", "bf16"]
PRECISIONS: dict[str, Precision] = {"fp32": "fp32", "bf16": "bf16"}


def pick_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one, else the CPU; raise ResnetModelsError for a device that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda"):
        raise ResnetModelsError(f"device: '{name}' is unknown; expected auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ResnetModelsError("device: cuda was asked for, but torch sees no CUDA device")
    return torch.device(name)


def has_bf16(device: torch.device) -> bool:
    """True where bf16 arithmetic is in the hardware; emulated bf16 is slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def pick_precision(name: str, device: torch.device) -> Precision:
    """`auto` is bf16 where the hardware has it, else fp32; raise ResnetModelsError for another name than auto, fp32 or bf16."""
    if name == "auto":
        return "bf16" if has_bf16(device) else "fp32"
    try:
        return PRECISIONS[name]
    except KeyError:
        raise ResnetModelsError(f"precision: '{name[:40]}' is unknown; expected auto, fp32 or bf16") from None
