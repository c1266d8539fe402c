"""The NVIDIA driver through ctypes: how many GPUs there are, what they are called, and page-locked memory.

Functions and values are those of `cuda.h` (CUDA driver API); no package of NVIDIA is needed.
"""

import ctypes
from collections.abc import Callable
from typing import Any

LIBRARY = "libcuda.so.1"
TEXT_BYTES = 128
PORTABLE = 1  # CU_MEMHOSTREGISTER_PORTABLE: page-locked for every context, that of ONNX Runtime too


class DriverError(Exception):
    """The driver is missing, finds no device, or refuses a call."""


class Driver:
    """Calls of an initialised driver; `library` has its functions. Raises DriverError where one fails."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self._call("cuInit", ctypes.c_uint(0))

    @property
    def count(self) -> int:
        """GPUs that this process may use; CUDA_VISIBLE_DEVICES hides the others."""
        count = ctypes.c_int()
        self._call("cuDeviceGetCount", ctypes.byref(count))
        return count.value

    def name(self, index: int) -> str:
        """What the maker calls the GPU."""
        return self._text("cuDeviceGetName", index)

    def pci_bus_id(self, index: int) -> str:
        """`domain:bus:device.function`, by which other libraries know the GPU, whatever CUDA_VISIBLE_DEVICES says."""
        return self._text("cuDeviceGetPCIBusId", index)

    def lock_pages(self, index: int, address: int, size: int) -> Callable[[], None]:
        """Page-lock `size` bytes of this process, so that GPU `index` copies them without a detour; return what undoes it.

        The memory must stay where it is until it is undone.
        """
        device, context, previous = self._device(index), ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)  # the context that ONNX Runtime works in
        self._call("cuCtxPushCurrent_v2", context)
        try:
            self._call("cuMemHostRegister_v2", ctypes.c_void_p(address), ctypes.c_size_t(size), ctypes.c_uint(PORTABLE))
        except DriverError:
            self._library.cuDevicePrimaryCtxRelease_v2(device)
            raise
        finally:
            self._call("cuCtxPopCurrent_v2", ctypes.byref(previous))

        def unlock() -> None:
            """At the end of a process the driver may be gone already: then there is nothing to undo, and no error."""
            self._library.cuCtxPushCurrent_v2(context)
            self._library.cuMemHostUnregister(ctypes.c_void_p(address))
            self._library.cuCtxPopCurrent_v2(ctypes.byref(previous))
            self._library.cuDevicePrimaryCtxRelease_v2(device)

        return unlock

    def _device(self, index: int) -> ctypes.c_int:
        device = ctypes.c_int()
        self._call("cuDeviceGet", ctypes.byref(device), ctypes.c_int(index))
        return device

    def _text(self, function: str, index: int) -> str:
        text = ctypes.create_string_buffer(TEXT_BYTES)
        self._call(function, text, ctypes.c_int(TEXT_BYTES), self._device(index))
        return text.value.decode(errors="replace")

    def _call(self, function: str, *arguments: object) -> None:
        status = getattr(self._library, function)(*arguments)
        if status:
            raise DriverError(f"{function} failed with CUDA error {status}")


def load_driver() -> Driver:
    """Return the driver of this machine; raise DriverError if it is missing or cannot be initialised."""
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise DriverError(f"the NVIDIA driver library is missing ({error})") from None
    return Driver(library)
