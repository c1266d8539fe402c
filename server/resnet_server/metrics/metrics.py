"""All Prometheus metrics of the server, in base units."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from resnet_server.metrics.buffer import MetricsBuffer
from resnet_server.metrics.statistics import Statistics

# 0.5 ms to 10 s in steps of at most 2.5: resolves a CIFAR network on a GPU and a queue at its deadline alike.
SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# 10 us to 0.5 s: how far a prediction is off.
SECONDS_OFF = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.5)
# From float's own error to another network's opinion.
LOGITS_OFF = (1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
# Powers of two, as batches are bucketed.
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

MOST_GONE = 16
"""Versions that are out of service and whose counters are still shown: a repository that goes on for years must not fill the page."""

MODEL = ("model", "version")
COMPUTED = (*MODEL, "precision")


class Metrics:
    """The metrics, registered with an injected registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a start time beside every counter doubles the page
        self.registry = registry
        self.buffer = MetricsBuffer()
        self.statistics = Statistics()
        registry.register(self.buffer)
        self.requests = Counter("resnet_requests", "Calls by outcome.", (*MODEL, "method", "status"), registry=registry)
        self.request_seconds = Histogram(
            "resnet_request_seconds",
            "From the arrival of a call to its answer; answered calls only.",
            (*MODEL, "method"),
            buckets=SECONDS,
            registry=registry,
        )
        self.queue_seconds = Histogram(
            "resnet_queue_seconds", "From joining the queue to the batch.", COMPUTED, buckets=SECONDS, registry=registry
        )
        self.compute_seconds = Histogram(
            "resnet_compute_seconds", "Batch time in the engine.", COMPUTED, buckets=SECONDS, registry=registry
        )
        self.batch_rows = Histogram("resnet_batch_rows", "Rows in a batch.", COMPUTED, buckets=ROWS, registry=registry)
        self.images = Counter("resnet_images", "Rows computed.", COMPUTED, registry=registry)
        self.queue_rows = Gauge("resnet_queue_rows", "Rows that wait.", COMPUTED, registry=registry)
        self.prediction_error = Histogram(
            "resnet_batch_prediction_error_seconds",
            "Batch time as predicted by the cost model against as measured, absolute.",
            COMPUTED,
            buckets=SECONDS_OFF,
            registry=registry,
        )
        self.engine_restarts = Counter("resnet_engine_restarts", "Engines started again after they died.", COMPUTED, registry=registry)
        self.engine_hung = Counter("resnet_engine_hung", "Engines ended because a batch hung in them.", COMPUTED, registry=registry)
        self.engines_ready = Gauge("resnet_engines_ready", "Engines that can compute now.", COMPUTED, registry=registry)
        self.engine_memory = Gauge(
            "resnet_engine_resident_memory_bytes", "Resident memory of the engines' processes.", COMPUTED, registry=registry
        )
        self.gpu_memory = Gauge("resnet_gpu_memory_bytes", "Memory of a GPU, whoever uses it.", ("device", "kind"), registry=registry)
        self.plan_info = Gauge(
            "resnet_plan_info",
            "1 for the plan in use.",
            (*COMPUTED, "engines", "threads", "wide_threads", "batch", "runtime"),
            registry=registry,
        )
        self.plan_throughput = Gauge(
            "resnet_plan_images_per_second", "Throughput of the plan as measured at load.", COMPUTED, registry=registry
        )
        self.plan_error = Gauge(
            "resnet_plan_times",
            "Batch time as a multiple of the plan's.",
            COMPUTED,
            registry=registry,
        )
        self.group_images = Counter(
            "resnet_group_images",
            "Images answered under the name of a group, by the member that answered and why it did.",
            (*MODEL, "network", "precision", "reason"),
            registry=registry,
        )
        self.group_switches = Counter(
            "resnet_group_switches",
            "Batches of a group that another member answered than the one before; many under a load between two members.",
            MODEL,
            registry=registry,
        )
        self.group_slow_down = Gauge(
            "resnet_group_slow_down", "Batch time in a group as a multiple of the plan's, as of the last batches.", MODEL, registry=registry
        )
        self.group_serving = Gauge(
            "resnet_group_serving_seconds",
            "Seconds of an engine that an image in a group costs beside its batch, as learned while the queue stood.",
            MODEL,
            registry=registry,
        )
        self.front_end_restarts = Counter("resnet_front_end_restarts", "Front ends started again after they died.", registry=registry)
        self.front_end_memory = Gauge(
            "resnet_front_end_resident_memory_bytes", "Resident memory of front ends in processes of their own.", registry=registry
        )
        self.transport_info = Gauge(
            "resnet_transport_info",
            "1 a process for its gRPC transport, and why.",
            ("transport", "reason"),
            registry=registry,
        )
        self.build_info = Gauge("resnet_build_info", "1 a process: compiled by mypyc, or pure Python.", ("form",), registry=registry)
        self.cache_hits = Counter("resnet_cache_hits", "Calls answered from the cache of answers.", MODEL, registry=registry)
        self.cache_misses = Counter("resnet_cache_misses", "Calls whose answer was not in the cache.", MODEL, registry=registry)
        self.cache_bytes = Gauge("resnet_cache_bytes", "Memory of the answers that are kept.", registry=registry)
        self.shadow_images = Counter(
            "resnet_shadow_images", "Rows that a version in shadow computed and that were compared.", MODEL, registry=registry
        )
        self.shadow_agreed = Counter(
            "resnet_shadow_agreed", "Of these, rows with the same first label as the caller was told.", MODEL, registry=registry
        )
        self.shadow_difference = Histogram(
            "resnet_shadow_difference",
            "Largest absolute difference of the logits of a copied call, against what the caller was told.",
            MODEL,
            buckets=LOGITS_OFF,
            registry=registry,
        )
        self.shadow_difference_max = Gauge(
            "resnet_shadow_difference_max", "The largest of these since the version came into shadow.", MODEL, registry=registry
        )
        self.shadow_dropped = Counter("resnet_shadow_dropped", "Copies that were not compared.", (*MODEL, "reason"), registry=registry)
        self.calls_unwritten = Counter(
            "resnet_calls_unwritten", "Calls that the access log and traces lack, since more came than could be written.", registry=registry
        )
        self.file_readings = Counter(
            "resnet_file_readings",
            "Files read again because they changed; after one that failed, what was read before stays in use.",
            ("files", "result"),
            registry=registry,
        )
        self.held_bytes = Gauge(
            "resnet_held_bytes", "Memory that callers make the server hold: messages, and images in decoding.", ("kind",), registry=registry
        )
        self.held_bytes_limit = Gauge(
            "resnet_held_bytes_limit", "What --max-held-bytes leaves for each kind.", ("kind",), registry=registry
        )
        self.rejects = Counter("resnet_rejects", "Calls not computed, by reason.", (*MODEL, "reason"), registry=registry)
        self.model_info = Gauge(
            "resnet_model_info",
            "1 for each model served; the labels say how.",
            (*COMPUTED, "variant", "provider", "certificate", "certified"),
            registry=registry,
        )
        self.model_refused = Gauge("resnet_model_refused", "1 for each version that is not served.", MODEL, registry=registry)
        self.agreement = Gauge("resnet_certificate_top1_agreement", "Top-1 agreement with PyTorch, 0..1.", COMPUTED, registry=registry)
        self.replay_agreement = Gauge(
            "resnet_replay_top1_agreement",
            "Agreement as replayed here, 0..1.",
            COMPUTED,
            registry=registry,
        )
        self.replay_seconds = Gauge("resnet_replay_seconds", "Time the replay took.", COMPUTED, registry=registry)
        self.load_seconds = Gauge("resnet_model_load_seconds", "Time from opening to warm.", COMPUTED, registry=registry)

        self.on_dropped: list[Callable[[str, str], None]] = []
        """Told of each version whose counters are shown no more: whoever keeps some lets them go."""
        self._gone: dict[tuple[str, str], None] = {}
        self._counted: tuple[Counter | Histogram, ...] = (
            *(self.requests, self.request_seconds, self.queue_seconds, self.compute_seconds, self.batch_rows, self.images),
            *(self.prediction_error, self.engine_restarts, self.engine_hung, self.cache_hits, self.cache_misses, self.rejects),
            *(self.group_images, self.group_switches),
            *(self.shadow_images, self.shadow_agreed, self.shadow_difference, self.shadow_dropped),
        )

    def count_reading(self, files: str) -> Callable[[bool], None]:
        """Counts a reading of files that changed: True where it went well."""
        counters = {good: self.file_readings.labels(files, "ok" if good else "failed") for good in (True, False)}
        return lambda good: counters[good].inc()

    def watch_held(self, most: int, **kinds: Callable[[], float]) -> None:
        """Export what each kind holds, of at most `most` bytes."""
        for kind, held in kinds.items():
            self.held_bytes.labels(kind).set_function(held)
            self.held_bytes_limit.labels(kind).set(most)

    def out_of_service(self, model: str, version: str) -> None:
        """A version is gone: its counters stay, with those of the MOST_GONE that went last; those of earlier ones are shown no more."""
        self._gone.pop((model, version), None)
        self._gone[model, version] = None
        while len(self._gone) > MOST_GONE:
            key = next(iter(self._gone))
            del self._gone[key]
            for family in self._counted:
                family.remove_by_labels({"model": key[0], "version": key[1]})
            self.statistics.forget(key)
            for dropped in self.on_dropped:
                dropped(*key)

    def in_service(self, model: str, version: str) -> None:
        """A version is served: its counters stay."""
        self._gone.pop((model, version), None)

    def forget(self, model: str, version: str, precision: str) -> None:
        """Show nothing any more of a model that is no longer served; what it has counted stays counted."""
        for gauge in (
            self.queue_rows,
            self.engines_ready,
            self.engine_memory,
            self.plan_info,
            self.plan_throughput,
            self.plan_error,
            self.model_info,
            self.agreement,
            self.replay_agreement,
            self.replay_seconds,
            self.load_seconds,
        ):
            gauge.remove_by_labels({"model": model, "version": version, "precision": precision})
        self.group_slow_down.remove_by_labels({"model": model, "version": version})
        self.group_serving.remove_by_labels({"model": model, "version": version})
