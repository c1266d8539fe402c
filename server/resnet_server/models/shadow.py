"""Versions in shadow: they get copies of calls that others have answered, and what they say is compared. Nobody waits for it.

A copy is taken once its caller has been answered, and computed while nobody else's rows wait, one at a time, on engines that run in the
processor time that all others leave. What cannot be computed soon is dropped and counted.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from resnet_server.batching.row_queue import LOW
from resnet_server.engines.api import Images, Logits
from resnet_server.errors import ServingError
from resnet_server.metrics.metrics import Metrics
from resnet_server.models.registry import Registry
from resnet_server.models.served_model import ServedModel

log = logging.getLogger(__name__)

MOST_COPIES, MOST_BYTES = 64, 32 << 20
"""That wait, of all models together; a copy keeps the request's own bytes."""
PATIENCE_SECONDS = 1.0
"""For callers' rows to be gone; a copy that has waited for so long is dropped."""
COMPUTE_SECONDS = 30.0
LOOK_SECONDS = 0.01
LOG_SECONDS = 60.0


@dataclass(frozen=True, eq=False)
class Copy:
    """UINT8 [n, h, w, 3] of a call, FP32 [n, classes] that `answered` said, and who computes it anew; dropped at `ends`."""

    rows: Images
    logits: Logits
    answered: ServedModel
    target: ServedModel
    ends: float


class Comparison:
    """What a version in shadow has said so far; shown as metrics, in its metadata and in the log."""

    def __init__(self, target: ServedModel, metrics: Metrics, now: Callable[[], float]) -> None:
        self._target = target
        self._now = now
        self._properties = target.properties
        labels = (target.name, target.version)
        self._counters = metrics.shadow_images.labels(*labels), metrics.shadow_agreed.labels(*labels)
        self._difference = metrics.shadow_difference.labels(*labels)
        self._drops = {reason: metrics.shadow_dropped.labels(*labels, reason) for reason in ("full", "busy", "failed")}
        self._forget = partial(metrics.shadow_difference_max.remove, *labels)
        metrics.shadow_difference_max.labels(*labels).set_function(lambda: self.largest)
        self.images = self.agreed = self.dropped = 0
        self.largest = 0.0
        self._logged_at, self._logged = now(), (0, 0)

    def note(self, answered: ServedModel, theirs: Logits, ours: Logits) -> None:
        """Compare FP32 [n, classes] of both; where their labels differ, only which label comes first."""
        rows = len(theirs)
        if answered.labels == self._target.labels:
            agreed = int((theirs.argmax(1) == ours.argmax(1)).sum())
            difference = float(np.abs(theirs - ours).max())
            self._difference.observe(difference)
            self.largest = max(self.largest, difference)
        else:
            pairs = zip(theirs.argmax(1), ours.argmax(1), strict=True)
            agreed = sum(answered.labels[one] == self._target.labels[other] for one, other in pairs)
        self.images += rows
        self.agreed += agreed
        for counter, count in zip(self._counters, (rows, agreed), strict=True):
            counter.inc(count)
        self._target.properties = {**self._properties, **self._described()}
        if self._now() - self._logged_at >= LOG_SECONDS:
            self.log()

    def drop(self, reason: str) -> None:
        """One copy is not compared."""
        self.dropped += 1
        self._drops[reason].inc()

    def end(self) -> None:
        """The version is gone, or is no longer in shadow."""
        self.log()
        self._forget()
        self._target.properties = self._properties

    def log(self) -> None:
        """Say what has come since the last time, if anything has."""
        self._logged_at = self._now()
        if self._logged == (self.images, self.dropped):
            return
        self._logged = self.images, self.dropped
        share = 100 * self.agreed / self.images if self.images else 0.0
        log.info(
            "%s version %s in shadow: %d images compared, agreement %.2f %%, largest difference %.3g; %d copies dropped",
            *(self._target.name, self._target.version, self.images, share, self.largest, self.dropped),
        )

    def _described(self) -> dict[str, str]:
        return {
            "shadow_images": str(self.images),
            "shadow_top1_agreement": f"{self.agreed / self.images:.6f}",
            "shadow_max_abs_difference": f"{self.largest:.6g}",
            "shadow_copies_dropped": str(self.dropped),
        }


class Tap:
    """What takes copies of one model's answered calls, for the versions in shadow beside it. Any thread may call it."""

    def __init__(self, answered: ServedModel, draws: Callable[[], Sequence[ServedModel]], offer: Callable[[Copy], None]) -> None:
        self._answered, self._draws, self._offer = answered, draws, offer

    def copy(self, rows: Images, logits: Logits) -> None:
        """See `served_model.Tap.copy`."""
        for target in self._draws():
            self._offer(Copy(rows, logits, self._answered, target, time.monotonic() + PATIENCE_SECONDS))


