"""Memory of a GPU, from NVML, which needs no CUDA context: a context would itself take hundreds of megabytes of it."""

import ctypes
from dataclasses import dataclass
from typing import Any

from resnet_server.engines.gpu.driver import Driver, DriverError, load_driver

LIBRARY = "libnvidia-ml.so.1"


class _Memory(ctypes.Structure):
    """`nvmlMemory_t` of nvml.h."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


@dataclass(frozen=True)
class MemoryUse:
    """Bytes of a whole GPU, whoever uses them."""

    used: int
    total: int


class GpuMemory:
    """Reads the memory of the driver's GPU `index`; raises DriverError where NVML does not know it."""

    def __init__(self, library: Any, driver: Driver, index: int) -> None:
        self._library = library
        self._handle = ctypes.c_void_p()
        if status := library.nvmlInit_v2():
            raise DriverError(f"nvmlInit_v2 failed with NVML error {status}")
        bus_id = driver.pci_bus_id(index)
        if status := library.nvmlDeviceGetHandleByPciBusId_v2(ctypes.c_char_p(bus_id.encode()), ctypes.byref(self._handle)):
            raise DriverError(f"GPU {index} at {bus_id} is unknown to NVML (error {status})")

    def read(self) -> MemoryUse:
        """The memory now; zeros where NVML does not tell, so that one failed reading spoils no scrape."""
        memory = _Memory()
        if self._library.nvmlDeviceGetMemoryInfo(self._handle, ctypes.byref(memory)):
            return MemoryUse(0, 0)
        return MemoryUse(memory.used, memory.total)


def open_gpu_memory(index: int) -> GpuMemory | None:
    """The memory of GPU `index`, or None where there is no driver or no NVML."""
    try:
        return GpuMemory(ctypes.CDLL(LIBRARY), load_driver(), index)
    except (OSError, DriverError):
        return None
