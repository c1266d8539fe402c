"""INT8 on a processor without VNNI: what saturates there is refused by the replay, and 7-bit weights never do."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from resnet_export import quantise
from resnet_export.cli import main
from resnet_export.images import ImageSet, bundled
from resnet_proto.manifest import read_manifest, read_replay
from resnet_proto.sample_check import Expected, check_sample
from saturating import NO_QEMU, QEMU, clip_weights, logits_with_pairs, on_haswell

SOME = 16
IN_16, IN_32 = 16, 32


@pytest.fixture(scope="module")
def clipped(pretrained: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A network whose INT8 saturates, published for processors with VNNI and for all."""
    folder = tmp_path_factory.mktemp("clipped")
    checkpoint = clip_weights(pretrained, folder / "clipped.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantise, "METHODS", {"percentile": quantise.METHODS["percentile"]})
        for target in ("vnni", "portable"):
            arguments = ["publish", str(checkpoint), "--repository", str(folder / target), "--precision", "int8", "--no-profile"]
            result = CliRunner().invoke(main, [*arguments, "--target", target, "--min-agreement", "0.9", "--max-accuracy-loss", "10"])
            assert result.exit_code == 0, result.output
    return {target: folder / target / "resnet20" / "1" for target in ("vnni", "portable")}


def stored(version: Path) -> tuple[Path, NDArray[np.uint8], Expected]:
    """The INT8 file, some of the stored images, and what they are held to."""
    manifest = read_manifest(version)
    (artifact,) = manifest.artifacts
    sample = read_replay(version, manifest)
    assert sample is not None
    return version / artifact.file, sample.images[:SOME], sample.expected(manifest, artifact).rows(SOME)


def test_pairs_that_saturate_are_refused_by_the_replay(clipped: dict[str, Path]) -> None:
    path, images, expected = stored(clipped["vnni"])
    assert check_sample(logits_with_pairs(path, images, IN_32), expected).broken == ""
    saturated = logits_with_pairs(path, images, IN_16)
    broken = check_sample(saturated, expected).broken
    assert broken.startswith("logits differ by 0.0")
    assert broken.endswith("a quarter of the certified error")
    assert "in the mean; allowed" in check_sample(saturated, replace(expected, elsewhere=True)).broken  # on any runtime
    assert check_sample(saturated, replace(expected, own=None)).broken == ""  # agreement alone finds nothing


def test_weights_in_7_bits_compute_the_same_in_16_bits(clipped: dict[str, Path]) -> None:
    path, images, expected = stored(clipped["portable"])
    saturating = logits_with_pairs(path, images, IN_16)
    np.testing.assert_array_equal(saturating, logits_with_pairs(path, images, IN_32))
    assert check_sample(saturating, expected).broken == ""


@pytest.mark.skipif(QEMU is None, reason=NO_QEMU)
def test_onnx_runtime_on_a_processor_without_vnni_is_held_to_the_certificate(clipped: dict[str, Path]) -> None:
    held = on_haswell("-m", "resnet_export", "verify", str(clipped["portable"]))
    assert (held.returncode, held.stdout[:11]) == (0, "int8: holds"), held.stderr
    refused = on_haswell("-m", "resnet_export", "verify", str(clipped["vnni"]))
    assert refused.returncode == 1
    assert "int8: BROKEN: at batch 1 logits differ by 0.0" in refused.stdout


@pytest.mark.parametrize(
    ("target", "vnni", "activations", "most"),
    [
        ("portable", True, TensorProto.UINT8, 64),
        ("avx2", True, TensorProto.UINT8, 64),
        ("vnni", False, TensorProto.UINT8, 127),
        ("cuda", True, TensorProto.INT8, 127),
    ],
)
def test_a_target_decides_how_numbers_are_stored(
    target: str, vnni: bool, activations: int, most: int, exported_fp32: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantise, "METHODS", {"minmax": quantise.METHODS["minmax"]})
    monkeypatch.setattr(quantise, "has_vnni", lambda: vnni)
    images = bundled("calibration")
    few = ImageSet(images.images[:50], None, images.names[:50], "50")
    quantise.quantise(exported_fp32, few, tmp_path / "int8.onnx", target)
    graph = onnx.load(tmp_path / "int8.onnx").graph
    values = {tensor.name: tensor for tensor in graph.initializer}
    weights = [numpy_helper.to_array(one) for one in graph.initializer if one.data_type == TensorProto.INT8 and len(one.dims) == 4]
    assert max(int(np.abs(one.astype(int)).max()) for one in weights) == most
    zeros = [values[node.input[2]] for node in graph.node if node.op_type == "QuantizeLinear"]
    assert {one.data_type for one in zeros} == {activations}
    if target == "cuda":
        assert not any(numpy_helper.to_array(one).any() for one in zeros)  # TensorRT takes symmetric ranges only


@pytest.fixture(scope="module")
def exported_fp32(repository: Path) -> Path:
    return repository / "resnet20" / "1" / "model.fp32.onnx"
