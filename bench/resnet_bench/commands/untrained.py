"""Networks with random weights beside a group: what they take is real, and their answers say nothing."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import grpc
import numpy as np

from resnet_bench.commands.shared import full_name, untrained_repository
from resnet_bench.drivers.open_loop import connected
from resnet_bench.errors import BenchError
from resnet_bench.plane.record import Untrained
from resnet_bench.plane.served import on_exact_loop
from resnet_bench.requests import METHOD
from resnet_bench.subject import Subject, own_servers

WARM_CALLS, SECONDS = 3, 4.0


def measure_untrained(
    variants: Sequence[str], precisions: Sequence[str], options: Sequence[str], say: Callable[[str], None]
) -> list[Untrained]:
    """Publish each with random weights, serve it alone, and send single images, one after the other. Raises BenchError."""
    if not variants:
        return []
    found = []
    with untrained_repository(variants, precisions, say) as repository:
        for name in map(full_name, variants):
            say(f"measuring {name}, random weights")
            found += _measure(repository, name, precisions, options)
    return found


def _measure(repository: Path, name: str, precisions: Sequence[str], options: Sequence[str]) -> list[Untrained]:
    with own_servers(repository, (name,), precisions, options) as subjects:
        return [_record(subject, on_exact_loop(_send(subject))) for subject in subjects]


def _record(subject: Subject, seconds: list[float]) -> Untrained:
    facts, p99 = subject.facts, float(np.percentile(seconds, 99))
    return Untrained(facts.name, facts.precision, facts.depth or 0, len(seconds), median(seconds), p99)


async def _send(subject: Subject) -> list[float]:
    """Seconds of each call."""
    data, found = subject.requests(1).data, list[float]()
    (channel,) = await connected(subject.target.url, 1)
    send: Any = channel.unary_unary(METHOD, request_serializer=None, response_deserializer=None)
    try:
        for number in range(WARM_CALLS):
            await send(data[number % len(data)])
        ends = time.perf_counter() + SECONDS
        while time.perf_counter() < ends:
            began = time.perf_counter()
            await send(data[len(found) % len(data)])
            found.append(time.perf_counter() - began)
    except grpc.aio.AioRpcError as error:
        raise BenchError(f"random-weights: {subject.facts.label}: {error.details()}") from None
    finally:
        await channel.close(None)
    return found
