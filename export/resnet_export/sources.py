"""Where a network comes from: our checkpoints, and files of others with what they do not say."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from resnet_models.checkpoint import Checkpoint, load_checkpoint
from resnet_models.foreign import ForeignFacts, load_foreign
from resnet_models.labels import read_labels
from resnet_models.normalisation import IMAGENET, Normalisation, Triple
from resnet_models.variants import VARIANTS, find_variant

from resnet_export.errors import ExportError

OURS = ".safetensors"


@dataclass(frozen=True)
class Given:
    """What the command line says of a foreign file."""

    variant: str | None = None
    mean: Triple | None = None
    std: Triple | None = None
    labels: Path | None = None

    def options(self) -> dict[str, object]:
        """The options by the names people type."""
        return {"--variant": self.variant, "--mean": self.mean, "--std": self.std, "--labels": self.labels}

    def with_known_normalisation(self) -> "Given":
        """ImageNet variants are normalised as all of torchvision's weights are, unless --mean or --std says otherwise."""
        if self.variant is None or find_variant(self.variant).stem != "imagenet":
            return self
        return replace(self, mean=self.mean or IMAGENET.mean, std=self.std or IMAGENET.std)


TORCHVISION = "torchvision:"


@contextmanager
def open_source(text: str, given: Given, random_weights: bool) -> Iterator[tuple[Checkpoint, Path]]:
    """Give the network and the file that holds it: a checkpoint, `torchvision:NAME[:V1|V2]`, or a variant with random weights.

    What has no file of ours is written to a temporary one, so that the manifest can name its digest.
    """
    if not random_weights and not text.startswith(TORCHVISION):
        if text in VARIANTS and not Path(text).exists():
            raise ExportError(f"checkpoint: '{text}' is a variant, not a file; --random-weights publishes it untrained")
        yield read_source(Path(text), given), Path(text)
        return
    from resnet_models.published import from_torchvision, keep, with_random_weights

    if random_weights:
        checkpoint = with_random_weights(text)
    else:
        name, _, weights = text.removeprefix(TORCHVISION).partition(":")
        checkpoint = from_torchvision(name, weights or "DEFAULT")
    with tempfile.TemporaryDirectory() as folder:
        yield checkpoint, keep(checkpoint, Path(folder) / f"{checkpoint.info.variant}.safetensors")


def read_source(path: Path, given: Given) -> Checkpoint:
    """Read a checkpoint; raise ExportError naming the options that a foreign file needs or that ours does not take."""
    if not path.is_file():
        raise ExportError(f"checkpoint: {path} is not a file")
    options = given.options()
    if path.suffix == OURS:
        if superfluous := [name for name, value in options.items() if value is not None]:
            raise ExportError(f"{', '.join(superfluous)}: {path.name} says this itself; the options are for foreign files")
        return load_checkpoint(path)
    given = given.with_known_normalisation()
    if given.variant is None or given.mean is None or given.std is None or given.labels is None:
        missing = ", ".join(name for name, value in given.options().items() if value is None)
        raise ExportError(f"checkpoint: {path.name} is not of our format and does not say {missing}; give these options")
    return load_foreign(path, ForeignFacts(given.variant, read_labels(given.labels), Normalisation(given.mean, given.std)))
