"""INT8: ONNX Runtime's static quantiser, with the calibration that agrees best with the fp32 graph.

QDQ, activations UINT8 and weights INT8 per channel (U8S8): the form ONNX Runtime runs fastest on x86; S8S8 is slower than
fp32 there, but is what TensorRT takes.
"""

import inspect
import itertools
import logging
import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from resnet_export.errors import ExportError
from resnet_export.graph import INPUT
from resnet_export.images import ImageSet
from resnet_export.progress import SILENT, Steps
from resnet_export.runtime import Logits, open_session, run_in_batches

METHODS = {"minmax": CalibrationMethod.MinMax, "entropy": CalibrationMethod.Entropy, "percentile": CalibrationMethod.Percentile}
# Half a point of agreement, by which trials are told apart, is 2.5 images of these.
CALIBRATION_IMAGES = 512
# The histogram calibrators keep every activation of a batch in memory: at most this many input pixels are in one.
BATCH_PIXELS = 25 * 32 * 32
JUDGING_BATCH = 25
CLOSE = 0.005


@dataclass(frozen=True)
class Form:
    """How numbers are stored: `reduced` weights take 7 bits, so that no pair of U8S8 products saturates in 16."""

    name: str
    activation: QuantType
    reduced: bool
    options: Mapping[str, object]


U8S7 = Form("QDQ U8S8 per channel, weights in 7 bits", QuantType.QUInt8, True, {})
U8S8 = Form("QDQ U8S8 per channel", QuantType.QUInt8, False, {})
S8S8 = Form("QDQ S8S8 per channel, symmetric", QuantType.QInt8, False, {"ActivationSymmetric": True, "QuantizeBias": False})


def forms(target: str) -> tuple[Form, ...]:
    """What is tried for a target.

    `portable` holds on every processor. `vnni` adds products in 32 bits and has no need to save a bit. Without VNNI, AVX2 adds
    pairs in 16 bits: whether that saturates depends on the network, so on such a machine both are tried, on its own kernels.
    """
    if target == "avx2":
        return (U8S7,) if has_vnni() else (U8S7, U8S8)
    return {"portable": (U8S7,), "vnni": (U8S8,), "cuda": (S8S8,)}[target]


TARGETS = ("portable", "vnni", "avx2", "cuda")


@dataclass(frozen=True)
class Trial:
    """One way to quantise: its calibration method, what stays in fp32, and how it agrees with fp32 on the calibration images."""

    method: str
    form: Form
    kept: str
    agreement: float
    mean_error: float
    data: bytes

    @property
    def recipe(self) -> dict[str, str]:
        """For the manifest."""
        return {
            "calibration": self.method,
            "format": self.form.name,
            "kept_in_fp32": self.kept or "nothing",
            "calibration_agreement": f"{self.agreement:.4f}",
            "calibration_mean_error": f"{self.mean_error:.4f}",
        }


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """Hands out batches; the quantiser asks for a range of them, and forgets their activations before the next."""

    def __init__(self, images: NDArray[np.uint8]) -> None:
        rows = max(1, BATCH_PIXELS // images[0, :, :, 0].size)
        self._batches = [images[start : start + rows] for start in range(0, len(images), rows)]
        self._left: Iterator[NDArray[np.uint8]] = iter(self._batches)

    def __len__(self) -> int:
        return len(self._batches)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._left = iter(self._batches[start_index:end_index])

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        batch = next(self._left, None)
        return None if batch is None else {INPUT: batch}


def quantise(fp32: Path, calibration: ImageSet, path: Path, target: str = "portable", steps: Steps = SILENT) -> dict[str, str]:
    """Quantise the file `fp32` into `path` in the best of all tried ways; return the recipe.

    Tried are all calibration methods with first and last layer in INT8 or kept in fp32. Judged on the calibration
    images, so that the certification images stay unseen: of those within half a point of the best top-1 agreement with
    fp32, the one with the smallest mean logit error. Raises ExportError with what the quantiser says if it fails.
    """
    try:
        with tempfile.TemporaryDirectory() as folder, _quiet():
            trials = _trials(fp32, calibration.images, Path(folder), target, steps)
    except ExportError:
        raise
    except Exception as error:  # ONNX Runtime's quantiser raises many types; it must cost this precision only
        raise ExportError(f"cannot be quantised: {type(error).__name__}: {' '.join(str(error).split())[:300]}") from None
    best = max(trial.agreement for trial in trials)
    chosen = min((t for t in trials if t.agreement >= best - CLOSE), key=lambda t: t.mean_error)
    path.write_bytes(chosen.data)
    return chosen.recipe | {"target": target, "tried": str(len(trials)), "calibration_images": str(len(calibration))}


def _trials(fp32: Path, images: NDArray[np.uint8], folder: Path, target: str, steps: Steps) -> list[Trial]:
    prepared = folder / "prepared.onnx"
    quant_pre_process(str(fp32), str(prepared), skip_symbolic_shape=True)
    ends = first_and_last(onnx.load(prepared))
    ways = list(itertools.product(METHODS, [{}, dict(ends[:1]), dict(ends[1:]), dict(ends)], forms(target)))
    steps.expect((len(ways) + 1) * len(images))
    expected = run_in_batches(open_session(fp32), images, JUDGING_BATCH, steps.advance)
    trials = []
    for count, (method, kept, form) in enumerate(ways, 1):
        steps.step(f"int8: calibration {count} of {len(ways)}")
        trials.append(_try(prepared, images, expected, method, kept, form, folder, steps.advance))
    return trials


def first_and_last(model: onnx.ModelProto) -> list[tuple[str, str]]:
    """(`first layer`, node name) and (`last layer`, node name)."""
    first = next(node.name for node in model.graph.node if node.op_type == "Conv")
    last = next(node.name for node in reversed(model.graph.node) if node.op_type in ("Gemm", "MatMul", "Conv"))
    return [("first layer", first), ("last layer", last)]


def _try(
    prepared: Path,
    images: NDArray[np.uint8],
    expected: Logits,
    method: str,
    kept: dict[str, str],
    form: Form,
    folder: Path,
    advance: Callable[[int], None],
) -> Trial:
    out = folder / "trial.onnx"
    quantize_static(
        str(prepared),
        str(out),
        _Reader(images),
        quant_format=QuantFormat.QDQ,
        activation_type=form.activation,
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=form.reduced,
        calibrate_method=METHODS[method],
        nodes_to_exclude=list(kept.values()),
        extra_options={"CalibStridedMinMax": 1, **form.options},
        **_kept_ranges(folder / f"{method}.{form.activation}.json"),
    )
    session: Any = open_session(out)
    logits = run_in_batches(session, images, JUDGING_BATCH, advance)
    agreement = float((logits.argmax(1) == expected.argmax(1)).mean())
    return Trial(method, form, " and ".join(kept), agreement, float(np.abs(logits - expected).mean()), out.read_bytes())


def _kept_ranges(path: Path) -> dict[str, Path]:
    """Activations have the same ranges whatever is kept in fp32: newer releases of the quantiser can read them from a file."""
    return {"calibration_cache_path": path} if "calibration_cache_path" in inspect.signature(quantize_static).parameters else {}


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser prints, and advises on pre-processing that was done."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with redirect_stdout(StringIO()):
            yield
    finally:
        root.setLevel(level)


def has_vnni() -> bool:
    """Whether this processor multiplies and adds bytes in 32 bits: not on x86 before VNNI, where pairs saturate in 16."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "avx512_vnni" in flags or "avx_vnni" in flags
