"""`make first-answer`: what a newcomer waits for and downloads, measured in an empty environment, into docs/results/first-answer.json.

    first_answer.py WHEELS

WHEELS is the folder that `make wheels` filled; everything else comes from the package registry, without a cache.
"""

import json
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from resnet_bench.machine import processor

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs" / "results" / "first-answer.json"
FREE = ("--grpc-port", "0", "--http-port", "0", "--metrics-port", "0")


def main() -> None:
    """Download, install, serve and ask; write and print what each took."""
    wheels = Path(sys.argv[1]).resolve()
    (code,) = wheels.glob("resnet_serving-[0-9]*.whl")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment, packages = folder / "environment", folder / "packages"
        run(sys.executable, "-m", "venv", str(environment))
        pip = (str(environment / "bin" / "python"), "-m", "pip")
        wanted = f"{code}[server]"
        fetched = run(*pip, "download", "--quiet", "--no-cache-dir", "--find-links", str(wheels), "--dest", str(packages), wanted)
        installed = run(*pip, "install", "--quiet", "--no-index", "--find-links", str(packages), wanted)
        answered = run(str(environment / "bin" / "resnet-server"), "demo", "--stop", *FREE)
        found = {
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": f"{processor()}, {platform.system()} {platform.machine()}",
            "python": platform.python_version(),
            "download_bytes": size(packages),
            "environment_bytes": size(environment),
            "download_seconds": round(fetched, 1),
            "install_seconds": round(installed, 1),
            "demo_seconds": round(answered, 1),
            "wheel_bytes": {path.name.partition("-")[0]: path.stat().st_size for path in sorted(wheels.glob("*.whl"))},
        }
    TARGET.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(TARGET.read_text(encoding="utf-8"), end="")


def run(*command: str) -> float:
    """Seconds that a command took; ends this one where it fails."""
    begun = time.monotonic()
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(f"{' '.join(command[:4])}: {result.stderr.strip()}")
    return time.monotonic() - begun


def size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


if __name__ == "__main__":
    main()
