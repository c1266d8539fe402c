"""Certification images replayed on the very engine that will serve: a certificate made elsewhere holds here, or is refused."""

import numpy as np
from resnet_proto.certificate import SampleCheck, check_sample
from resnet_proto.manifest import ReplaySample
from resnet_proto.manifest_pb2 import Policy

from resnet_server.engines.in_process import InProcessEngine
from resnet_server.errors import EngineError


def replay(engine: InProcessEngine, sample: ReplaySample, policy: Policy) -> SampleCheck:
    """Run the sample in every bucket size of the engine; the worst counts. Raise EngineError naming what breaks the policy."""
    worst: SampleCheck | None = None
    for bucket in engine.buckets:
        parts = [engine.compute_rows(sample.images[start : start + bucket]) for start in range(0, len(sample.images), bucket)]
        check = check_sample(np.concatenate(parts), sample.logits, policy)
        if check.broken:
            raise EngineError(f"replay: at batch {bucket} {check.broken}")
        if worst is None or (check.agreement, -check.max_abs_error) < (worst.agreement, -worst.max_abs_error):
            worst = check
    if worst is None:
        raise EngineError("replay: the engine has no buckets")
    return worst
