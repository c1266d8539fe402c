"""The one error of the client."""

import grpc


class ClientError(Exception):
    """A call that failed; `status` is gRPC's, INVALID_ARGUMENT where the client itself refused the input."""

    def __init__(self, status: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.status = status

    def __str__(self) -> str:
        return f"{self.status.name}: {self.args[0]}"


def from_rpc(error: grpc.RpcError, url: str) -> ClientError:
    """Translate a failed call, saying which server was asked where that is the point."""
    code = error.code() if isinstance(error, grpc.Call | grpc.aio.AioRpcError) else grpc.StatusCode.UNKNOWN
    details = (error.details() if isinstance(error, grpc.Call | grpc.aio.AioRpcError) else None) or ""
    if code is grpc.StatusCode.UNAVAILABLE and ("connect" in details or "resolution" in details.lower() or "DNS" in details):
        return ClientError(code, f"no server answers at {url} ({details.rpartition(': ')[2] or details})")
    return ClientError(code, details)
