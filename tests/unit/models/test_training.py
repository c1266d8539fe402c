"""Training: data, recipes, and a run on real images that can be interrupted anywhere."""

import math
import os
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from click.testing import CliRunner
from resnet_models.augment import crop_and_flip, normalise
from resnet_models.checkpoint import load_checkpoint
from resnet_models.cli import main
from resnet_models.data import Cifar10, Images, load_cifar10
from resnet_models.devices import pick_precision
from resnet_models.errors import CheckpointError, DataError, DivergedError
from resnet_models.evaluate import predict
from resnet_models.labels import CIFAR10_LABELS
from resnet_models.normalisation import CIFAR10
from resnet_models.recipes import Changes, Recipe, find_recipe
from resnet_models.sample import load_sample
from resnet_models.trainer import StepReport, Trainer
from resnet_models.training_plan import TrainingPlan
from resnet_models.variants import find_variant

SMALL = find_variant("resnet20")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An .npz pair of real images: the bundled calibration sample, and 100 of the certification sample."""
    path = tmp_path_factory.mktemp("cifar")
    train, test = load_sample("calibration"), load_sample()
    np.savez(path / "cifar10_train.npz", x=train.images.transpose(0, 3, 1, 2), y=train.labels.astype(np.uint8))
    exact = np.arange(len(test.labels)) < 100
    np.savez(path / "cifar10_test.npz", x=test.images.transpose(0, 3, 1, 2), y=test.labels.astype(np.uint8), exact=exact)
    return path


@pytest.fixture(scope="module")
def data(folder: Path) -> Cifar10:
    return load_cifar10(folder)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def plan(out: Path, epochs: int = 2, recipe: Recipe | None = None) -> TrainingPlan:
    precision = pick_precision(os.environ.get("RESNET_TRAIN_PRECISION", "auto"), torch.device("cpu"))
    return TrainingPlan(SMALL, recipe or find_recipe("short", SMALL), epochs, 7, out, precision=precision)


def ignore(_: object) -> None:
    pass


def test_only_exact_rows_are_used_and_named(data: Cifar10) -> None:
    assert (len(data.train), len(data.test)) == (500, 100)
    assert data.test.rows == "100 pixel-exact CIFAR-10 test images"


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("cifar10_train.npz", b"PK", "is truncated or not a CIFAR-10 .npz"),
        ("cifar10_test.npz", None, "lacks cifar10_test.npz"),
    ],
)
def test_missing_and_truncated_data_are_named(name: str, damage: bytes | None, message: str, folder: Path, tmp_path: Path) -> None:
    for source in folder.iterdir():
        (tmp_path / source.name).write_bytes(source.read_bytes())
    (tmp_path / name).write_bytes(damage) if damage else (tmp_path / name).unlink()
    with pytest.raises(DataError, match=message):
        load_cifar10(tmp_path)


def test_torchvisions_folder_holds_the_same_images(data: Cifar10, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision.datasets.cifar, "check_integrity", lambda *_: True)  # the digests are of the full set
    batches = tmp_path / "cifar-10-batches-py"
    batches.mkdir()
    rows = data.train.x.reshape(5, 100, -1).numpy()
    for number, (x, y) in enumerate(zip(rows, data.train.y.view(5, 100).tolist(), strict=True), start=1):
        (batches / f"data_batch_{number}").write_bytes(pickle.dumps({"data": x, "labels": y}))
    (batches / "test_batch").write_bytes(pickle.dumps({"data": rows[0], "labels": data.train.y[:100].tolist()}))
    (batches / "batches.meta").write_bytes(pickle.dumps({"label_names": list(CIFAR10_LABELS)}))
    loaded = load_cifar10(tmp_path)
    assert torch.equal(loaded.train.x, data.train.x)
    assert torch.equal(loaded.train.y, data.train.y)
    assert loaded.test.rows == "100 CIFAR-10 test images"


def test_augmentation_shifts_and_flips_whole_images() -> None:
    images = torch.arange(2 * 3 * 32 * 32, dtype=torch.float32).view(2, 3, 32, 32) + 1
    out = crop_and_flip(images, torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(images, (4,) * 4)
    for original, crop in zip(padded, out, strict=True):
        windows = [original[:, y : y + 32, x : x + 32] for y in range(9) for x in range(9)]
        assert any(torch.equal(crop, window) or torch.equal(crop, window.flip(2)) for window in windows)


def test_normalisation_is_per_channel() -> None:
    image = torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)
    expected = [(1 - mean) / std for mean, std in zip(CIFAR10.mean, CIFAR10.std, strict=True)]
    assert normalise(image, CIFAR10).flatten().tolist() == pytest.approx(expected)


def test_the_papers_schedule() -> None:
    rate = find_recipe("paper", find_variant("resnet20")).rate
    assert [round(rate(step, 64_000), 6) for step in (0, 31_999, 32_000, 47_999, 48_000)] == [0.1, 0.1, 0.01, 0.01, 0.001]
    warmed = find_recipe("paper", find_variant("resnet110")).rate
    assert [round(warmed(step, 64_000), 6) for step in (0, 399, 400)] == [0.01, 0.01, 0.1]


def test_the_one_cycle_schedule_rises_and_ends_at_zero() -> None:
    rate = find_recipe("short", SMALL).rate
    rates = [rate(step, 100) for step in range(100)]
    assert max(rates) == pytest.approx(0.2)
    assert rates.index(max(rates)) == 19
    assert rates[-1] == 0


def test_a_resumed_run_reaches_the_weights_of_an_uninterrupted_one(data: Cifar10, tmp_path: Path) -> None:
    check_that_resuming_changes_nothing(data, tmp_path)


@pytest.mark.shared
def test_an_epoch_of_2000_images_interrupted_in_the_middle_ends_the_same(shared: Path, tmp_path: Path) -> None:
    full = load_cifar10(shared / "cifar10")
    data = Cifar10(full.train.head(2000), full.test.head(200))
    assert len(data.train) == 2000
    check_that_resuming_changes_nothing(data, tmp_path, interrupted_at=8)


def test_a_resumed_run_drops_the_same_blocks(data: Cifar10, tmp_path: Path) -> None:
    check_that_resuming_changes_nothing(data, tmp_path, recipe=find_recipe("short", SMALL, Changes(stochastic_depth=0.5)))


def check_that_resuming_changes_nothing(data: Cifar10, tmp_path: Path, interrupted_at: int = 2, recipe: Recipe | None = None) -> None:
    Trainer(plan(tmp_path / "whole.safetensors", recipe=recipe), data).run(ignore, ignore)

    def interrupt(report: StepReport) -> None:
        if report.epoch == 1 and report.step == interrupted_at:
            raise KeyboardInterrupt

    broken = plan(tmp_path / "parts.safetensors", recipe=recipe)
    with pytest.raises(KeyboardInterrupt):
        Trainer(broken, data).run(interrupt, ignore)
    trainer = Trainer(broken, data)
    assert trainer.resume() == 1
    trainer.run(ignore, ignore)

    whole, parts = load_checkpoint(tmp_path / "whole.safetensors"), load_checkpoint(tmp_path / "parts.safetensors")
    assert whole.info == parts.info
    for key, value in whole.network.state_dict().items():
        assert torch.equal(value, parts.network.state_dict()[key]), key
    assert not broken.state_path.exists()


def test_training_learns_what_no_guesser_knows(data: Cifar10, tmp_path: Path) -> None:
    few = Images(data.train.x[::12][:40], data.train.y[::12][:40], "40 training images")
    falling = lambda step, steps: 0.05 * (1 - step / steps)  # noqa: E731  # to 0: a last large step would leave the result to luck
    recipe = replace(find_recipe("short", SMALL), batch=20, rate=falling)
    trainer = Trainer(plan(tmp_path / "a.safetensors", epochs=40, recipe=recipe), Cifar10(few, few.head(2)))
    trainer.run(ignore, ignore)
    right = int((predict(trainer.network, few.x, CIFAR10).argmax(1) == few.y).sum())
    commonest = int(few.y.bincount().max()) / len(few)  # what always answering one class gets right
    assert chance_of(right, len(few), commonest) < 1e-9


def chance_of(least: int, n: int, p: float) -> float:
    """The exact probability that `least` or more of `n` guesses are right, each with probability `p`."""
    return sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(least, n + 1))


def test_a_state_of_another_run_is_not_continued(data: Cifar10, tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Trainer(plan(out), data).run(ignore, stop)
    with pytest.raises(CheckpointError, match=r"resume: .* is of another run: seed 7 instead of 8"):
        Trainer(replace(plan(out), seed=8), data).resume()


def test_a_diverging_loss_stops_the_run_and_keeps_the_last_good_checkpoint(data: Cifar10, tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    steps = len(data.train) // 128
    wild = replace(find_recipe("short", SMALL), rate=lambda step, _: 0.01 if step < steps else math.inf)
    with pytest.raises(DivergedError, match=rf"loss: nan at step {steps + 1} \(epoch 2\)"):
        Trainer(plan(out, recipe=wild), data).run(ignore, ignore)
    assert load_checkpoint(out).info.epochs == 1


def test_the_command_line_trains_a_real_epoch_in_the_arithmetic_that_the_environment_names(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    arguments = ["fit", "resnet20", "--data", str(folder), "--epochs", "1", "--out", str(out), "--threads", "1"]
    wrong = CliRunner().invoke(main, arguments, env={"RESNET_TRAIN_PRECISION": "fp16"})
    assert wrong.exit_code == 2
    assert "'fp16' is not one of 'auto', 'fp32', 'bf16'" in wrong.output
    result = CliRunner().invoke(main, arguments, env={"RESNET_TRAIN_PRECISION": "fp32"})
    assert result.exit_code == 0, result.output
    assert "fp32 on cpu" in result.output
    assert load_checkpoint(out).info.variant == "resnet20"
    assert "on 100 pixel-exact CIFAR-10 test images" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "resnet21", "--data", "."], "variant: 'resnet21' is unknown"),
        (["fit", "resnet50", "--data", "nowhere"], "data: nowhere/train is no folder with a folder of images for each class"),
        (["fit", "resnet18d", "--data", "nowhere"], "data: nowhere/train is no folder with a folder of images for each class"),
        (["fit", "resnet20", "--data", "nowhere", "--batch", "0"], "0 is not in the range x>=1"),
        (["fit", "resnet20", "--data", "nowhere"], "data: nowhere has neither"),
        (["fit", "resnet20", "--data", ".", "--device", "tpu"], "device: 'tpu' is unknown"),
        (["fit", "resnet20", "--data", ".", "--precision", "fp16"], "'fp16' is not one of 'auto', 'fp32', 'bf16'"),
    ],
)
def test_bad_input_is_one_clear_line(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code != 0
    assert message in result.output
    assert "Traceback" not in result.output