class ShadowTraffic:
    """Puts taps to the models of a registry as it changes, and has the copies computed, on one event loop."""

    def __init__(self, registry: Registry, metrics: Metrics) -> None:
        self._registry = registry
        self._metrics = metrics
        self._copies: deque[Copy] = deque()
        self._held = 0
        self._lock = threading.Lock()
        self._comparisons: dict[ServedModel, Comparison] = {}
        self._generation = -1
        self._woken = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._registry.watch(self._look)
        self._task = self._loop.create_task(self._go_on())

    async def close(self) -> None:
        """Compute no more copies."""
        for model in self._registry.ready:
            model.tap = None
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
        for comparison in self._comparisons.values():
            comparison.end()
        self._comparisons.clear()

    def _look(self) -> None:
        """Taps as the registry is now."""
        registry = self._registry
        if self._generation == registry.generation:
            return
        self._generation = registry.generation
        targets = {(model.name, model.version): model for model in reversed(registry.ready) if registry.is_shadow(model)}
        for gone in self._comparisons.keys() - set(targets.values()):
            self._comparisons.pop(gone).end()
        for target in targets.values():
            if target not in self._comparisons:
                self._comparisons[target] = Comparison(target, self._metrics, time.monotonic)
        for model in registry.ready:
            model.tap = None if registry.is_shadow(model) else self._tap(model, targets)

    def _tap(self, model: ServedModel, targets: dict[tuple[str, str], ServedModel]) -> Tap | None:
        shares = self._registry.shadows.get(model.name)
        mine = {version: target for (name, version), target in targets.items() if name == model.name and _fits(model, target)}
        if shares is None or not mine:
            return None
        return Tap(model, lambda: [mine[version] for version in shares.draws() if version in mine], self._offer)

    def _offer(self, copy: Copy) -> None:
        with self._lock:
            fits = len(self._copies) < MOST_COPIES and self._held + copy.rows.nbytes <= MOST_BYTES
            if fits:
                self._copies.append(copy)
                self._held += copy.rows.nbytes
            wake = fits and len(self._copies) == 1
        try:
            if not fits:
                self._loop.call_soon_threadsafe(self._drop, copy, "full")
            elif wake:
                self._loop.call_soon_threadsafe(self._woken.set)
        except RuntimeError:  # the loop has ended, and with it whoever would compare
            return

    def _drop(self, copy: Copy, reason: str) -> None:
        if (comparison := self._comparisons.get(copy.target)) is not None:
            comparison.drop(reason)

    async def _go_on(self) -> None:
        while True:
            await self._woken.wait()
            self._woken.clear()
            while self._copies:
                copy = self._copies[0]
                reason = await self._compare(copy) if await self._calm(copy) else "busy"
                with self._lock:  # it has counted among those that wait until now: they are as many as are held
                    self._copies.popleft()
                    self._held -= copy.rows.nbytes
                if reason:
                    self._drop(copy, reason)
                del copy

    async def _calm(self, copy: Copy) -> bool:
        """Wait until no caller's rows wait; False if that takes too long."""
        while self._is_busy():
            if time.monotonic() >= copy.ends:
                return False
            await asyncio.sleep(LOOK_SECONDS)
        return time.monotonic() < copy.ends

    async def _compare(self, copy: Copy) -> str:
        """Why it could not be compared; empty where it was."""
        target = copy.target
        if target not in self._comparisons or not target.engines_up:
            return "failed"
        try:
            async with asyncio.timeout(COMPUTE_SECONDS):
                answer = await target.infer(copy.rows, None, LOW)
        except (ServingError, TimeoutError):
            return "failed"
        if (comparison := self._comparisons.get(target)) is not None:
            comparison.note(copy.answered, copy.logits, answer.logits)
        return ""

    def _is_busy(self) -> bool:
        registry = self._registry
        return any(model.batcher.queued_rows for model in registry.ready if not registry.is_shadow(model))


def _fits(model: ServedModel, target: ServedModel) -> bool:
    """Whether both take the same input; logs the difference if not."""
    if spec_of(model) == spec_of(target):
        return True
    log.warning(
        "%s version %s in shadow gets no copies of version %s: its images are %dx%dx%d, not %dx%dx%d",
        *(model.name, target.version, model.version, *spec_of(target), *spec_of(model)),
    )
    return False


def spec_of(model: ServedModel) -> tuple[int, int, int]:
    """Height, width and channels of its images."""
    spec = model.manifest.input
    return spec.height, spec.width, spec.channels or 3
