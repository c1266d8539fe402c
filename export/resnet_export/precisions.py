"""The precisions of one network: how each file is made."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from resnet_models.checkpoint import Exportable
from resnet_proto.manifest import PRECISIONS

from resnet_export.errors import ExportError
from resnet_export.graph import write_graph
from resnet_export.images import ImageSet
from resnet_export.progress import SILENT, Steps
from resnet_export.quantise import quantise

NO_CALIBRATION = "int8: needs real images to calibrate on; give --calibration FOLDER"


@dataclass(frozen=True)
class Maker:
    """Makes the files of one checkpoint in `folder`; INT8 is made from the fp32 file, whether that is published or not."""

    checkpoint: Exportable
    folder: Path
    calibration: ImageSet | None
    target: str = "portable"
    steps: Steps = SILENT

    def path(self, precision: str) -> Path:
        """Where a precision's file goes."""
        return self.folder / f"model.{precision}.onnx"

    def make(self, precision: str) -> dict[str, str]:
        """Write one file and return its recipe; raise ExportError where INT8 has no calibration images or cannot be made."""
        self.steps.step(f"{precision}: exporting")
        if precision == "fp32":
            self._export_fp32(self.path("fp32"))
            return {"form": "batch normalisation and scale folded"}
        if precision == "fp16":
            write_onnx(self.checkpoint, self.path("fp16"), half=True)
            return {"form": "as fp32, weights and activations in half precision"}
        if self.calibration is None:
            raise ExportError(NO_CALIBRATION)
        with self._fp32() as fp32:
            return quantise(fp32, self.calibration, self.path("int8"), self.target, self.steps)

    def _export_fp32(self, path: Path) -> None:
        write_onnx(self.checkpoint, path)

    @contextmanager
    def _fp32(self) -> Iterator[Path]:
        if self.path("fp32").exists():
            yield self.path("fp32")
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.fp32.onnx"
            self._export_fp32(path)
            yield path


def write_onnx(checkpoint: Exportable, path: Path, *, half: bool = False) -> None:
    """Export, without what the exporter notes down of this machine: stack traces with its paths, and names of its code."""
    write_graph(checkpoint, path, half=half)
    model = onnx.load(path)
    forget_origin(model.graph)
    model.doc_string = ""
    del model.metadata_props[:]
    onnx.save(model, path)


def forget_origin(graph: onnx.GraphProto) -> None:
    """Remove documentation and metadata of a graph, its values and its nodes."""
    parts: list[Any] = [graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer]
    for part in parts:
        part.doc_string = ""
        del part.metadata_props[:]


AUTO = "auto"


def parse_precisions(text: str) -> tuple[str, ...]:
    """`fp32,int8` to its parts, fp32 first since INT8 is made from it; `auto` to all. Raise ExportError for an unknown one."""
    if text.strip() == AUTO:
        return PRECISIONS
    wanted = [part.strip() for part in text.split(",") if part.strip()]
    unknown = [part for part in wanted if part not in PRECISIONS]
    if unknown or not wanted:
        raise ExportError(f"precision: '{text}'; expected auto, or some of {', '.join(PRECISIONS)}, separated by commas")
    return tuple(precision for precision in PRECISIONS if precision in wanted)
