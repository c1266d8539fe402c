"""What was found out about a file on a GPU, kept between starts: an engine that died comes back soon, and as it was certified."""

import json
import logging
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import onnxruntime

from resnet_server.engines.api import EngineSpec
from resnet_server.engines.gpu.tuning import Tactic

log = logging.getLogger(__name__)

HEX_DIGITS = 16


def user_cache() -> Path:
    """`$XDG_CACHE_HOME/resnet-serving`, by default below `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "resnet-serving"


def fingerprint(spec: EngineSpec, sha256: str) -> str:
    """The file's digest, the GPU and ONNX Runtime's version, as a name for files."""
    gpu = "".join(letter if letter.isalnum() else "-" for letter in spec.device.name) or "gpu"
    return f"{sha256[:HEX_DIGITS]}-{gpu}-{onnxruntime.__version__}"


@dataclass(frozen=True)
class TuningCache:
    """A file of tactics by bucket; one that cannot be read or written costs another search."""

    path: Path

    def load(self, buckets: tuple[int, ...]) -> dict[int, Tactic]:
        """The tactic of every bucket, or nothing."""
        try:
            values = json.loads(self.path.read_text(encoding="utf-8"))
            return {rows: Tactic(**values[str(rows)]) for rows in buckets}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("tactics: %s is not readable (%s); searching again", self.path, error)
            return {}

    def save(self, tactics: dict[int, Tactic]) -> None:
        """Keep the tactics, whole or not at all."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self.path.parent, suffix=".new", delete=False, encoding="utf-8") as file:
                json.dump({str(rows): asdict(tactic) for rows, tactic in tactics.items()}, file)
            Path(file.name).replace(self.path)
        except OSError as error:
            log.warning("tactics: %s cannot be written (%s); the next start searches again", self.path.parent, error.strerror)


def tuning_cache(spec: EngineSpec, sha256: str) -> TuningCache:
    """The memo of a file's tactics up to `spec.max_rows` rows."""
    return TuningCache(user_cache() / "tactics" / f"{fingerprint(spec, sha256)}-{spec.max_rows}.json")
