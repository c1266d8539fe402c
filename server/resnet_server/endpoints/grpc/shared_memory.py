"""SystemSharedMemory... and CudaSharedMemory...: regions that callers on this machine register.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_shared_memory.md
"""

from resnet_proto import open_inference_pb2 as pb

from resnet_server.endpoints.error_status import Border, Context
from resnet_server.endpoints.shared_memory import SharedRegions
from resnet_server.errors import NotEnabledError

NO_CUDA = "CudaSharedMemoryRegister: this server reads no memory of GPUs; send the bytes, or register system shared memory"


class SharedMemoryService:
    """`regions` is None unless `--allow-shared-memory` is given. There never is a region of a GPU: none can be registered."""

    def __init__(self, border: Border, regions: SharedRegions | None) -> None:
        self._border = border
        self._regions = regions
        self.names = () if regions is None else ("system_shared_memory",)

    async def SystemSharedMemoryStatus(
        self, request: pb.SystemSharedMemoryStatusRequest, context: Context
    ) -> pb.SystemSharedMemoryStatusResponse:
        """The regions, or one."""
        async with self._border.call("SystemSharedMemoryStatus", context):
            found = self._allowed("SystemSharedMemoryStatus").status(request.name)
        kind = pb.SystemSharedMemoryStatusResponse.RegionStatus
        regions = {one.name: kind(name=one.name, key=one.key, offset=one.offset, byte_size=one.size) for one in found}
        return pb.SystemSharedMemoryStatusResponse(regions=regions)

    async def SystemSharedMemoryRegister(
        self, request: pb.SystemSharedMemoryRegisterRequest, context: Context
    ) -> pb.SystemSharedMemoryRegisterResponse:
        """See `SharedRegions.register`."""
        async with self._border.call("SystemSharedMemoryRegister", context):
            self._allowed("SystemSharedMemoryRegister").register(request.name, request.key, request.offset, request.byte_size)
        return pb.SystemSharedMemoryRegisterResponse()

    async def SystemSharedMemoryUnregister(
        self, request: pb.SystemSharedMemoryUnregisterRequest, context: Context
    ) -> pb.SystemSharedMemoryUnregisterResponse:
        """See `SharedRegions.unregister`."""
        async with self._border.call("SystemSharedMemoryUnregister", context):
            self._allowed("SystemSharedMemoryUnregister").unregister(request.name)
        return pb.SystemSharedMemoryUnregisterResponse()

    async def CudaSharedMemoryStatus(
        self, request: pb.CudaSharedMemoryStatusRequest, context: Context
    ) -> pb.CudaSharedMemoryStatusResponse:
        """There are none."""
        async with self._border.call("CudaSharedMemoryStatus", context):
            self._allowed("CudaSharedMemoryStatus")
        return pb.CudaSharedMemoryStatusResponse()

    async def CudaSharedMemoryRegister(
        self, request: pb.CudaSharedMemoryRegisterRequest, context: Context
    ) -> pb.CudaSharedMemoryRegisterResponse:
        """Always refused."""
        async with self._border.call("CudaSharedMemoryRegister", context):
            raise NotEnabledError(NO_CUDA)

    async def CudaSharedMemoryUnregister(
        self, request: pb.CudaSharedMemoryUnregisterRequest, context: Context
    ) -> pb.CudaSharedMemoryUnregisterResponse:
        """Nothing to forget: Triton's clients ask for it before they begin."""
        async with self._border.call("CudaSharedMemoryUnregister", context):
            self._allowed("CudaSharedMemoryUnregister")
        return pb.CudaSharedMemoryUnregisterResponse()

    def _allowed(self, method: str) -> SharedRegions:
        if self._regions is None:
            raise NotEnabledError(f"{method}: shared memory is closed; start the server with --allow-shared-memory")
        return self._regions
