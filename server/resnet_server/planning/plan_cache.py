"""Plans kept between starts, by what they depend on: the files, the machine, ONNX Runtime and the limits asked for."""

import hashlib
import json
import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from resnet_server.planning.plan import Plan

log = logging.getLogger(__name__)

FORMAT = 4


def default_folder() -> Path:
    """`$XDG_CACHE_HOME/resnet-serving/plans`, by default below `~/.cache`, and below the temporary folder for a user without home."""
    try:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # an unknown user id, as OpenShift gives
        caches = Path(tempfile.gettempdir())
    return caches / "resnet-serving" / "plans"


@dataclass(frozen=True)
class PlanCache:
    """A folder of plans; one that cannot be read or written is only slower."""

    folder: Path

    def path(self, key: dict[str, object]) -> Path:
        """The file of a plan."""
        text = json.dumps({"format": FORMAT, **key}, sort_keys=True)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"

    def load(self, key: dict[str, object]) -> Plan | None:
        """The plan, or None."""
        path = self.path(key)
        try:
            return Plan.from_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("plan-cache: %s is not readable (%s); measuring again", path, error)
            return None

    def save(self, key: dict[str, object], plan: Plan) -> None:
        """Keep the plan, whole or not at all."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self.folder, suffix=".new", delete=False, encoding="utf-8") as file:
                file.write(plan.to_json())
            Path(file.name).replace(self.path(key))
        except OSError as error:
            log.warning("plan-cache: %s cannot be written (%s); the next start measures again", self.folder, error.strerror)
