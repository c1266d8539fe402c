"""Training: one recipe, one network, a checkpoint after every epoch, resumable to the bit."""

import math
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from resnet_models.branches import prepare_branches
from resnet_models.checkpoint import CheckpointInfo, Epoch, load_state, save_checkpoint
from resnet_models.data import Dataset
from resnet_models.errors import CheckpointError, DataError, DivergedError
from resnet_models.evaluate import test_error
from resnet_models.files import write_atomically
from resnet_models.network import ResNet
from resnet_models.run_files import Identity, differences
from resnet_models.training_plan import TrainingPlan
from resnet_models.training_record import TrainingRecord, hardware_name
from resnet_models.whitening import whiten


@dataclass(frozen=True)
class StepReport:
    """What a progress bar shows: position and running figures of the epoch (error in percent)."""

    epoch: int
    step: int
    steps: int
    loss: float
    train_error: float


class Trainer:
    """Runs a plan epoch by epoch; all randomness of epoch e comes from (seed, e), so a resumed run is the same run."""

    def __init__(self, plan: TrainingPlan, data: Dataset) -> None:
        self.plan = plan
        self.data = data
        self.steps = len(data.train) // plan.recipe.batch
        if self.steps == 0:
            raise DataError(f"data: {len(data.train)} training images are fewer than one batch of {plan.recipe.batch}")
        torch.manual_seed(plan.seed)
        self.network = ResNet(plan.variant, len(data.labels))
        prepare_branches(self.network, plan.recipe)
        if plan.recipe.whiten:
            whiten(self.network.conv1, next(data.train.evaluation_batches(plan.normalisation))[0])
        self.network.to(plan.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack memory_format with a device
        self.average = averaged(self.network, plan.recipe.ema)
        self._forward: Callable[[Tensor], Tensor] = torch.compile(self.network) if plan.compile else self.network
        recipe = plan.recipe
        self.optimiser = torch.optim.SGD(
            self.network.parameters(), lr=0.0, momentum=recipe.momentum, weight_decay=recipe.weight_decay, nesterov=recipe.nesterov
        )
        self.curve: list[Epoch] = []
        self._seconds = 0.0
        self._train_error: float | None = None
        self._rows = data.train.digest()
        self._revision = git_revision()  # of the code that runs, not of the tree as it is when the run ends

    @property
    def result(self) -> ResNet:
        """The network that is evaluated and saved: the averaged one where the recipe averages."""
        return self.average.module if self.average is not None else self.network  # type: ignore[return-value]  # AveragedModel's module is a Module

    def identity(self) -> Identity:
        """What must be equal for this run to be continued."""
        return self.plan.identity(self._rows)

    def resume(self) -> int:
        """Continue from the saved state if there is one, and repair the checkpoint from it; return the number of epochs already done.

        The state is written before the checkpoint: a process killed between the two leaves a checkpoint that is an epoch behind.
        """
        path = self.plan.state_path
        if not path.exists():
            return 0
        try:
            state = torch.load(path, weights_only=True, map_location=self.plan.device)
            identity, curve = state["identity"], [Epoch(**point) for point in state["curve"]]
            optimiser, network, average = state["optimiser"], state["network"], state["average"]
            self._seconds, self._train_error = state["seconds"], state["train_error"]
        except Exception as error:  # torch.load raises whatever the damaged bytes lead to
            raise CheckpointError(f"resume: {path} is not a training state: {error}") from None
        if identity != self.identity():
            raise CheckpointError(f"resume: {path} is of another run: {differences(identity, self.identity())}")
        load_state(self.network, network, path)
        if self.average is not None:
            self.average.load_state_dict(average)
        self.optimiser.load_state_dict(optimiser)
        self.curve = curve
        self._save_checkpoint()
        return len(curve)

    def run(self, on_step: Callable[[StepReport], None], on_epoch: Callable[[Epoch], None]) -> CheckpointInfo:
        """Train the epochs that are left, saving after each; return what the final checkpoint says."""
        for epoch in range(len(self.curve), self.plan.epochs):
            started = time.monotonic()
            loss, train_error = self._epoch(epoch, on_step)
            self._seconds += time.monotonic() - started
            self.curve.append(Epoch(epoch + 1, loss, train_error, test_error(self.result, self.data.test, self.plan.normalisation)))
            if len(self.curve) == self.plan.epochs:
                self._train_error = round(test_error(self.result, self.data.train, self.plan.normalisation), 4)
            self._save_state()
            self._save_checkpoint()
            on_epoch(self.curve[-1])
        return self.info()

    def info(self) -> CheckpointInfo:
        """Metadata of the checkpoint as it stands."""
        plan = self.plan
        record = TrainingRecord(
            dataset=self.data.name,
            planned_epochs=plan.epochs,
            rows_sha256=self._rows,
            precision=plan.precision,
            device=plan.device.type,
            hardware=hardware_name(plan.device),
            threads=torch.get_num_threads(),
            torch_version=torch.__version__,
            train_error=self._train_error,
            seconds=round(self._seconds, 1),
        )
        return CheckpointInfo(
            variant=plan.variant.name,
            labels=self.data.labels,
            normalisation=plan.normalisation,
            input_size=plan.variant.input_size,
            resize=self.data.resize,
            accuracy=round(100 - self.curve[-1].test_error, 4),
            accuracy_images=self.data.test.rows,
            recipe=plan.recipe.name,
            seed=plan.seed,
            epochs=len(self.curve),
            git_revision=self._revision,
            source=f"{plan.command()} on {self.data.train.rows}",
            curve=tuple(self.curve),
            training=record,
        )

    def _epoch(self, epoch: int, on_step: Callable[[StepReport], None]) -> tuple[float, float]:
        """Train one epoch; return mean loss and training error in percent, on the augmented images as seen."""
        seed, batch = self.plan.seed * 100_003 + epoch, self.plan.recipe.batch
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)  # of the blocks that stochastic depth drops
        order = torch.randperm(len(self.data.train), generator=generator)[: self.steps * batch].view(self.steps, batch)
        self.network.train()
        total_loss, wrong = 0.0, 0
        batches = self.data.train.training_batches(order, generator, self.plan.normalisation, self.plan.device)
        pending: list[tuple[Tensor, Tensor]] = []
        for seen, (x, y) in enumerate(batches, start=1):
            pending.append(self._step(epoch * self.steps + seen - 1, x, y))
            if self.plan.device.type == "cuda" and seen < self.steps:
                continue  # reading a figure waits for the device: once an epoch
            for loss, misses in _read(pending, epoch * self.steps + seen - len(pending), self.steps):
                total_loss, wrong = total_loss + loss, wrong + misses
            pending.clear()
            on_step(StepReport(epoch, seen, self.steps, total_loss / seen, 100 * wrong / (seen * batch)))
        return total_loss / self.steps, 100 * wrong / (self.steps * batch)

    def _step(self, index: int, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """One step; loss and wrong answers, still on the device."""
        plan = self.plan
        for group in self.optimiser.param_groups:
            group["lr"] = plan.recipe.rate(index, self.steps * plan.epochs)
        with torch.autocast(plan.device.type, dtype=torch.bfloat16, enabled=plan.precision == "bf16"):
            logits = self._forward(x)
        loss = F.cross_entropy(logits.float(), y, label_smoothing=plan.recipe.label_smoothing)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.optimiser.step()
        if self.average is not None:
            self.average.update_parameters(self.network)
        return loss.detach(), (logits.argmax(1) != y).sum()

    def _save_state(self) -> None:
        state = {
            "identity": self.identity(),
            "network": self.network.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "curve": [asdict(point) for point in self.curve],
            "seconds": self._seconds,
            "train_error": self._train_error,
        }
        write_atomically(self.plan.state_path, lambda temporary: torch.save(state, temporary))

    def _save_checkpoint(self) -> None:
        save_checkpoint(self.plan.out, self.result, self.info())
        if len(self.curve) == self.plan.epochs:
            self.plan.state_path.unlink(missing_ok=True)


def _read(pending: Sequence[tuple[Tensor, Tensor]], first: int, steps: int) -> list[tuple[float, int]]:
    """Loss and wrong answers of steps `first`, `first` + 1 ...; raise DivergedError where a loss is not finite."""
    losses = torch.stack([loss for loss, _ in pending]).tolist()
    for index, loss in enumerate(losses, start=first):
        if not math.isfinite(loss):
            raise DivergedError(f"loss: {loss} at step {index} (epoch {index // steps + 1}); the last good checkpoint is kept")
    return list(zip(losses, torch.stack([misses for _, misses in pending]).tolist(), strict=True))


def averaged(network: nn.Module, decay: float) -> AveragedModel | None:
    """An exponential moving average of weights and statistics; None for a decay of 0."""
    if not decay:
        return None
    return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)  # type: ignore[no-untyped-call]  # torch leaves it untyped


def git_revision() -> str:
    """The commit of the source tree that runs, `-dirty` if changed; empty outside a git checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--match="]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
