"""Memory and use of the NVIDIA GPUs as Prometheus metrics on port 8003, read from the driver's own library (NVML) at every scrape."""

import ctypes
import sys
import threading
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

PORT = 8003
NAME_BYTES = 96  # NVML_DEVICE_NAME_V2_BUFFER_SIZE


class Memory(ctypes.Structure):
    """NVML's nvmlMemory_t: bytes."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class Utilisation(ctypes.Structure):
    """NVML's nvmlUtilization_t: percent of the last sample period in which a kernel ran, or memory was read or written."""

    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class Nvml:
    """The library, initialised."""

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL("libnvidia-ml.so.1")
        except OSError as error:
            sys.exit(f"gpu-metrics: the driver's library is missing ({error}); does the container have a GPU?")
        self._call("nvmlInit_v2")
        count = ctypes.c_uint()
        self._call("nvmlDeviceGetCount_v2", ctypes.byref(count))
        self.devices = [self._device(index) for index in range(count.value)]

    def name(self, device: ctypes.c_void_p) -> str:
        """Such as `NVIDIA H100 80GB HBM3`."""
        buffer = ctypes.create_string_buffer(NAME_BYTES)
        self._call("nvmlDeviceGetName", device, buffer, ctypes.c_uint(NAME_BYTES))
        return buffer.value.decode(errors="replace")

    def memory(self, device: ctypes.c_void_p) -> tuple[int, int]:
        """Bytes used and in all."""
        memory = Memory()
        self._call("nvmlDeviceGetMemoryInfo", device, ctypes.byref(memory))
        return memory.used, memory.total

    def utilisation(self, device: ctypes.c_void_p) -> float:
        """Share of time in which a kernel ran, 0..1."""
        utilisation = Utilisation()
        self._call("nvmlDeviceGetUtilizationRates", device, ctypes.byref(utilisation))
        return float(utilisation.gpu) / 100

    def _device(self, index: int) -> ctypes.c_void_p:
        device = ctypes.c_void_p()
        self._call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(device))
        return device

    def _call(self, function: str, *arguments: object) -> None:
        if status := getattr(self._library, function)(*arguments):
            raise OSError(f"{function}: NVML status {status}")


class GpuCollector(Collector):
    """Reads every GPU when Prometheus asks."""

    def __init__(self, nvml: Nvml) -> None:
        self._nvml = nvml

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Bytes and shares by GPU."""
        labels = ("gpu", "name")
        used = GaugeMetricFamily("resnet_gpu_memory_used_bytes", "GPU memory in use, by all processes.", labels=labels)
        total = GaugeMetricFamily("resnet_gpu_memory_total_bytes", "GPU memory in all.", labels=labels)
        busy = GaugeMetricFamily("resnet_gpu_busy_ratio", "Share of time in which a kernel ran, 0..1.", labels=labels)
        for index, device in enumerate(self._nvml.devices):
            values = (str(index), self._nvml.name(device))
            in_use, size = self._nvml.memory(device)
            used.add_metric(values, in_use)
            total.add_metric(values, size)
            busy.add_metric(values, self._nvml.utilisation(device))
        yield from (used, total, busy)


def main() -> None:
    """Serve until the container stops."""
    registry = CollectorRegistry()
    registry.register(GpuCollector(Nvml()))
    start_http_server(PORT, registry=registry)
    threading.Event().wait()


if __name__ == "__main__":
    main()
