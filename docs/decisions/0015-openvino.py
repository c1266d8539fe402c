"""Images a second of ONNX Runtime and of OpenVINO, without a server: two engines of one thread, and one of two.

`python docs/decisions/0015-openvino.py FILE...`, with files such as `released/resnet_networks/repository/resnet20/1/model.int8.onnx`.
Prints a row for each file, size of batch and layout: ONNX Runtime, OpenVINO compiled for that size (`own`) and for any size (`any`), median
[range], and over ONNX Runtime; the same with sizes that alternate; and what compiling took, in seconds and MiB. Runs are interleaved.
"""

import os
import platform
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
from resnet_bench.report.tables import shown
from resnet_bench.stats import Summary
from resnet_server.engines.api import CPU_PROVIDER, ONNXRUNTIME, OPENVINO, Device, EngineSpec, Images
from resnet_server.engines.compute import Compute
from resnet_server.engines.runtimes import runtime_version

SECONDS, REPEATS = 0.3, 3
MOST = 64
LAYOUTS = ((2, 1), (1, 2))
ROWS = (1, 4, 8, 16, 32)
LARGE_SIDE, LARGE_ROWS = 100, (1, 4)
MIXED = (1, 3, 7, 2, 8, 5, 4, 6)
PAGE = os.sysconf("SC_PAGE_SIZE")


def spec_of(path: Path) -> EngineSpec:
    """Of an engine of ONNX Runtime; the file says what it takes and gives."""
    session = onnxruntime.InferenceSession(path, providers=[CPU_PROVIDER])
    _, height, width, channels = session.get_inputs()[0].shape
    classes = session.get_outputs()[0].shape[1]
    return EngineSpec(path, Device("cpu", CPU_PROVIDER, "measured"), 1, 0, MOST, height, width, classes, channels=channels)


def contestants(spec: EngineSpec) -> dict[str, EngineSpec]:
    """What is compared."""
    compiled = replace(spec, runtime=OPENVINO)
    return {"ort": replace(spec, runtime=ONNXRUNTIME), "own": replace(compiled, own_sizes=MOST), "any": compiled}


def throughput(engines: Sequence[Compute], images: Images, sizes: Sequence[int]) -> float:
    """Images a second of engines that all go through `sizes`, again and again."""
    barrier = threading.Barrier(len(engines) + 1)
    done = [0] * len(engines)

    def work(index: int) -> None:
        for rows in sizes:
            engines[index].run(images, rows, wide=False)
        barrier.wait()
        ends = time.perf_counter() + SECONDS
        while time.perf_counter() < ends:
            for rows in sizes:
                engines[index].run(images, rows, wide=False)
                done[index] += rows

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(engines))]
    for thread in threads:
        thread.start()
    barrier.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    return sum(done) / (time.perf_counter() - began)


def compare(name: str, specs: dict[str, EngineSpec], images: Images, layout: tuple[int, int], sizes: Sequence[int]) -> None:
    """Print one row."""
    count, threads = layout
    engines = {kind: [Compute(replace(spec, threads=threads)) for _ in range(count)] for kind, spec in specs.items()}
    found: dict[str, list[float]] = {kind: [] for kind in specs}
    for _ in range(REPEATS):
        for kind, computes in engines.items():
            found[kind].append(throughput(computes, images, sizes))
    summaries = {kind: Summary.of(values) for kind, values in found.items()}
    base = float(np.median(found["ort"]))
    over = "".join(f" {kind} {np.median(found[kind]) / base:.2f}" for kind in ("own", "any"))
    rates = "  ".join(f"{kind} {shown(summary, 0)}" for kind, summary in summaries.items())
    print(f"{name:<16} {count} x {threads} rows {','.join(map(str, sizes)):<16} {rates}  over ort:{over}", flush=True)


def differences(name: str, specs: dict[str, EngineSpec], images: Images) -> None:
    """Print how far OpenVINO's logits lie from ONNX Runtime's, and what compiling and holding a size costs."""
    right = Compute(specs["ort"]).run(images, len(images), wide=False)
    logits = Compute(specs["any"]).run(images, len(images), wide=False)
    same = float((right.argmax(1) == logits.argmax(1)).mean())
    compute, before, began = Compute(specs["own"]), resident(), time.perf_counter()
    sizes = range(1, 5)
    for rows in sizes:
        compute.run(images, rows, wide=False)
    seconds, memory = (time.perf_counter() - began) / len(sizes), (resident() - before) / len(sizes)
    error = float(np.abs(right - logits).max())
    print(
        f"{name:<16} largest difference {error:.2g}, same top-1 {same:.3f}; a size of its own: {seconds:.2f} s, {memory:.0f} MiB",
        flush=True,
    )


def resident() -> float:
    """MiB of this process."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * PAGE / (1 << 20)


def main() -> None:
    """Compare the files that are named."""
    versions = " ".join(f"{runtime} {runtime_version(runtime)}" for runtime in (ONNXRUNTIME, OPENVINO))
    print(f"{versions}, Python {platform.python_version()}; images a second, median [range] of {REPEATS} runs of {SECONDS} s")
    for path in map(Path, sys.argv[1:]):
        spec = spec_of(path)
        large = spec.height > LARGE_SIDE
        specs = contestants(replace(spec, max_rows=max(LARGE_ROWS)) if large else spec)
        shape = (specs["ort"].max_rows, spec.height, spec.width, spec.channels)
        images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        name = f"{path.parent.parent.name} {path.suffixes[0][1:]}"
        differences(name, specs, images)
        for layout in LAYOUTS:
            for rows in LARGE_ROWS if large else ROWS:
                compare(name, specs, images, layout, (rows,))
            compare(name, specs, images, layout, tuple(rows for rows in MIXED if rows <= shape[0]))


if __name__ == "__main__":
    main()
