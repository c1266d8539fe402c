"""Certification images replayed on the very engine that will serve: a certificate made elsewhere holds here, or is refused."""

import asyncio
import time

import numpy as np
from resnet_proto.sample_check import Expected, SampleCheck, check_sample

from resnet_server.engines.api import Engine, Images, Logits, Outcome
from resnet_server.errors import EngineError

SEVERAL = 16


async def replay(
    engine: Engine,
    buckets: tuple[int, ...],
    wide: bool,
    images: Images,
    expected: Expected,
    pauses: float = 0.0,
    network: int = 0,
) -> SampleCheck:
    """Run all images in the largest bucket, and enough for a batch or 16 in each other; with `wide` alone on all cores, too.

    All images find a defect that touches few of them; some find one of a bucket, whose kernels differ. Another runtime than that of
    the certificate gets all images in each. The check of all images in the largest is returned. After each batch it rests `pauses`
    times as long as that took. `network`: which one of the engine's. Raises EngineError naming what is broken.
    """
    if not buckets:
        raise EngineError("replay: the engine has no buckets")
    largest, others = buckets[-1], [(bucket, False) for bucket in buckets[:-1]]
    for bucket, alone in [*others, *([(buckets[0], True), (largest, True)] if wide else [])]:
        some = images if expected.elsewhere else images[: max(bucket, SEVERAL)]
        await _check(engine, bucket, alone, some, expected, pauses, network)
    return await _check(engine, largest, False, images, expected, pauses, network)


async def _check(engine: Engine, bucket: int, alone: bool, images: Images, expected: Expected, pauses: float, network: int) -> SampleCheck:
    parts = []
    for start in range(0, len(images), bucket):
        started = time.monotonic()
        parts.append(await compute(engine, images[start : start + bucket], alone, network))
        if pauses:
            await asyncio.sleep(pauses * (time.monotonic() - started))
    check = check_sample(np.concatenate(parts), expected.rows(len(images)))
    if check.broken:
        raise EngineError(f"replay: at batch {bucket} {check.broken}")
    return check


async def compute(engine: Engine, rows: Images, alone: bool = False, network: int = 0) -> Logits:
    """UINT8 [n, h, w, 3] through an engine that nothing else uses yet; raise what it reports."""
    ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    def done(outcome: Outcome) -> None:
        if not ended.done():  # a look at an engine that dies is given up before its channel says so
            ended.set_result(outcome)

    engine.start([rows], len(rows), alone, done, network)
    outcome = await ended
    if outcome.logits is None:
        raise outcome.error or EngineError("the engine answered nothing")
    return outcome.logits
