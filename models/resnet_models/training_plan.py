"""What a training run is: everything that decides its outcome, and where it is written."""

import shlex
from dataclasses import dataclass, field
from pathlib import Path

import torch

from resnet_models.devices import Precision
from resnet_models.normalisation import CIFAR10, Normalisation
from resnet_models.recipes import Recipe
from resnet_models.run_files import Identity, state_path
from resnet_models.variants import Variant


@dataclass(frozen=True)
class TrainingPlan:
    """Everything that decides the outcome of a run beside the images, and where it is written."""

    variant: Variant
    recipe: Recipe
    epochs: int
    seed: int
    out: Path
    normalisation: Normalisation = CIFAR10
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: Precision = "fp32"
    compile: bool = False

    @property
    def state_path(self) -> Path:
        """Where the resumable state lives until the run is complete."""
        return state_path(self.out)

    def identity(self, rows_sha256: str) -> Identity:
        """What must be equal for a run to be continued, or taken as done."""
        return {
            "variant": self.variant.name,
            "recipe": self.recipe.name,
            "epochs": self.epochs,
            "seed": self.seed,
            "precision": self.precision,
            "device": self.device.type,
            "rows_sha256": rows_sha256,
        }

    def command(self) -> str:
        """The command that makes this run again, without `--data`."""
        words = ["resnet-train", "fit", self.variant.name, *self.recipe.options(), "--epochs", str(self.epochs), "--seed", str(self.seed)]
        return shlex.join([*words, "--precision", self.precision])
