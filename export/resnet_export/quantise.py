"""INT8: ONNX Runtime's static quantiser, with the calibration that agrees best with the fp32 graph.

QDQ, activations UINT8 and weights INT8 per channel (U8S8): the form ONNX Runtime runs fastest on x86; S8S8 is slower than
fp32 there.
"""

import itertools
import logging
import platform
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from resnet_export.graph import INPUT
from resnet_export.images import ImageSet
from resnet_export.runtime import open_session, run_in_batches

METHODS = {"minmax": CalibrationMethod.MinMax, "entropy": CalibrationMethod.Entropy, "percentile": CalibrationMethod.Percentile}
CALIBRATION_BATCH = 25
# The histogram calibrators keep every activation in memory: at most this many input pixels go through them.
CALIBRATION_PIXELS = 500 * 32 * 32 * 2
CLOSE = 0.005


@dataclass(frozen=True)
class Trial:
    """One way to quantise: its calibration method, what stays in fp32, and how it agrees with fp32 on the calibration images."""

    method: str
    kept: str
    agreement: float
    mean_error: float
    data: bytes

    @property
    def recipe(self) -> dict[str, str]:
        """For the manifest."""
        return {
            "calibration": self.method,
            "kept_in_fp32": self.kept or "nothing",
            "calibration_agreement": f"{self.agreement:.4f}",
            "calibration_mean_error": f"{self.mean_error:.4f}",
        }


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    def __init__(self, images: NDArray[np.uint8]) -> None:
        self._batches: Iterator[NDArray[np.uint8]] = iter(
            [images[start : start + CALIBRATION_BATCH] for start in range(0, len(images), CALIBRATION_BATCH)]
        )

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}


def quantise(fp32: Path, calibration: ImageSet, target: Path, *, reduce_range: bool) -> dict[str, str]:
    """Quantise the file `fp32` into `target` in the best of all tried ways; return the recipe.

    Tried are all calibration methods with first and last layer in INT8 or kept in fp32. Judged on the calibration
    images, so that the certification images stay unseen: of those within half a point of the best top-1 agreement with
    fp32, the one with the smallest mean logit error.
    """
    images = calibration.images[: max(CALIBRATION_BATCH, CALIBRATION_PIXELS // calibration.images[0, :, :, 0].size)]
    expected = run_in_batches(open_session(fp32), images, CALIBRATION_BATCH)
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(fp32), str(prepared), skip_symbolic_shape=True)
        ends = first_and_last(onnx.load(prepared))
        trials = [
            _try(prepared, images, expected, method, kept, Path(folder) / "trial.onnx", reduce_range)
            for method, kept in itertools.product(METHODS, [{}, dict(ends[:1]), dict(ends[1:]), dict(ends)])
        ]
    best = max(trial.agreement for trial in trials)
    chosen = min((t for t in trials if t.agreement >= best - CLOSE), key=lambda t: t.mean_error)
    target.write_bytes(chosen.data)
    return chosen.recipe | {"format": "QDQ U8S8 per channel", "reduce_range": str(reduce_range).lower(), "tried": str(len(trials))}


def first_and_last(model: onnx.ModelProto) -> list[tuple[str, str]]:
    """(`first layer`, node name) and (`last layer`, node name)."""
    first = next(node.name for node in model.graph.node if node.op_type == "Conv")
    last = next(node.name for node in reversed(model.graph.node) if node.op_type in ("Gemm", "MatMul"))
    return [("first layer", first), ("last layer", last)]


def _try(
    prepared: Path,
    images: NDArray[np.uint8],
    expected: NDArray[np.float32],
    method: str,
    kept: dict[str, str],
    out: Path,
    reduce_range: bool,
) -> Trial:
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # the quantiser advises on pre-processing that was done
    try:
        with redirect_stdout(StringIO()):
            quantize_static(
                str(prepared),
                str(out),
                _Reader(images),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                per_channel=True,
                reduce_range=reduce_range,
                calibrate_method=METHODS[method],
                nodes_to_exclude=list(kept.values()),
            )
    finally:
        root.setLevel(level)
    session: Any = open_session(out)
    logits = run_in_batches(session, images, CALIBRATION_BATCH)
    agreement = float((logits.argmax(1) == expected.argmax(1)).mean())
    return Trial(method, " and ".join(kept), agreement, float(np.abs(logits - expected).mean()), out.read_bytes())


def needs_reduced_range() -> bool:
    """True on x86 without VNNI, where pairs of U8S8 products saturate in 16 bits."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return True
    return "avx512_vnni" not in flags and "avx_vnni" not in flags
