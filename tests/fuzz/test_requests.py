"""Damaged messages over real sockets, a few here and 100,000 with `make fuzz`: never an unknown or internal error, never growth."""

import asyncio
import os

import pytest
from fuzzing import fuzz
from resnet_client import Client
from resnet_models.sample import load_sample
from serving import RunningServer

INPUTS = int(os.environ.get("RESNET_FUZZ_INPUTS", "600"))
SEED = int(os.environ.get("RESNET_FUZZ_SEED", "1"))
GROWTH = 64 << 20


def held_by(server: RunningServer) -> int:
    """Bytes of the server's own process, without what it shares."""
    with open(f"/proc/{server.process.pid}/smaps_rollup", encoding="ascii") as file:  # noqa: PTH123  # not a file on a disk
        return sum(int(line.split()[1]) << 10 for line in file if line.startswith("Private_"))


@pytest.mark.timeout(3600)
def test_no_message_is_answered_unknown_or_internal_or_leaves_anything_behind(server: RunningServer) -> None:
    asyncio.run(fuzz(server.url, max(100, INPUTS // 10), SEED + 1))  # what is made once is made
    before = held_by(server)
    tally = asyncio.run(fuzz(server.url, INPUTS, SEED))
    assert not tally.failures, "\n".join(tally.failures[:5])
    assert {"OK", "INVALID_ARGUMENT", "NOT_FOUND"} <= tally.statuses.keys()
    assert sum(tally.statuses.values()) == INPUTS
    assert held_by(server) - before < GROWTH
    log = server.log.read_text()
    assert "Traceback" not in log
    assert " ERROR " not in log
    with Client(server.url) as client:
        assert client.infer(load_sample().images[:1]).shape == (1, 10)
    print(f"\n{INPUTS} inputs: {dict(tally.statuses)}; {tally.bystander()}")
