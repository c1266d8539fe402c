"""Devices and the NVIDIA driver; the driver's library is replaced, since its answers are what matters here."""

import ctypes
import json
import os
from dataclasses import astuple
from typing import Any

import onnxruntime
import pytest
from resnet_server.engines import device as device_module
from resnet_server.engines.api import CPU_PROVIDER, CUDA_PROVIDER, Device
from resnet_server.engines.device import (
    TF32_SWITCH,
    cuda_devices,
    cuda_obstacle,
    parse_device_ids,
    pick_device,
    pick_devices,
    preload_libraries,
)
from resnet_server.engines.gpu.driver import Driver, DriverError
from resnet_server.engines.gpu.memory import GpuMemory, MemoryUse, open_gpu_memory
from resnet_server.errors import StartError

INVALID_VALUE, NO_DEVICE, ALREADY_REGISTERED = 1, 100, 712
NAMES = ("NVIDIA H100 PCIe", "NVIDIA L4")


class FakeCuda:
    """libcuda with two GPUs; remembers what is done with contexts and memory."""

    def __init__(self, names: tuple[str, ...] = NAMES, init: int = 0, register: int = 0) -> None:
        self.names, self.init, self.register = names, init, register
        self.calls: list[str] = []

    def cuInit(self, flags: ctypes.c_uint) -> int:  # noqa: N802  # the driver's names
        return self.init

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = len(self.names)
        return 0

    def cuDeviceGet(self, device: Any, index: ctypes.c_int) -> int:  # noqa: N802
        device._obj.value = 10 + index.value  # a handle is not a number of a GPU
        return 0 if index.value < len(self.names) else INVALID_VALUE

    def cuDeviceGetName(self, text: Any, size: ctypes.c_int, device: ctypes.c_int) -> int:  # noqa: N802
        text.value = self.names[device.value - 10].encode()
        return 0

    def cuDeviceGetPCIBusId(self, text: Any, size: ctypes.c_int, device: ctypes.c_int) -> int:  # noqa: N802
        text.value = f"0000:{device.value:02x}:00.0".encode()
        return 0

    def __getattr__(self, name: str) -> Any:
        if not name.startswith(("cuDevicePrimaryCtx", "cuCtx", "cuMemHost")):
            raise AttributeError(name)

        def call(*arguments: Any) -> int:
            self.calls.append(name)
            return self.register if name == "cuMemHostRegister_v2" else 0

        return call


class FakeNvml:
    """libnvidia-ml that knows the GPUs by their place on the bus."""

    def __init__(self, bus_id: bytes, broken: bool = False) -> None:
        self.bus_id, self.broken = bus_id, broken

    def nvmlInit_v2(self) -> int:  # noqa: N802
        return 0

    def nvmlDeviceGetHandleByPciBusId_v2(self, bus_id: ctypes.c_char_p, handle: Any) -> int:  # noqa: N802
        handle._obj.value = 77
        return 0 if bus_id.value == self.bus_id else 6

    def nvmlDeviceGetMemoryInfo(self, handle: ctypes.c_void_p, memory: Any) -> int:  # noqa: N802
        assert handle.value == 77
        memory._obj.total, memory._obj.free, memory._obj.used = 80, 50, 30
        return int(self.broken)


def test_every_gpu_is_a_device_unless_numbers_are_given() -> None:
    driver = Driver(FakeCuda())
    assert [(device.id, device.name) for device in cuda_devices(driver, (), "why")] == list(enumerate(NAMES))
    (only,) = cuda_devices(driver, (1,), "why")
    assert only == Device("cuda", CUDA_PROVIDER, "why", 1, "NVIDIA L4")
    assert str(only) == "cuda:1 (NVIDIA L4)"
    assert [device.id for device in cuda_devices(driver, (1, 0), "why")] == [1, 0]


@pytest.mark.parametrize(
    ("names", "ids", "expected"),
    [
        (NAMES, (0, 2, 5), "devices: 2, 5 not here; there are 2 GPUs, numbers 0 to 1"),
        (NAMES[:1], (1,), "devices: 1 not here; there is 1 GPU, number 0"),
    ],
)
def test_a_number_without_a_gpu_is_named_with_how_many_there_are(names: tuple[str, ...], ids: tuple[int, ...], expected: str) -> None:
    with pytest.raises(StartError) as caught:
        cuda_devices(Driver(FakeCuda(names)), ids, "why")
    assert str(caught.value) == expected


@pytest.mark.parametrize(("text", "ids"), [("", ()), ("0", (0,)), ("2, 0", (2, 0)), ("0,1,", (0, 1))])
def test_numbers_of_gpus_are_parsed(text: str, ids: tuple[int, ...]) -> None:
    assert parse_device_ids(text) == ids


@pytest.mark.parametrize("text", ["cuda:0", "-1", "0,0", "0,00", "1.5", "²"])
def test_other_texts_are_refused_with_what_was_expected(text: str) -> None:
    with pytest.raises(StartError, match="expected different numbers of GPUs separated by commas, such as 0,1"):
        parse_device_ids(text)


