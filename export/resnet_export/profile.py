"""What leanness gives: nodes and batch time of each published file beside the graph exported without care."""

import collections
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from resnet_models.checkpoint import CheckpointInfo, Exportable
from resnet_proto.manifest_pb2 import Manifest
from rich.table import Table

from resnet_export.graph import INPUT, write_graph

ROWS = 8
ROUNDS = 7
SECONDS = 0.05


@dataclass(frozen=True)
class Profile:
    """One file: its operators with their counts, and the median time of a batch of 8 on one thread, in seconds."""

    name: str
    operators: dict[str, int]
    seconds: float


def profile(checkpoint: Exportable, folder: Path, manifest: Manifest) -> list[Profile]:
    """Measure the plain export and every published precision, in turns."""
    with tempfile.TemporaryDirectory() as temporary:
        plain = Path(temporary) / "plain.onnx"
        write_graph(checkpoint, plain, plain=True)
        files = {"as traced": plain} | {artifact.precision: folder / artifact.file for artifact in manifest.artifacts}
        operators = {name: dict(collections.Counter(node.op_type for node in onnx.load(path).graph.node)) for name, path in files.items()}
        seconds = interleaved_seconds({name: _session(path) for name, path in files.items()}, checkpoint.info)
    return [Profile(name, operators[name], seconds[name]) for name in files]


def interleaved_seconds(sessions: dict[str, Any], info: CheckpointInfo) -> dict[str, float]:
    """Median batch time of each session; the rounds take turns, so that the machine's drift touches all alike."""
    images = np.random.default_rng(0).integers(0, 256, (ROWS, info.input_size, info.input_size, info.channels), dtype=np.uint8)
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(ROUNDS):
        for name, session in sessions.items():
            begun, runs = time.perf_counter(), 0
            while (spent := time.perf_counter() - begun) < SECONDS or not runs:
                session.run(None, {INPUT: images})
                runs += 1
            times[name].append(spent / runs)
    return {name: float(np.median(values)) for name, values in times.items()}


def _session(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def profile_table(profiles: list[Profile]) -> Table:
    """A row for each file."""
    table = Table(title=f"graph and time of a batch of {ROWS} on one CPU thread", title_justify="left")
    for column in ("file", "nodes", "operators", "ms", "img/s", "speed"):
        table.add_column(column, justify="left" if column in ("file", "operators") else "right")
    for one in profiles:
        common = sorted(one.operators.items(), key=lambda item: -item[1])
        shown = ", ".join(f"{count} {name}" for name, count in common[:6]) + (", ..." if len(common) > 6 else "")
        speed = f"{profiles[0].seconds / one.seconds:.2f}x"
        table.add_row(one.name, str(sum(one.operators.values())), shown, f"{1e3 * one.seconds:.2f}", f"{ROWS / one.seconds:,.0f}", speed)
    return table
