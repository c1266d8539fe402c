"""Published repositories for tests, made once for each state of the exporter: a second run in the same folder need not wait."""

import fcntl
import hashlib
import importlib.metadata
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = ("models", "export", "proto")
LIBRARIES = ("torch", "onnx", "onnxruntime-gpu", "numpy")


def published(cache: Path, target: Path, checkpoint: Path, *options: str) -> Path:
    """A copy in `target` of what `resnet-export publish` makes of `checkpoint`, from `cache` where this exporter has made it before."""
    kept = cache / f"published-{state(checkpoint, options)}"
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of two runs, one makes it and the other waits
        if not kept.exists():
            make(kept, checkpoint, *options)
    return Path(shutil.copytree(kept, target))


def make(kept: Path, checkpoint: Path, *options: str) -> None:
    """Publish, whole or not at all."""
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        fresh = Path(folder) / "repository"
        command = [sys.executable, "-m", "resnet_export", "publish", str(checkpoint), "--repository", str(fresh), "--no-profile"]
        result = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
        fresh.rename(kept)


def state(checkpoint: Path, options: tuple[str, ...]) -> str:
    """A digest of all that the result depends on: sources, libraries, checkpoint, options, and the processor's kind."""
    digest = hashlib.sha256(repr((options, [importlib.metadata.version(name) for name in LIBRARIES])).encode())
    for path in (*sorted(path for name in SOURCES for path in (ROOT / name).rglob("*") if path.suffix in (".py", ".binpb")), checkpoint):
        digest.update(path.read_bytes())
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    digest.update("".join(sorted({line for line in lines if line.startswith(("model name", "flags"))})).encode())
    return digest.hexdigest()[:16]
