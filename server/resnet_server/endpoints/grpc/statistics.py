"""ModelStatistics: how often and how long, since the process started.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_statistics.md
"""

from resnet_proto import open_inference_pb2 as pb

from resnet_server.endpoints.error_status import Border, Context
from resnet_server.metrics.metrics import Metrics
from resnet_server.metrics.statistics import Duration, ModelCounts
from resnet_server.models.registry import Registry

NANOSECONDS, MILLISECONDS = 1e9, 1e3


class StatisticsService:
    """Of this process: each of several front ends answers for the calls that it took."""

    names = ("statistics",)

    def __init__(self, registry: Registry, border: Border, metrics: Metrics) -> None:
        self._registry = registry
        self._border = border
        self._metrics = metrics

    async def ModelStatistics(self, request: pb.ModelStatisticsRequest, context: Context) -> pb.ModelStatisticsResponse:
        """Of all models, of all versions of one, or of one version."""
        async with self._border.call("ModelStatistics", context):
            self._registry.check_open()
            if request.name:
                self._registry.find(request.name, request.version)  # raises for what is not served
            self._metrics.buffer.settle()
            keys = dict.fromkeys((model.name, model.version) for model in self._registry.ready)
            chosen = [key for key in keys if request.name in ("", key[0]) and request.version in ("", key[1])]
            return pb.ModelStatisticsResponse(model_stats=[message(key, self._metrics.statistics.of(key)) for key in chosen])


def message(key: tuple[str, str], counts: ModelCounts) -> pb.ModelStatistics:
    """As the protocol has it; `last_inference` in milliseconds since 1970."""
    return pb.ModelStatistics(
        name=key[0],
        version=key[1],
        last_inference=round(counts.last * MILLISECONDS),
        inference_count=counts.images,
        execution_count=counts.executions,
        inference_stats=pb.InferStatistics(
            success=duration(counts.success),
            fail=duration(counts.fail),
            queue=duration(counts.queue),
            compute_input=untimed(counts.compute),
            compute_infer=duration(counts.compute),
            compute_output=untimed(counts.compute),
            cache_hit=duration(counts.cache_hit),
            cache_miss=duration(counts.cache_miss),
        ),
        batch_stats=[batch_message(rows, batch) for rows, batch in sorted(counts.batches.items()) if batch.count],
    )


def batch_message(rows: int, batch: Duration) -> pb.InferBatchStatistics:
    """Of the batches of one size."""
    copied = untimed(batch)
    return pb.InferBatchStatistics(batch_size=rows, compute_input=copied, compute_infer=duration(batch), compute_output=copied)


def untimed(of: Duration) -> pb.StatisticDuration:
    """Input and output are copied by whoever computes, in its time; Triton's perf_analyzer ends where they are not as many."""
    return pb.StatisticDuration(count=of.count)


def duration(of: Duration) -> pb.StatisticDuration:
    """In nanoseconds."""
    return pb.StatisticDuration(count=of.count, ns=round(of.seconds * NANOSECONDS))
