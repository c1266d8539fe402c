"""What is recorded of a training run beside its result: all that "reproduce" depends on."""

import platform
from dataclasses import dataclass, field
from pathlib import Path

import torch

CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class TrainingRecord:
    """How a checkpoint was trained.

    `planned_epochs` is the length the schedule was made for (a checkpoint saved before has fewer done); `rows_sha256` the digest of
    the training images; `precision` fp32 or bf16; `device` cpu or cuda; `seconds` of training alone; `train_error` in percent on the
    un-augmented training images in eval mode after the last epoch (None before).
    """

    dataset: str
    planned_epochs: int
    rows_sha256: str
    precision: str
    device: str
    hardware: str
    threads: int
    torch_version: str
    train_error: float | None = None
    seconds: float = field(default=0.0, compare=False)  # two runs that are equal to the bit take their own time


def hardware_name(device: torch.device) -> str:
    """The processor's or the GPU's name, as it gives it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if CPU_INFO.exists():
        for line in CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
