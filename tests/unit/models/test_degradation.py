"""The degradation experiment: curves, plot, and a verdict that says what the numbers say."""

import csv
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from resnet_models.checkpoint import CheckpointInfo, Epoch, save_checkpoint
from resnet_models.cli import main
from resnet_models.degradation import Run, networks, reusable, verdict
from resnet_models.errors import ResnetModelsError
from resnet_models.labels import CIFAR10_LABELS
from resnet_models.network import build
from resnet_models.normalisation import CIFAR10
from resnet_models.run_files import Identity
from resnet_models.sample import load_sample
from resnet_models.training_record import TrainingRecord


def run(name: str, train_error: float) -> Run:
    return Run(name, 1, (Epoch(1, 2.0, 60.0, 60.0), *(Epoch(e, 1.0, train_error, train_error + 2) for e in (2, 3, 4))))


def four(plain20: float, plain56: float, resnet20: float, resnet56: float) -> list[Run]:
    return [run("plain20", plain20), run("plain56", plain56), run("resnet20", resnet20), run("resnet56", resnet56)]


def test_the_verdict_agrees_with_the_paper_only_where_the_numbers_do() -> None:
    as_in_the_paper = verdict(four(8, 12, 5, 2))
    assert "plain56's training error, 12.00 %, is 4.00 points above plain20's, 8.00 %" in as_in_the_paper
    assert "the degradation is there" in as_in_the_paper
    assert "resnet56's training error, 2.00 %, is 3.00 points below resnet20's" in as_in_the_paper
    assert "this has the signs of He et al." in as_in_the_paper
    assert "NO degradation in this run" in verdict(four(12, 8, 5, 2))
    assert "depth does NOT help in this run" in verdict(four(8, 12, 2, 5))
    assert "does not have the signs of He et al." in verdict(four(8, 12, 2, 5))


@pytest.mark.parametrize("depths", [(56, 20), (20, 20), (20, 57), (18, 34)])
def test_depths_that_are_no_pair_are_refused(depths: tuple[int, int]) -> None:
    with pytest.raises(ResnetModelsError, match="expected two of 20, 32, 44, 56, 110, the smaller first"):
        networks(depths)


def test_the_experiment_runs_is_written_and_is_not_run_again(tmp_path: Path) -> None:
    train, test = load_sample("calibration"), load_sample()
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    np.savez(data / "cifar10_train.npz", x=train.images[:128].transpose(0, 3, 1, 2), y=train.labels[:128].astype(np.uint8))
    np.savez(data / "cifar10_test.npz", x=test.images[:50].transpose(0, 3, 1, 2), y=test.labels[:50].astype(np.uint8))
    arguments = ["degradation", "--data", str(data), "--out", str(out), "--depths", "20,32", "--epochs", "1", "--threads", "1"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    with (out / "curves.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["network"] for row in rows] == ["plain20", "plain32", "resnet20", "resnet32"]
    assert list(rows[0]) == ["network", "epoch", "train_loss", "train_error", "test_error"]
    assert "one run each" in (out / "verdict.txt").read_text()
    with Image.open(out / "degradation.png") as picture:
        assert picture.width > 1000
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 0, again.output
    assert again.output.count("nothing to do") == 4
    elsewhere = CliRunner().invoke(main, [*arguments, "--out", str(tmp_path / "elsewhere"), "--reuse", str(out)])
    assert elsewhere.output.count(f"taken from {out}") == 4


def test_a_run_that_stopped_early_is_not_taken_for_a_short_one(tmp_path: Path) -> None:
    path = tmp_path / "plain20.safetensors"
    curve = tuple(Epoch(epoch, 2.0, 60.0, 60.0) for epoch in range(1, 11))
    wanted: Identity = {"variant": "plain20", "recipe": "short", "epochs": 10, "seed": 1, "precision": "fp32", "rows_sha256": "ab"}

    def info(planned: int, training: TrainingRecord | None = None) -> CheckpointInfo:
        source = f"resnet-train fit plain20 --recipe short --epochs {planned} --seed 1 on 100 images"
        return CheckpointInfo(
            "plain20", CIFAR10_LABELS, CIFAR10, 32, recipe="short", seed=1, epochs=10, source=source, curve=curve, training=training
        )

    def taken(what: CheckpointInfo) -> bool:
        save_checkpoint(path, build("plain20"), what)
        return reusable(path, wanted) is not None

    def record(planned: int, rows: str) -> TrainingRecord:
        return TrainingRecord("CIFAR-10", planned, rows, "bf16", "cpu", "a processor", 2, "2.9")

    assert taken(info(10))
    assert not taken(info(40))  # of a release without records: the command says what was planned
    assert taken(info(10, record(10, "ab")))
    assert not taken(info(10, record(40, "ab")))
    assert not taken(info(10, record(10, "cd")))
