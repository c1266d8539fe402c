"""A soak: mixed traffic through the Python client for a long time, among it calls that are cancelled, late or wrong."""

import asyncio
import io
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from resnet_client import AsyncClient, ClientError

from resnet_bench.drivers.api import Load, Observer, sample_of
from resnet_bench.errors import BenchError
from resnet_bench.published import Material
from resnet_bench.requests import Requests
from resnet_bench.sample import OK, Sample, percentiles
from resnet_bench.target import Target

PARTS = 10
FLAT_PERCENT = 2.0
SHORT_SECONDS, LONG_SECONDS = 0.002, 60.0
CANCELLED = "CANCELLED"
UNREACHABLE = 20  # so many calls in a row without a server, and it is gone
TRAFFIC = (
    ("one image", 0.55, (OK,)),
    ("8 images", 0.15, (OK,)),
    ("32 images", 0.05, (OK,)),
    ("an encoded image", 0.10, (OK,)),
    ("cancelled", 0.05, (OK, CANCELLED)),
    ("short deadline", 0.05, (OK, "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED")),  # refused at once where it cannot be met
    ("wrong shape", 0.03, ("INVALID_ARGUMENT",)),
    ("unknown model", 0.02, ("NOT_FOUND",)),
)
"""What is sent, its share of the calls, and the statuses that are right for it."""


@dataclass
class Soak:
    """The driver: `load.concurrency` callers for `load.seconds`, or until `calls` are answered.

    Outcomes are counted by status; one that is not right for its kind is counted as `unexpected`, and the first is the sample's error.
    """

    material: Material
    model: str
    calls: int | None = None
    name: str = "resnet-client"
    _outcomes: Counter[str] = field(default_factory=Counter)
    _latencies: list[float] = field(default_factory=list)
    _error: str = ""
    _gone: int = 0

    def run(self, target: Target, requests: Requests, load: Load, observer: Observer) -> Sample:
        """As every driver; a call that fails does not end the soak. Raises BenchError once nobody answers any more."""
        self._outcomes, self._latencies, self._error, self._gone = Counter(), [], "", 0
        observer.begin()
        cpu, begun = time.process_time(), time.monotonic()
        asyncio.run(self._all(target.url, load))
        seconds = time.monotonic() - begun
        used = (time.process_time() - cpu) / seconds
        observer.end()
        return self._sample(replace(load, seconds=seconds), used)

    def _sample(self, load: Load, used: float) -> Sample:
        times = 1e3 * np.array(self._latencies)
        found = {f"p{p:g}": float(np.percentile(times, p)) for p in (50, 90, 99, 99.9)} if len(times) else {}
        found |= {"mean": float(times.mean()), "max": float(times.max())} if len(times) else {}
        return replace(
            sample_of(load, self.name),
            calls=sum(count for status, count in self._outcomes.items() if status != "unexpected"),
            outcomes=dict(self._outcomes),
            answered=len(times),
            latency_ms=percentiles(found, len(times)),
            generator_cpu=used,
            first_error=self._error,
        )

    async def _all(self, url: str, load: Load) -> None:
        ends = time.monotonic() + load.seconds
        left = iter(range(self.calls)) if self.calls is not None else None
        async with AsyncClient(url, timeout=LONG_SECONDS) as client:
            await asyncio.gather(
                *(self._caller(client, np.random.default_rng([load.seed, i]), ends, left) for i in range(load.concurrency))
            )

    async def _caller(self, client: AsyncClient, random: np.random.Generator, ends: float, left: Iterator[int] | None) -> None:
        shares = [share for _, share, _ in TRAFFIC]
        while time.monotonic() < ends if left is None else next(left, None) is not None:
            kind, _, expected = TRAFFIC[random.choice(len(TRAFFIC), p=shares)]
            begun = time.monotonic()
            status, text = await self._outcome(self._call(kind, client, random))
            self._outcomes[status] += 1
            if status == OK:
                self._latencies.append(time.monotonic() - begun)
            if status not in expected:
                self._outcomes["unexpected"] += 1
                self._error = self._error or f"{kind}: {status}: {text}"
            self._gone = self._gone + 1 if status == "UNAVAILABLE" else 0
            if self._gone > UNREACHABLE:
                raise BenchError(f"{self.model}: the server became unreachable: {text}")

    async def _outcome(self, call: Awaitable[str]) -> tuple[str, str]:
        try:
            wrong = await call
        except ClientError as error:
            return error.status.name, error.args[0]
        except asyncio.CancelledError:
            return CANCELLED, ""
        return ("WRONG", wrong) if wrong else (OK, "")

    async def _call(self, kind: str, client: AsyncClient, random: np.random.Generator) -> str:
        """One call of a kind; what is wrong with its answer, empty if it is right."""
        start = int(random.integers(len(self.material.images)))
        rows = {"8 images": 8, "32 images": 32}.get(kind, 1)
        window = self.material.window(start, rows)
        if kind == "an encoded image":
            (found,) = await client.classify([png(window.images[0])], model=self.model, top_k=1)
            return right(np.array([found.best.index]), window)
        if kind == "cancelled":
            call = asyncio.ensure_future(client.infer(window.images, model=self.model))
            asyncio.get_running_loop().call_later(float(random.exponential(SHORT_SECONDS)), call.cancel)
            return right((await call).argmax(1), window)
        if kind == "wrong shape":
            return right((await client.infer(window.images[:, 1:], model=self.model)).argmax(1), window)
        model = "no-such-model" if kind == "unknown model" else self.model
        timeout = SHORT_SECONDS if kind == "short deadline" else None
        return right((await client.infer(window.images, model=model, timeout=timeout)).argmax(1), window)


def right(classes: NDArray[np.int64], window: Material) -> str:
    """What is wrong with these classes: another number of rows, or fewer than nine in ten as the reference has them."""
    if len(classes) != len(window.images):
        return f"{len(classes)} rows were answered for {len(window.images)}"
    if window.classes is not None and len(classes) > 1 and (classes == window.classes).mean() < 0.9:
        return f"only {(classes == window.classes).sum()} of {len(classes)} rows agree with the reference"
    return ""


def png(image: NDArray[np.uint8]) -> bytes:
    """UINT8 [h, w, 3] as an encoded image."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def growth_percent(samples: Sequence[Sample]) -> float | None:
    """Of the memory, from the end of the first part to that of the last; None where there are not two."""
    totals = [sample.memory_bytes for sample in samples if sample.memory_bytes]
    return 100 * (totals[-1] / totals[0] - 1) if len(totals) > 1 else None


def problems_of(samples: Sequence[Sample]) -> list[str]:
    """What is not as it should be."""
    found = [
        f"part {sample.repeat + 1}: {count} unexpected outcomes, the first {sample.first_error}"
        for sample in samples
        if (count := sample.outcomes.get("unexpected"))
    ]
    growth = growth_percent(samples)
    if growth is not None and growth > FLAT_PERCENT:
        found.append(f"memory grew by {growth:.2f} %; expected at most {FLAT_PERCENT:g} %")
    for before, after in itertools.pairwise(samples):
        if gone := before.memory.keys() - after.memory.keys():  # one that is new may have been started by need
            found.append(f"part {after.repeat + 1}: processes ended: {', '.join(sorted(gone))}")
    return found
