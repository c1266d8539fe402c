"""Where a network comes from: our checkpoints, and files of others with what they do not say."""

from dataclasses import dataclass
from pathlib import Path

from resnet_models.checkpoint import Checkpoint, load_checkpoint
from resnet_models.foreign import ForeignFacts, load_foreign
from resnet_models.labels import read_labels
from resnet_models.normalisation import Normalisation, Triple

from resnet_export.errors import ExportError

OURS = ".safetensors"


@dataclass(frozen=True)
class Given:
    """What the command line says of a foreign file."""

    variant: str | None = None
    mean: Triple | None = None
    std: Triple | None = None
    labels: Path | None = None


def read_source(path: Path, given: Given) -> Checkpoint:
    """Read a checkpoint; raise ExportError naming the options that a foreign file needs or that ours does not take."""
    if not path.is_file():
        raise ExportError(f"checkpoint: {path} is not a file")
    options = {"--variant": given.variant, "--mean": given.mean, "--std": given.std, "--labels": given.labels}
    if path.suffix == OURS:
        if superfluous := [name for name, value in options.items() if value is not None]:
            raise ExportError(f"{', '.join(superfluous)}: {path.name} says this itself; the options are for foreign files")
        return load_checkpoint(path)
    if given.variant is None or given.mean is None or given.std is None or given.labels is None:
        missing = ", ".join(name for name, value in options.items() if value is None)
        raise ExportError(f"checkpoint: {path.name} is not of our format and does not say {missing}; give these options")
    return load_foreign(path, ForeignFacts(given.variant, read_labels(given.labels), Normalisation(given.mean, given.std)))
