"""What a server says of itself, through the Open Inference Protocol."""

import grpc
from resnet_proto import open_inference_pb2 as pb
from resnet_proto.open_inference_pb2_grpc import GRPCInferenceServiceStub

from resnet_bench.errors import BenchError

CONNECT_SECONDS = 5.0


def metadata_of(url: str, model: str, version: str = "") -> pb.ModelMetadataResponse:
    """The model's inputs, outputs and properties; raises BenchError for no answer or a model that is not there."""
    with grpc.insecure_channel(url) as channel:
        stub = GRPCInferenceServiceStub(channel)
        try:
            answer: pb.ModelMetadataResponse = stub.ModelMetadata(
                pb.ModelMetadataRequest(name=model, version=version), timeout=CONNECT_SECONDS
            )
        except grpc.RpcError as error:
            if status_of(error) in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
                raise unreachable(url, error) from None
            raise BenchError(f"model: '{model}' is not served at {url}: {details_of(error)}") from None
    return answer


def unreachable(url: str, error: Exception) -> BenchError:
    """The error to raise where nobody answers."""
    return BenchError(f"url: no server answers at {url} ({status_of(error)})")


def status_of(error: Exception) -> str:
    """The gRPC status of a failed call; the stubs do not know that the error is the call."""
    return error.code().name if isinstance(error, grpc.Call) else "UNKNOWN"


def details_of(error: Exception) -> str:
    """What the server said, on one line."""
    details = error.details() if isinstance(error, grpc.Call) else ""
    return f"{status_of(error)}: {' '.join((details or '').split())}"
