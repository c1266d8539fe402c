"""`make endurance`: known answers, cancels, wrong calls, deaths and reloads for half an hour; memory and outcomes are read every minute.

The file of readings is written after each, so that no failure loses what was read. Exit status 1: an answer was wrong or missing, or the
memory of all processes grew by more than FLAT_PERCENT, from the median of the first third of the readings to that of the last.
"""

import asyncio
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import click
import grpc
from chaos import Callers, Trouble, known
from fuzzing import inference_request
from processes import descendants, proportional_bytes
from resnet_proto import open_inference_pb2 as pb
from resnet_proto.open_inference_pb2_grpc import GRPCInferenceServiceStub
from serving import RunningServer, running_server
from versions import add_version

FLAT_PERCENT = 2.0
CALLERS = 16
WRONG_PAUSE, RELOAD_PAUSE, MISHAP_PAUSE = 0.05, 15.0, 10.0
MODEL, CHANGING = "resnet20", "resnet32"
MODES = {
    "versions come and go": ("--model-control", "explicit", "--open-admin", "--versions", "1", "--engines", "2", "--threads", "1"),
    "2 front ends": ("--frontends", "2", "--engines", "2", "--threads", "1"),
}


class Mistakes:
    """Calls that are wrong or late on purpose; `faults` has those that did not end as they should."""

    def __init__(self, url: str) -> None:
        self.statuses: Counter[str] = Counter()
        self.faults: list[str] = []
        self._url = url

    async def make(self) -> None:
        """For ever, one after another."""
        wrong, unknown = inference_request(), inference_request()
        wrong.inputs[0].shape[1] = 31
        unknown.model_name = "no-such-model"
        late = {"DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "OK"}
        cases = ((wrong, 30.0, {"INVALID_ARGUMENT"}), (unknown, 30.0, {"NOT_FOUND"}), (inference_request(), 0.002, late))
        async with grpc.aio.insecure_channel(self._url) as channel:
            infer = GRPCInferenceServiceStub(channel).ModelInfer
            while True:
                for request, seconds, expected in cases:
                    status = "OK"
                    try:
                        await infer(request, timeout=seconds)
                    except grpc.aio.AioRpcError as error:
                        status = error.code().name
                    self.statuses[status] += 1
                    if status not in expected | {"UNAVAILABLE"}:
                        self.faults.append(f"{status} where {sorted(expected)} was expected")
                    await asyncio.sleep(WRONG_PAUSE)


async def reload(url: str, done: Counter[str]) -> None:
    """Load and unload a version for ever, under a model that others keep calling, and a model that nobody calls."""
    async with grpc.aio.insecure_channel(url) as channel:
        control = GRPCInferenceServiceStub(channel)
        for turn in range(1_000_000):
            request = pb.RepositoryModelLoadRequest(model_name=MODEL)
            request.parameters["versions"].string_param = str(2 - turn % 2)
            steps = (
                lambda request=request: control.RepositoryModelLoad(request),
                lambda: control.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name=CHANGING)),
                lambda: control.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name=CHANGING)),
            )
            for step in steps:
                try:
                    await step()
                    done["reloads"] += 1
                except grpc.aio.AioRpcError as error:  # an engine was killed while it was loaded: the version before serves on
                    done[f"reloads that ended {error.code().name}"] += 1
                await asyncio.sleep(RELOAD_PAUSE)


def reading(server: RunningServer, began: float, callers: Callers, mistakes: Mistakes, trouble: Trouble) -> dict[str, Any]:
    """Everything as it is now."""
    pid = server.process.pid
    return {
        "seconds": round(time.monotonic() - began, 1),
        "memory_mib": round(proportional_bytes(pid) / 2**20, 1),
        "processes": 1 + len(descendants(pid)),
        "calls": dict(callers.answers.statuses),
        "on_purpose": dict(mistakes.statuses),
        "done": dict(trouble.done),
        "slowest_recovery_seconds": round(max(trouble.recoveries, default=0.0), 3),
        "slowest_recovery_of_all_seconds": round(max(callers.recoveries_of_all, default=0.0), 3),
        "slowest_by_mishap": dict(trouble.slowest),
        "faults": [*callers.answers.faults, *mistakes.faults],
    }


