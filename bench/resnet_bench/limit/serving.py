"""Our server for a benchmark: started on one network, with its addresses and processes at hand."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc
from resnet_proto import classifier_pb2 as pb
from resnet_proto.classifier_pb2_grpc import ClassifierStub

from resnet_bench.errors import BenchError
from resnet_bench.limit.call import status_of
from resnet_bench.server_process import Target, started

CONNECT_SECONDS = 10.0
LARGEST_QUEUE = 2048  # the server's default


@dataclass(frozen=True)
class Serving:
    """Where it listens, its process, and the precision it chose."""

    url: str
    metrics_url: str
    pid: int
    precision: str
    provider: str


@contextmanager
def serving(repository: Path, model: str, precision: str, rows_at_once: int, extra: tuple[str, ...] = ()) -> Iterator[Serving]:
    """Start the server on one network; its queue holds `rows_at_once`, since a closed loop never sends more.

    It measures its plan anew: one that was kept may come from a time when the machine was busy. Raises BenchError if it does not
    start.
    """
    queue = ("--max-queue-rows", str(rows_at_once)) if rows_at_once > LARGEST_QUEUE else ()
    with TemporaryDirectory(prefix="resnet-bench-plans-") as plans:
        options = ("--models", model, "--precision", precision, "--plan-cache", plans, *queue, *extra)
        with started(repository, options) as target:
            yield _described(target, model)


def _described(target: Target, model: str) -> Serving:
    if target.pid is None or target.metrics_url is None:
        raise BenchError("server: its process or its metrics are not known")
    served = _ask(target.url, model)
    return Serving(target.url, target.metrics_url, target.pid, served.precision, served.provider)


def _ask(url: str, model: str) -> pb.ServedModel:
    with grpc.insecure_channel(url) as channel:
        try:
            models = ClassifierStub(channel).ListModels(pb.ListModelsRequest(), timeout=CONNECT_SECONDS, wait_for_ready=True).models
        except grpc.RpcError as error:
            raise BenchError(f"server: it does not list its models: {status_of(error)}") from None
    found = next((served for served in models if served.name == model and served.state == pb.ServedModel.STATE_READY), None)
    if found is None:
        reason = next((served.reason for served in models if served.name == model), "it is not there")
        raise BenchError(f"models: {model} is not served: {reason}")
    return found
