"""Callers while versions of their model come and go: `make changing` prints their p50 and p99 before and during, and failed calls.

A measurement, not a test, but for the failed calls, of which one is an exit status of 1. It works on a copy of the repository.
"""

import asyncio
import shutil
import sys
import tempfile
import time
from pathlib import Path

import click
import grpc
import numpy as np
from processes import descendants
from resnet_models.sample import load_sample
from resnet_proto import open_inference_pb2 as pb
from resnet_proto.open_inference_pb2_grpc import GRPCInferenceServiceStub
from rich.console import Console
from serving import running_server
from versions import add_version

PERIOD_SECONDS = 10.0


class Callers:
    """`count` callers in a closed loop, each with one image at a time; what they wait is kept by period."""

    def __init__(self, url: str, model: str, count: int) -> None:
        image = load_sample().images[:1]
        self._request = pb.ModelInferRequest(model_name=model, raw_input_contents=[image.tobytes()])
        self._request.inputs.add(name="image", datatype="UINT8", shape=image.shape)
        self._channels = [grpc.aio.insecure_channel(url, options=[("grpc.use_local_subchannel_pool", 1)]) for _ in range(4)]
        self.seconds: list[float] = []
        self.failures: list[str] = []
        self._tasks = [asyncio.ensure_future(self._call(self._channels[index % 4])) for index in range(count)]

    async def _call(self, channel: grpc.aio.Channel) -> None:
        stub = GRPCInferenceServiceStub(channel)
        while True:
            started = time.perf_counter()
            try:
                await stub.ModelInfer(self._request, timeout=30)
            except grpc.aio.AioRpcError as error:
                self.failures.append(f"{error.code().name}: {error.details()}")
            self.seconds.append(time.perf_counter() - started)

    async def close(self) -> None:
        """Stop calling."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        for channel in self._channels:
            await channel.close(None)


def described(seconds: list[float], over: float) -> tuple[str, float]:
    p50, p99 = (1e3 * float(np.percentile(seconds, share)) for share in (50, 99))
    return f"{len(seconds):7d} calls, {len(seconds) / over:6.0f}/s, p50 {p50:6.1f} ms, p99 {p99:6.1f} ms", p99


def resident_megabytes(pid: int) -> float:
    pages = [int(Path(f"/proc/{each}/statm").read_text().split()[1]) for each in (pid, *descendants(pid))]
    return sum(pages) * 4096 / 2**20


async def run(url: str, pid: int, model: str, cycles: int, count: int, most_seconds: float, console: Console) -> bool:
    """True where no call failed; no load begins after `most_seconds`."""
    callers = Callers(url, model, count)
    await asyncio.sleep(PERIOD_SECONDS / 2)
    callers.seconds = []
    await asyncio.sleep(PERIOD_SECONDS)
    text, before = described(callers.seconds, PERIOD_SECONDS)
    console.print(f"before: {text}; {resident_megabytes(pid):.0f} MiB", highlight=False)
    callers.seconds = []
    started = time.perf_counter()
    async with grpc.aio.insecure_channel(url) as channel:
        control = GRPCInferenceServiceStub(channel)
        for cycle in range(cycles):
            if time.perf_counter() - started > most_seconds:
                cycles = cycle
                break
            request = pb.RepositoryModelLoadRequest(model_name=model)
            request.parameters["versions"].string_param = str(2 - cycle % 2)
            await control.RepositoryModelLoad(request)
    over = time.perf_counter() - started
    text, during = described(callers.seconds, over)
    console.print(f"during: {text}; {cycles} loads and unloads, {over / cycles:.1f} s each", highlight=False)
    failures = callers.failures
    await callers.close()
    console.print(
        f"p99 during / before: {during / before:.2f}; failed calls: {len(failures)}; {resident_megabytes(pid):.0f} MiB", highlight=False
    )
    for failure in sorted(set(failures))[:5]:
        console.print(failure, highlight=False)
    return not failures


@click.command()
@click.option("--repository", type=click.Path(path_type=Path, exists=True), required=True, help="Holds version 1 of the model.")
@click.option("--model", default="resnet20", show_default=True)
@click.option("--cycles", type=click.IntRange(1), default=100, show_default=True, help="Loads, each of which unloads the version before.")
@click.option("--most-seconds", type=float, default=3600.0, show_default=True, help="Begin no load after so long.")
@click.option("--callers", type=click.IntRange(1), default=64, show_default=True)
def main(repository: Path, model: str, cycles: int, callers: int, most_seconds: float) -> None:
    """Change versions under load."""
    console = Console(width=140)
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder) / "repository"
        (own).mkdir()
        shutil.copytree(repository / model, own / model)
        add_version(own / model, "2")
        with running_server(own, Path(folder) / "log", "--model-control", "explicit", "--open-admin", "--versions", "1") as server:
            held = asyncio.run(run(server.url, server.process.pid, model, cycles, callers, most_seconds, console))
            server.terminate()
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
