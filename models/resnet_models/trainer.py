"""Training on CIFAR-10: one recipe, one network, a checkpoint after every epoch, resumable to the bit."""

import math
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from resnet_models.augment import crop_and_flip, normalise
from resnet_models.checkpoint import CheckpointInfo, Epoch, load_state, save_checkpoint
from resnet_models.data import Cifar10, Images
from resnet_models.devices import Precision
from resnet_models.errors import CheckpointError, DataError, DivergedError
from resnet_models.evaluate import test_error
from resnet_models.files import write_atomically
from resnet_models.labels import CIFAR10_LABELS
from resnet_models.network import ResNet
from resnet_models.normalisation import CIFAR10, Normalisation
from resnet_models.recipes import Recipe
from resnet_models.variants import Variant


@dataclass(frozen=True)
class StepReport:
    """What a progress bar shows: position and running figures of the epoch (error in percent)."""

    epoch: int
    step: int
    steps: int
    loss: float
    train_error: float


@dataclass(frozen=True)
class TrainingPlan:
    """Everything that decides the outcome of a run, and where it is written."""

    variant: Variant
    recipe: Recipe
    epochs: int
    seed: int
    out: Path
    normalisation: Normalisation = CIFAR10
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: Precision = "fp32"

    @property
    def state_path(self) -> Path:
        """Where the resumable state lives until the run is complete."""
        return self.out.with_name(self.out.name + ".state")

    def identity(self) -> dict[str, str | int]:
        """What must be equal for a run to be continued."""
        return {"variant": self.variant.name, "recipe": self.recipe.name, "epochs": self.epochs, "seed": self.seed}


class Trainer:
    """Runs a plan epoch by epoch; all randomness of epoch e comes from (seed, e), so a resumed run is the same run."""

    def __init__(self, plan: TrainingPlan, data: Cifar10) -> None:
        self.plan = plan
        self.data = data
        self.steps = len(data.train) // plan.recipe.batch
        if self.steps == 0:
            raise DataError(f"data: {len(data.train)} training images are fewer than one batch of {plan.recipe.batch}")
        torch.manual_seed(plan.seed)
        self.network = ResNet(plan.variant, len(CIFAR10_LABELS)).to(plan.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack memory_format with a device
        recipe = plan.recipe
        self.optimiser = torch.optim.SGD(
            self.network.parameters(), lr=0.0, momentum=recipe.momentum, weight_decay=recipe.weight_decay, nesterov=recipe.nesterov
        )
        self.curve: list[Epoch] = []
        self._revision = git_revision()  # of the code that runs, not of the tree as it is when the run ends

    def resume(self) -> int:
        """Continue from the saved state if there is one; return the number of epochs already done."""
        path = self.plan.state_path
        if not path.exists():
            return 0
        try:
            state = torch.load(path, weights_only=True, map_location=self.plan.device)
            identity, curve = state["identity"], [Epoch(**point) for point in state["curve"]]
            optimiser, network = state["optimiser"], state["network"]
        except Exception as error:  # torch.load raises whatever the damaged bytes lead to
            raise CheckpointError(f"resume: {path} is not a training state: {error}") from None
        if identity != self.plan.identity():
            raise CheckpointError(f"resume: {path} belongs to {identity}; this run is {self.plan.identity()}")
        load_state(self.network, network, path)
        self.optimiser.load_state_dict(optimiser)
        self.curve = curve
        return len(curve)

    def run(self, on_step: Callable[[StepReport], None], on_epoch: Callable[[Epoch], None]) -> CheckpointInfo:
        """Train the epochs that are left, saving after each; return what the final checkpoint says."""
        for epoch in range(len(self.curve), self.plan.epochs):
            loss, train_error = self._epoch(epoch, on_step)
            error = test_error(self.network, self.data.test, self.plan.normalisation)
            self.curve.append(Epoch(epoch + 1, loss, train_error, error))
            self._save()
            on_epoch(self.curve[-1])
        return self.info()

    def info(self) -> CheckpointInfo:
        """Metadata of the checkpoint as it stands."""
        plan = self.plan
        return CheckpointInfo(
            variant=plan.variant.name,
            labels=CIFAR10_LABELS,
            normalisation=plan.normalisation,
            input_size=plan.variant.input_size,
            accuracy=round(100 - self.curve[-1].test_error, 4),
            accuracy_images=self.data.test.rows,
            recipe=plan.recipe.name,
            seed=plan.seed,
            epochs=len(self.curve),
            git_revision=self._revision,
            source=f"resnet-train fit {plan.variant.name} --recipe {plan.recipe.name} --epochs {plan.epochs} --seed {plan.seed}"
            f" on {self.data.train.rows}",
            curve=tuple(self.curve),
        )

    def _epoch(self, epoch: int, on_step: Callable[[StepReport], None]) -> tuple[float, float]:
        """Train one epoch; return mean loss and training error in percent, on the augmented images as seen."""
        generator = torch.Generator().manual_seed(self.plan.seed * 100_003 + epoch)
        batch = self.plan.recipe.batch
        order = torch.randperm(len(self.data.train), generator=generator)[: self.steps * batch].view(self.steps, batch)
        self.network.train()
        total_loss, wrong = 0.0, 0
        for step, rows in enumerate(order):
            loss, misses = self._step(epoch * self.steps + step, self.data.train, rows, generator)
            total_loss, wrong = total_loss + loss, wrong + misses
            seen = step + 1
            on_step(StepReport(epoch, seen, self.steps, total_loss / seen, 100 * wrong / (seen * batch)))
        return total_loss / self.steps, 100 * wrong / (self.steps * batch)

    def _step(self, index: int, images: Images, rows: Tensor, generator: torch.Generator) -> tuple[float, int]:
        plan = self.plan
        for group in self.optimiser.param_groups:
            group["lr"] = plan.recipe.rate(index, self.steps * plan.epochs)
        x = crop_and_flip(normalise(images.x[rows].to(plan.device), plan.normalisation), generator)
        y = images.y[rows].to(plan.device)
        with torch.autocast(plan.device.type, dtype=torch.bfloat16, enabled=plan.precision == "bf16"):
            logits = self.network(x)
        loss = F.cross_entropy(logits.float(), y, label_smoothing=plan.recipe.label_smoothing)
        value = loss.item()
        if not math.isfinite(value):
            raise DivergedError(f"loss: {value} at step {index} (epoch {index // self.steps + 1}); the last good checkpoint is kept")
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.optimiser.step()
        return value, int((logits.argmax(1) != y).sum())

    def _save(self) -> None:
        state = {
            "identity": self.plan.identity(),
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "curve": [asdict(point) for point in self.curve],
        }
        write_atomically(self.plan.state_path, lambda temporary: torch.save(state, temporary))
        save_checkpoint(self.plan.out, self.network, self.info())
        if len(self.curve) == self.plan.epochs:
            self.plan.state_path.unlink()


def git_revision() -> str:
    """The commit of the source tree that runs, `-dirty` if changed; empty outside a git checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--match="]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
