"""When a run does not count: the generator lagged or ran out of CPU. And when it says that the service is wrong."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from google.protobuf.message import DecodeError
from resnet_proto.open_inference_pb2 import ModelInferResponse

from resnet_bench.errors import BenchError
from resnet_bench.load.request import Requests
from resnet_bench.load.sample import OK, Sample

MAX_LATE = 0.01  # of the calls may be sent late
MAX_SLIP = 0.01  # of the run's length may the schedule have slipped at its end
MAX_CPU = 0.9  # of a core: above it, the generator measures itself
MIN_AGREEMENT = 0.95  # of what the reference says; INT8 may differ on 1 % of images
CONFIGURATION = ("INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED", "UNAUTHENTICATED", "PERMISSION_DENIED")


def judged(sample: Sample) -> Sample:
    """The sample with `void` filled in."""
    return replace(sample, void=void_reason(sample))


def void_reason(sample: Sample) -> str:
    """Why a run does not count; empty if it does.

    Void is a run in which more than 1 % of the calls were sent late (later than `Load.late_after`), whose schedule had slipped by
    more than 1 % of its length at its end, or in which a generator process used more than 0.9 of a core.
    """
    load = sample.load
    if sample.generator_cpu > MAX_CPU:
        return f"the generator ran out of CPU: it used {sample.generator_cpu:.2f} of a core; try --generators"
    if load.arrivals == "closed":
        return ""
    if sample.slip > MAX_SLIP * load.seconds:
        return f"the generator lagged: it was {1e3 * sample.slip:.0f} ms behind its schedule at the end; try --generators"
    if sample.late_share > MAX_LATE:
        late, after = 100 * sample.late_share, 1e3 * load.late_after
        return f"the generator lagged: it sent {late:.1f} % of the calls more than {after:g} ms late"
    return ""


def check_service(sample: Sample, requests: Requests) -> None:
    """Raise BenchError where the server refuses such calls at all, answers none, or answers wrongly."""
    name = sample.load.model
    if any(sample.outcomes[status] for status in CONFIGURATION):
        raise BenchError(f"{name}: the server refuses the call: {sample.first_error}")
    if not sample.outcomes[OK] and sample.first_error.startswith("UNAVAILABLE"):
        raise BenchError(f"{name}: the server became unreachable: {sample.first_error}")
    if requests.classes is None:
        return
    agreeing, checked = agreement(sample, requests.classes)
    if checked and agreeing < MIN_AGREEMENT * checked:
        raise BenchError(f"{name}: wrong answers: only {agreeing} of {checked} agree with the reference")


def agreement(sample: Sample, classes: "Sequence[np.typing.NDArray[np.int64]]") -> tuple[int, int]:
    """Rows of the kept answers whose top-1 is the reference's, and all of them; raises BenchError for missing rows."""
    agreeing = checked = 0
    for index, answer in (kept for part in sample.parts for kept in part.kept):
        found = top1(answer)
        if len(found) != len(classes[index]):
            raise BenchError(f"{sample.load.model}: {len(found)} rows were answered for {len(classes[index])}")
        agreeing += int((found == classes[index]).sum())
        checked += len(found)
    return agreeing, checked


def top1(answer: bytes) -> "np.typing.NDArray[np.int64]":
    """The classes of a ModelInferResponse with one FP32 output [n, classes]; raises BenchError for anything else."""
    try:
        response = ModelInferResponse.FromString(answer)
    except DecodeError:
        raise BenchError(f"the answer is not a ModelInferResponse: {len(answer)} bytes") from None
    if len(response.outputs) != 1 or response.outputs[0].datatype != "FP32":
        raise BenchError("the answer has no single FP32 output to compare with the reference")
    output, shape = response.outputs[0], tuple(response.outputs[0].shape)
    raw = response.raw_output_contents
    values = np.frombuffer(raw[0], np.float32) if raw else np.array(output.contents.fp32_contents, np.float32)
    found: np.typing.NDArray[np.int64] = values.reshape(shape).argmax(1)
    return found
