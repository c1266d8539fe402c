"""A virtual environment for each peer: servers of this kind do not share their dependencies."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from resnet_bench.errors import BenchError

INSTALL_SECONDS = 900.0
MARKER = "resnet-bench.json"
LIST_VERSIONS = (
    "import json, sys; from importlib.metadata import version; print(json.dumps({name: version(name) for name in sys.argv[1:]}))"
)


class PeerMissingError(BenchError):
    """A peer that cannot run here; the text says why."""


def default_folder() -> Path:
    """Where the environments are kept unless the user says otherwise."""
    return Path.home() / ".cache" / "resnet-serving" / "peers"


@dataclass(frozen=True)
class Environment:
    """The environment NAME below `folder`, with `packages` and the same ONNX Runtime as ours."""

    folder: Path
    name: str
    packages: tuple[str, ...]

    @property
    def path(self) -> Path:
        """The environment's own folder."""
        return self.folder / self.name

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.path / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        """Where its packages are."""
        return self.path / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"

    def ensure(self, install: bool) -> dict[str, str]:
        """The packages' versions; make the environment first if it is not there. Raises PeerMissingError with the reason."""
        wanted = {"python": sys.version.split()[0], "packages": [*self.packages, f"onnxruntime=={our_runtime()}"]}
        marker = self.path / MARKER
        if marker.is_file() and json.loads(marker.read_text(encoding="utf-8")) == wanted:
            return self._versions()
        if not install:
            raise PeerMissingError(f"{self.name}: no environment in {self.path}; run again without --no-install to make it")
        self._install([*self.packages, f"onnxruntime=={our_runtime()}"])
        marker.write_text(json.dumps(wanted) + "\n", encoding="utf-8")
        return self._versions()

    def _install(self, requirements: list[str]) -> None:
        if (self.path / "pyvenv.cfg").is_file():  # another release's, or one that was interrupted
            shutil.rmtree(self.path)
        self._run([sys.executable, "-m", "venv", str(self.path)])
        self._run([str(self.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements])

    def _versions(self) -> dict[str, str]:
        names = [package.partition("==")[0] for package in (*self.packages, "onnxruntime")]
        versions: dict[str, str] = json.loads(self._run([str(self.python), "-c", LIST_VERSIONS, *names]))
        return versions

    def _run(self, command: list[str]) -> str:
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, start_new_session=True, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PeerMissingError(f"{self.name}: cannot be installed in {self.path}: {error}") from None
        if done.returncode:
            lines = [line for line in (done.stderr or done.stdout).strip().splitlines() if line.strip()]
            reason = next((line for line in lines if line.startswith("ERROR")), lines[-1] if lines else "it said nothing")
            raise PeerMissingError(f"{self.name}: cannot be installed on Python {sys.version.split()[0]}: {reason}")
        return done.stdout


def our_runtime() -> str:
    """The version of ONNX Runtime here, in whichever of its packages."""
    for package in ("onnxruntime-gpu", "onnxruntime"):
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    raise BenchError("onnxruntime: not installed")
