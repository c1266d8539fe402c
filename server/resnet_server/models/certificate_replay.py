"""Certification images replayed on the very engine that will serve: a certificate made elsewhere holds here, or is refused."""

import asyncio

import numpy as np
from resnet_proto.certificate import SampleCheck, check_sample
from resnet_proto.manifest import ReplaySample
from resnet_proto.manifest_pb2 import Policy

from resnet_server.engines.api import Engine, Images, Logits, Outcome
from resnet_server.errors import EngineError


async def replay(engine: Engine, buckets: tuple[int, ...], wide: bool, sample: ReplaySample, policy: Policy) -> SampleCheck:
    """Run the sample in every bucket size, and with `wide` alone on all cores, too; the worst counts.

    Raises EngineError naming what breaks the policy.
    """
    worst: SampleCheck | None = None
    runs = [(bucket, False) for bucket in buckets] + [(bucket, True) for bucket in (buckets[:1] + buckets[-1:] if wide else ())]
    for bucket, alone in runs:
        parts = [await compute(engine, sample.images[start : start + bucket], alone) for start in range(0, len(sample.images), bucket)]
        check = check_sample(np.concatenate(parts), sample.logits, policy)
        if check.broken:
            raise EngineError(f"replay: at batch {bucket} {check.broken}")
        if worst is None or (check.agreement, -check.max_abs_error) < (worst.agreement, -worst.max_abs_error):
            worst = check
    if worst is None:
        raise EngineError("replay: the engine has no buckets")
    return worst


async def compute(engine: Engine, rows: Images, alone: bool = False) -> Logits:
    """UINT8 [n, h, w, 3] through an engine that nothing else uses yet; raise what it reports."""
    ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    engine.start([rows], len(rows), alone, ended.set_result)
    outcome = await ended
    if outcome.logits is None:
        raise outcome.error or EngineError("the engine answered nothing")
    return outcome.logits
