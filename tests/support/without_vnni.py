"""INT8 certified here and replayed on a processor without VNNI: `python tests/support/without_vnni.py FILE` measures and writes JSON.

The processor is emulated (qemu-user), the kernels are ONNX Runtime's own. Run it on a machine with VNNI.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from click.testing import CliRunner
from resnet_export import quantise
from resnet_export.cli import main as export
from resnet_networks import REPOSITORY
from resnet_proto.manifest import read_manifest, read_replay
from resnet_proto.sample_check import check_sample
from saturating import NO_QEMU, PROCESSOR, QEMU, clip_weights, on_haswell

ROOT = Path(__file__).parents[2]
PRETRAINED = ROOT / "models" / "resnet_models" / "pretrained" / "resnet20.safetensors"
LOOSE = ("--min-agreement", "0.9", "--max-accuracy-loss", "10")  # what the clipped network reaches
COMPUTE = """
import sys, numpy as np, onnxruntime
options = onnxruntime.SessionOptions()
options.log_severity_level, options.intra_op_num_threads = 3, 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
images = np.load(sys.argv[2])["images"]
np.save(sys.argv[3], np.concatenate([session.run(None, {"image": images[start : start + 32]})[0] for start in range(0, len(images), 32)]))
"""


def publish(checkpoint: Path, repository: Path, target: str) -> Path:
    """Publish INT8 for a target and return the version's folder; one way to calibrate is enough to compare arithmetic."""
    quantise.METHODS = {"percentile": quantise.METHODS["percentile"]}
    command = ["publish", str(checkpoint), "--repository", str(repository), "--no-profile", "--precision", "int8", "--target", target]
    result = CliRunner().invoke(export, [*command, *LOOSE])
    assert result.exit_code == 0, result.output
    return next(repository.iterdir()) / "1"


def versions(folder: Path) -> Iterator[tuple[str, str, Path]]:
    """Name, target and version: the released networks, and resnet20 as trained and with clipped weights for each target."""
    for version in sorted(REPOSITORY.glob("*/1")):
        yield f"{version.parent.name}, released", "portable", version
    clipped = clip_weights(PRETRAINED, folder / "clipped.safetensors")
    for name, checkpoint in (("resnet20", PRETRAINED), ("resnet20, weights clipped", clipped)):
        for target in ("portable", "vnni"):
            yield name, target, publish(checkpoint, folder / f"{checkpoint.stem}-{target}", target)


def measure(name: str, target: str, version: Path, folder: Path) -> dict[str, object]:
    """Replay one version there."""
    manifest = read_manifest(version)
    (artifact,) = [one for one in manifest.artifacts if one.precision == "int8"]
    sample = read_replay(version, manifest)
    assert sample is not None
    expected = sample.expected(manifest, artifact)
    assert expected.own is not None
    done = on_haswell("-c", COMPUTE, str(version / artifact.file), str(version / manifest.replay.file), str(folder / "there.npy"))
    assert done.returncode == 0, done.stderr
    there = np.load(folder / "there.npy")
    difference, made = float(np.abs(there - expected.own).mean()), artifact.certificate.mean_abs_error
    return {
        "network": name,
        "target": target,
        "certified_on": artifact.certificate.machine,
        "certified_error": made,
        "difference": difference,
        "share": difference / made,
        "same_answers": float((there.argmax(1) == expected.own.argmax(1)).mean()),
        "broken": check_sample(there, expected).broken,
    }


def main(path: Path) -> None:
    """Measure all and write the file."""
    assert QEMU, NO_QEMU
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        rows = [measure(*version, folder) for version in versions(folder)]
    version = subprocess.run([QEMU, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    found = {"processor": f"{PROCESSOR}, emulated by {version}", "images": 128, "rows": rows}
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    for row in rows:
        print(row)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