async def endure(server: RunningServer, mode: str, seconds: float, every: float, seed: int, keep: Any) -> list[dict[str, Any]]:
    """Make trouble for so long and read every so many seconds, given to `keep` each time."""
    callers, mistakes = Callers(server.url, await known(server.url), seed, CALLERS), Mistakes(server.url)
    trouble = Trouble(server, random.Random(seed))
    aside = [asyncio.ensure_future(work) for work in (callers.run(), mistakes.make())]
    if "--model-control" in MODES[mode]:
        aside.append(asyncio.ensure_future(reload(server.url, trouble.done)))
    began = time.monotonic()
    making = asyncio.ensure_future(trouble.make(callers, seconds, MISHAP_PAUSE))
    readings: list[dict[str, Any]] = []
    while not making.done():
        await asyncio.wait((making, *aside), timeout=every, return_when=asyncio.FIRST_COMPLETED)
        readings.append(reading(server, began, callers, mistakes, trouble))
        keep(readings)
        if any(task.done() for task in aside):
            break
    callers.stop()
    await asyncio.wait((aside[0],))
    for task in (making, *aside[1:]):
        task.cancel()
    ended = await asyncio.gather(making, *aside, return_exceptions=True)
    callers.answers.faults += [f"gave up: {error!r}" for error in ended if isinstance(error, Exception)]
    readings[-1]["faults"] = [*callers.answers.faults, *mistakes.faults]
    keep(readings)
    return readings


def growth_percent(readings: list[dict[str, Any]]) -> float:
    """Of the memory, from the median of the first third to that of the last; of those readings that have the usual number of processes."""
    usual = statistics.mode(one["processes"] for one in readings)
    alike = [one["memory_mib"] for one in readings if one["processes"] == usual]
    third = max(1, len(alike) // 3)
    first, last = statistics.median(alike[:third]), statistics.median(alike[-third:])
    return 100 * float(last / first - 1)


@click.command()
@click.option("--repository", type=click.Path(path_type=Path, exists=True), required=True, help="With resnet20 and resnet32.")
@click.option("--minutes", default=30.0, show_default=True, help="In all; half for each way of serving.")
@click.option("--every", default=30.0, show_default=True, help="Seconds between two readings.")
@click.option("--seed", default=1, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File of the readings.")
def main(repository: Path, minutes: float, every: float, seed: int, out: Path) -> None:
    """See the module."""
    found: dict[str, list[dict[str, Any]]] = {}
    problems: list[str] = []
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder) / "repository"
        for name in (MODEL, CHANGING):
            shutil.copytree(repository / name, own / name)
        add_version(own / MODEL, "2")
        for mode, options in MODES.items():

            def keep(readings: list[dict[str, Any]], mode: str = mode) -> None:
                found[mode] = readings
                out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")

            models = ("--models", f"{MODEL},{CHANGING}", "--precision", "fp32")
            with running_server(own, Path(folder) / "log", *models, *options) as server:
                readings = asyncio.run(endure(server, mode, 30 * minutes, every, seed, keep))
                problems += [f"{mode}: {fault}" for fault in readings[-1]["faults"]]
                grown = growth_percent(readings)
                if grown > FLAT_PERCENT:
                    problems.append(f"{mode}: memory grew by {grown:.1f} %")
                if server.terminate():
                    problems.append(f"{mode}: the server did not end well")
            last = {**readings[-1], "faults": len(readings[-1]["faults"])}
            click.echo(f"{mode}: memory {grown:+.2f} % over {len(readings)} readings; at last {last}")
    for problem in problems[:20]:
        click.echo(problem)
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
