"""What is seen of the server while a load runs: its CPU time, its memory and its own metrics."""

from resnet_bench.scrape import Observed, scrape
from resnet_bench.server_process import Target


class ServerWatch:
    """CPU time of the counted time, and memory at its end; metrics of the whole run, warm-up included."""

    def __init__(self, target: Target, model: str, version: str) -> None:
        self._target, self._model, self._version = target, model, version
        self._before = self._scrape()
        self._cpu: float | None = None
        self.cpu_seconds: float | None = None
        self.memory_bytes = 0

    def begin(self) -> None:
        """The counted time begins."""
        self._cpu = self._target.cpu_seconds()

    def end(self) -> None:
        """It ends."""
        cpu = self._target.cpu_seconds()
        if cpu is not None and self._cpu is not None:
            self.cpu_seconds = cpu - self._cpu
        self.memory_bytes = self._target.peak_memory_bytes() or 0

    def observed(self) -> Observed | None:
        """What the server counted since this was made; None where it has no metrics."""
        after = self._scrape()
        return None if after is None or self._before is None else after.since(self._before)

    def _scrape(self) -> Observed | None:
        url = self._target.metrics_url
        return None if url is None else scrape(url, self._model, self._version)
