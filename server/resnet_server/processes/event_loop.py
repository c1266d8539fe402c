"""The event loop of every process of ours: uvloop where there is one, and a collector that leaves start-up alone."""

import asyncio
import gc
from collections.abc import Coroutine
from typing import Any

from resnet_server.processes.memory import keep_large_memory

YOUNG = 10_000  # container objects between collections; a call leaves next to none behind


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run to the end in a fresh event loop; the first that a process does."""
    keep_large_memory()
    try:
        import uvloop
    except ImportError:  # not on Windows
        new_loop = asyncio.new_event_loop
    else:
        new_loop = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main)


def settle_memory() -> None:
    """Call when start-up is over: what it made lives as long as the process, so the collector need not walk it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 20, 20)
