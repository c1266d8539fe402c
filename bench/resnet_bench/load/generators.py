"""The generator processes, as one."""

import multiprocessing
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from typing import Protocol, Self, TypeVar

from resnet_bench.errors import BenchError
from resnet_bench.load.process import Order, obey, soon
from resnet_bench.load.request import Requests
from resnet_bench.load.sample import Sample, Tally
from resnet_bench.load.spec import Load
from resnet_bench.load.validity import check_service, judged

T = TypeVar("T")

START_SECONDS = 60.0


class Watch(Protocol):
    """Looks at the server while a load runs."""

    def begin(self) -> None:
        """The counted time begins."""

    def end(self) -> None:
        """It ends."""


class Generators:
    """Starts its processes on entering and ends them on leaving; they are kept from run to run."""

    def __init__(self, count: int = 1) -> None:
        self._count = count
        self._pipes: list[Connection[object, object]] = []
        self._processes: list[multiprocessing.process.BaseProcess] = []
        self._keys: list[str] = []

    def __enter__(self) -> Self:
        context = multiprocessing.get_context("spawn")
        for _ in range(self._count):
            ours, theirs = context.Pipe()
            process = context.Process(target=obey, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
            self._keys.append("")
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.kill()  # it may be in the middle of a run, and holds nothing that could be lost
            process.join()

    def run(self, load: Load, requests: Requests, watch: Watch | None = None) -> Sample:
        """Run one load and judge it; raises BenchError as `check_service`, or where nobody answers."""
        self._order(load, requests)
        self._take(str, START_SECONDS)
        start = soon()
        for pipe in self._pipes:
            pipe.send(start)
        if watch is not None:
            self._look(watch, start + load.warm_up, start + load.warm_up + load.seconds)
        tallies = self._take(Tally, load.warm_up + load.seconds + load.grace + START_SECONDS)
        sample = judged(Sample(load, tuple(tallies)))
        check_service(sample, requests)
        return sample

    def run_valid(self, load: Load, requests: Requests, watch: Watch | None = None) -> Sample:
        """As `run`, and once more where the first run is void; the second may be void, too."""
        sample = self.run(load, requests, watch)
        return self.run(load, requests, watch) if sample.void else sample

    def _order(self, load: Load, requests: Requests) -> None:
        key = f"{load.url} {requests.key}"
        for index, pipe in enumerate(self._pipes):
            data = None if self._keys[index] == key else requests.data
            pipe.send(Order(load.part(index, self._count), key, data, index, self._count))
            self._keys[index] = key

    def _take(self, kind: type[T], seconds: float) -> Sequence[T]:
        return [self._receive(pipe, kind, time.monotonic() + seconds) for pipe in self._pipes]

    def _receive(self, pipe: "Connection[object, object]", kind: type[T], until: float) -> T:
        try:
            message = pipe.recv() if pipe.poll(max(0.0, until - time.monotonic())) else None
        except (EOFError, OSError):
            message = None
        if isinstance(message, BenchError):
            raise message
        if not isinstance(message, kind):
            raise BenchError("generator: its process ended or hung")
        return message

    def _look(self, watch: Watch, begins: float, ends: float) -> None:
        if self._spoke_until(begins):
            return
        watch.begin()
        self._spoke_until(ends)
        watch.end()

    def _spoke_until(self, until: float) -> bool:
        """Sleep until then, or until a generator speaks: before the end that means that it has failed."""
        return bool(wait(self._pipes, max(0.0, until - time.monotonic())))
