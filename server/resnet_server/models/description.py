"""What is shown of a model in service: its metrics, and lines in the log."""

import logging
import os

from resnet_server.metrics.metrics import Metrics
from resnet_server.models.loaded import Loaded
from resnet_server.models.served_model import ModelInfo
from resnet_server.planning.plan import Plan
from resnet_server.settings import Settings

log = logging.getLogger(__name__)

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def describe(loaded: Loaded, metrics: Metrics) -> None:
    """Show what is in service now as metrics."""
    info, engines = loaded.info, loaded.engines
    plan, labels = info.plan, info.key
    metrics.model_info.labels(*labels, *model_labels(info)).set(1)
    metrics.plan_info.labels(*labels, *plan_labels(plan)).set(1)
    metrics.plan_throughput.labels(*labels).set(plan.throughput)
    metrics.load_seconds.labels(*labels).set(loaded.seconds)
    metrics.engines_ready.labels(*labels).set_function(lambda: sum(engine.ready for engine in engines))
    metrics.engine_memory.labels(*labels).set_function(lambda: sum(resident_bytes(engine.pid) for engine in engines))
    metrics.engine_restarts.labels(*labels)
    if info.replay is not None:
        metrics.replay_agreement.labels(*labels).set(info.replay.check.agreement)
        metrics.replay_seconds.labels(*labels).set(info.replay.seconds)
    if info.certified:
        metrics.agreement.labels(*labels).set(info.artifact.certificate.top1_agreement)


def forget(info: ModelInfo, metrics: Metrics) -> None:
    """Show no more how a model computed whose plan is replaced."""
    metrics.plan_info.remove(*info.key, *plan_labels(info.plan))
    metrics.model_info.remove(*info.key, *model_labels(info))


def log_ready(info: ModelInfo, settings: Settings) -> None:
    """Say that a model is ready, and how it computes."""
    plan, labels = info.plan, info.key
    if not info.certified:
        log.warning("%s version %s is served UNCERTIFIED, as --allow-uncertified demands", *labels[:2])
    log.info(
        "%s version %s is ready: %s on %s, %d engines x %d threads in batches of up to %d rows, certificate %s",
        *(*labels, info.provider, plan.engines, plan.threads, plan.batch),
        info.certificate_id[:12] or "NONE",
    )
    warn_of_size(info, settings)


def warn_of_size(info: ModelInfo, settings: Settings) -> None:
    """Say where the rows that a request may have take more bytes than a message may."""
    spec, rows = info.manifest.input, info.own.applied(settings).max_batch
    size, limit = rows * spec.height * spec.width * (spec.channels or 3), settings.max_message_bytes
    if size > limit:
        text = "%s version %s: a request may have %d rows, which take %d bytes; above %d it is refused, which --max-message-bytes changes"
        log.warning(text, *info.key[:2], rows, size, limit)


def model_labels(info: ModelInfo) -> tuple[str, str, str, str]:
    """Of `resnet_model_info`."""
    return info.manifest.network.variant, info.provider, info.artifact.certificate.id, str(info.certified).lower()


def plan_labels(plan: Plan) -> tuple[str, str, str, str, str]:
    """Of `resnet_plan_info`."""
    return str(plan.engines), str(plan.threads), str(plan.wide_threads), str(plan.batch), plan.runtime


def resident_bytes(pid: int) -> int:
    """Resident memory of a process, 0 for none or where the system does not tell."""
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:  # noqa: PTH123  # read at every scrape
            return int(file.read().split()[1]) * PAGE_BYTES
    except (OSError, IndexError, ValueError):
        return 0