def test_numbers_of_gpus_contradict_the_cpu() -> None:
    with pytest.raises(StartError, match="devices: 0, 1 are GPUs, but --device is cpu"):
        pick_devices("cpu", (0, 1))
    assert pick_devices("cpu") == (Device("cpu", CPU_PROVIDER, "asked for"),)
    with pytest.raises(StartError, match="device: 'tpu' is unknown"):
        pick_device("tpu")


def test_what_is_asked_for_by_name_or_number_does_not_fall_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "cuda_obstacle", lambda: "it is a toaster")
    assert pick_device("auto") == Device("cpu", CPU_PROVIDER, "no CUDA: it is a toaster")
    with pytest.raises(StartError, match="device: cuda cannot run here: it is a toaster"):
        pick_device("cuda")
    with pytest.raises(StartError, match="devices: 0, 1 cannot run here: it is a toaster"):
        pick_devices("auto", (0, 1))


def test_devices_are_picked_from_the_driver_where_cuda_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "cuda_obstacle", lambda: None)
    monkeypatch.setattr(device_module, "load_driver", lambda: Driver(FakeCuda()))
    assert [device.name for device in pick_devices("auto")] == list(NAMES)
    assert pick_device("auto").reason == "CUDA runs here"
    assert pick_devices("auto", (1,))[0].reason == "asked for"


def test_the_obstacle_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def obstacle(providers: list[str], driver: Any) -> str | None:
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
        monkeypatch.setattr(device_module, "load_driver", driver)
        return cuda_obstacle()

    def missing() -> Driver:
        raise DriverError("the NVIDIA driver library is missing (libcuda.so.1)")

    assert "a build without CUDA; install onnxruntime-gpu" in str(obstacle([CPU_PROVIDER], missing))
    assert obstacle([CUDA_PROVIDER], missing) == "the NVIDIA driver library is missing (libcuda.so.1)"
    assert obstacle([CUDA_PROVIDER], lambda: Driver(FakeCuda(()))) == "the NVIDIA driver finds no device"
    assert obstacle([CUDA_PROVIDER], lambda: Driver(FakeCuda(init=NO_DEVICE))) == "cuInit failed with CUDA error 100"


def test_tf32_is_off_before_nvidias_libraries_load_and_stdout_stays_clean(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[str | None, str]] = []

    def preload(directory: str) -> None:
        seen.append((os.environ.get(TF32_SWITCH), directory))
        print("Failed to load libcublas.so")

    monkeypatch.delenv(TF32_SWITCH, raising=False)
    monkeypatch.setattr(onnxruntime, "preload_dlls", preload)
    preload_libraries()
    assert seen == [("0", "")]
    assert capfd.readouterr().out == ""
    monkeypatch.setenv(TF32_SWITCH, "1")  # whoever sets it knows why
    preload_libraries()
    assert seen[1] == ("1", "")


def test_a_device_crosses_a_process_border() -> None:
    device = Device("cuda", CUDA_PROVIDER, "asked for", 1, "NVIDIA L4")
    assert Device(*json.loads(json.dumps(astuple(device)))) == device


def test_pages_are_locked_in_the_context_of_onnx_runtime_and_unlocked() -> None:
    cuda = FakeCuda()
    unlock = Driver(cuda).lock_pages(0, 4096, 8192)
    assert cuda.calls == ["cuDevicePrimaryCtxRetain", "cuCtxPushCurrent_v2", "cuMemHostRegister_v2", "cuCtxPopCurrent_v2"]
    cuda.calls.clear()
    unlock()
    assert cuda.calls == ["cuCtxPushCurrent_v2", "cuMemHostUnregister", "cuCtxPopCurrent_v2", "cuDevicePrimaryCtxRelease_v2"]


def test_pages_that_cannot_be_locked_leave_nothing_behind() -> None:
    cuda = FakeCuda(register=ALREADY_REGISTERED)
    with pytest.raises(DriverError, match="cuMemHostRegister_v2 failed with CUDA error 712"):
        Driver(cuda).lock_pages(0, 4096, 8192)
    assert cuda.calls[-2:] == ["cuDevicePrimaryCtxRelease_v2", "cuCtxPopCurrent_v2"]


def test_memory_is_read_from_the_gpu_at_the_drivers_place_on_the_bus() -> None:
    driver = Driver(FakeCuda())
    assert GpuMemory(FakeNvml(b"0000:0b:00.0"), driver, 1).read() == MemoryUse(30, 80)
    assert GpuMemory(FakeNvml(b"0000:0a:00.0", broken=True), driver, 0).read() == MemoryUse(0, 0)
    with pytest.raises(DriverError, match=r"GPU 0 at 0000:0a:00\.0 is unknown to NVML"):
        GpuMemory(FakeNvml(b"0000:0b:00.0"), driver, 0)


@pytest.mark.skipif(cuda_obstacle() is None, reason="there is a GPU")
def test_there_is_no_gpu_memory_without_a_gpu() -> None:
    assert open_gpu_memory(0) is None
