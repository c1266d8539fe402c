"""What people have, through the exported graph and the served preprocessing, against the pipeline of its owner: no silent difference.

Each case writes a file or folder as its library does, opens it as `publish` does, and compares 20 pictures twice: as pixels that the
owner's own transform made, and as encoded images. `tests/support/checkpoints_tried.py` asks a server and keeps the figures.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from checkpoints_tried import CLOSE, FEW, RESULTS, measure
from numpy.typing import NDArray
from resnet_export import images
from resnet_export.facts import fill_input
from resnet_export.graph import write_graph
from resnet_export.sources.interface import Source
from resnet_export.sources.opening import open_source
from resnet_proto.manifest_pb2 import Input
from resnet_proto.preprocessing import preprocess
from tried_cases import CASES, PICTURES, identity, write

SESSIONS: dict[str, Any] = {}


def served(source: Source, folder: Path) -> Any:
    """The exported graph in ONNX Runtime; files that hold the same network share one."""
    key = identity(source)
    if key not in SESSIONS:
        write_graph(source.checkpoint, folder / "served.onnx")
        SESSIONS[key] = onnxruntime.InferenceSession(str(folder / "served.onnx"), providers=["CPUExecutionProvider"])
    return SESSIONS[key]


def assert_same_answers(actual: NDArray[np.float32], wanted: NDArray[np.float32]) -> None:
    spread = float(wanted.std())
    assert float(np.abs(actual - wanted).max()) <= CLOSE * spread
    assert (actual.argmax(1) == wanted.argmax(1)).all()


@pytest.mark.parametrize("name", CASES)
def test_the_served_answer_is_the_owners(name: str, tmp_path: Path) -> None:
    tried, given = write(name, tmp_path)
    with open_source(tried.text, given) as source:
        session, spec = served(source, tmp_path), Input()
        fill_input(spec, source.checkpoint.info)
        pixels = tried.pixels()
        wanted = tried.logits(pixels)
        assert_same_answers(session.run(None, {"image": pixels})[0], wanted)
        received = np.stack([preprocess(data, spec) for data in PICTURES])
        assert int(np.abs(received.astype(int) - pixels).max()) <= tried.tolerance
        assert_same_answers(session.run(None, {"image": received})[0], wanted)


def test_through_a_server_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "GENERATED", FEW)
    for row in measure(["bare", "MNIST's one channel", "timm, squashed"], tmp_path):
        for way in ("raw", "encoded"):
            assert (row[way]["agreement"], row[way]["error"] <= CLOSE) == (1, True), row


def test_the_table_has_every_case_and_no_silent_difference() -> None:
    rows = RESULTS.read()
    assert [row["case"] for row in rows] == list(CASES)
    assert len(CASES) >= 40
    assert [row["case"] for row in rows if row["raw"]["agreement"] < 1 or row["encoded"]["agreement"] < 1] == []
    assert max(row[way]["error"] for row in rows for way in ("raw", "encoded")) <= CLOSE
