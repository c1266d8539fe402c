"""A whole server in a thread of the test's process: real sockets and a real engine, and no process to wait for."""

import asyncio
import gc
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from resnet_server.app import App
from resnet_server.processes.event_loop import run
from resnet_server.processes.logs import LogSwitches
from resnet_server.settings import Settings

START_SECONDS, STOP_SECONDS = 60, 30
PLAN_SECONDS = 0.3


@contextmanager
def running_app(repository: Path, plan_cache: Path, **given: Any) -> Iterator[App]:
    """Serve on free ports of the loopback until the end of the block; raises what the start raises."""
    ports = {"grpc_port": 0, "http_port": 0, "metrics_port": 0}
    engines = {
        "engine_mode": "thread",
        "device": "cpu",
        "runtime": "onnxruntime",
        "plan_seconds": PLAN_SECONDS,
        "plan_cache": plan_cache,
        "drain_seconds": 5.0,
    }
    app = App(Settings(repository, **{"host": "127.0.0.1", **ports, **engines, **given}))
    hosting, thresholds, level = _Hosting(app), gc.get_threshold(), logging.getLogger().level
    thread = threading.Thread(target=hosting.run, daemon=True)
    thread.start()
    try:
        assert hosting.started.wait(START_SECONDS), "the server did not start"
        if hosting.error is not None:
            raise hosting.error
        yield app
    finally:
        hosting.stop()
        thread.join(STOP_SECONDS)
        gc.unfreeze()  # a server settles its process's memory, and this process is the tests'
        gc.set_threshold(*thresholds)
        _turn_back(level)
        assert not thread.is_alive(), "the server did not stop"


def _turn_back(level: int) -> None:
    """A server's log switches are its process's, too: what was turned would be turned for the tests that follow."""
    root = logging.getLogger()
    root.setLevel(level)
    for handler in root.handlers:
        for switches in [one for one in handler.filters if isinstance(one, LogSwitches)]:
            handler.removeFilter(switches)


class _Hosting:
    def __init__(self, app: App) -> None:
        self._app = app
        self.started = threading.Event()
        self.error: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event

    def run(self) -> None:
        run(self._serve())

    def stop(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            await self._app.start()
            self.started.set()
            await self._stop.wait()
        except BaseException as error:  # the test's thread raises it
            self.error = error
        finally:
            self.started.set()
            await self._app.close()
