"""Runs that are killed, repeated or confused with others: no trained epoch is lost, no finished network overwritten."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from resnet_models.card import model_card
from resnet_models.checkpoint import load_checkpoint
from resnet_models.cli import main
from resnet_models.sample import load_sample

DYING = """
import os, signal, sys
from resnet_models import trainer
from resnet_models.cli import main
save = trainer.save_checkpoint
def save_or_die(path, network, info):
    if info.epochs == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    save(path, network, info)
trainer.save_checkpoint = save_or_die
main()
"""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """128 training images: one step an epoch."""
    return write_data(tmp_path_factory.mktemp("tiny"), 0)


def write_data(folder: Path, first: int) -> Path:
    train, test = load_sample("calibration"), load_sample()
    rows = slice(first, first + 128)
    np.savez(folder / "cifar10_train.npz", x=train.images[rows].transpose(0, 3, 1, 2), y=train.labels[rows].astype(np.uint8))
    np.savez(folder / "cifar10_test.npz", x=test.images[:20].transpose(0, 3, 1, 2), y=test.labels[:20].astype(np.uint8))
    return folder


def words(data: Path, out: Path, *more: str, epochs: int = 2) -> list[str]:
    return ["fit", "resnet20", "--data", str(data), "--epochs", str(epochs), "--out", str(out), "--threads", "1", *more]


def fit(data: Path, out: Path, *more: str, epochs: int = 2) -> Result:
    return CliRunner().invoke(main, words(data, out, *more, epochs=epochs), env={"RESNET_TRAIN_PRECISION": "fp32"})


@pytest.fixture(scope="module")
def whole(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a run of two epochs that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole") / "a.safetensors"
    result = fit(tiny, out)
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture
def finished(whole: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may lose."""
    path = tmp_path / "a.safetensors"
    path.write_bytes(whole.read_bytes())
    return path


def same_network(one: Path, other: Path) -> bool:
    first, second = load_checkpoint(one).network.state_dict(), load_checkpoint(other).network.state_dict()
    return all(torch.equal(value, second[key]) for key, value in first.items())


def environment() -> dict[str, str]:
    return os.environ | {"RESNET_TRAIN_PRECISION": "fp32"}


def test_a_run_killed_in_an_epoch_continues_to_the_weights_of_an_undisturbed_one(tiny: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    command = [sys.executable, "-m", "resnet_models", *words(tiny, out)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment()) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("epoch 1/2")
        process.kill()
    assert process.returncode == -signal.SIGKILL
    info = load_checkpoint(out).info
    assert info.training is not None
    assert (info.epochs, info.training.planned_epochs) == (1, 2)
    assert "1 of 2 planned epochs" in model_card(load_checkpoint(out), out)
    assert "holds an unfinished run; --resume continues it, --overwrite discards it" in fit(tiny, out).output
    result = fit(tiny, out, "--resume")
    assert result.exit_code == 0, result.output
    assert "continuing after epoch 1" in result.output
    assert same_network(out, whole)
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_a_run_killed_between_state_and_checkpoint_of_its_last_epoch_is_repaired(tiny: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    died = subprocess.run([sys.executable, "-c", DYING, *words(tiny, out)], capture_output=True, check=False, env=environment())
    assert died.returncode == -signal.SIGKILL
    assert load_checkpoint(out).info.epochs == 1
    result = fit(tiny, out, "--resume")
    assert result.exit_code == 0, result.output
    assert load_checkpoint(out).info == load_checkpoint(whole).info
    assert same_network(out, whole)
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_what_a_killed_process_left_half_written_is_removed(tiny: Path, finished: Path) -> None:
    (finished.parent / f".{finished.name}.x1.part").write_bytes(b"half")
    (finished.parent / f".{finished.name}.state.x1.part").write_bytes(b"half")
    assert fit(tiny, finished, "--resume").exit_code == 0
    assert [path.name for path in finished.parent.iterdir()] == [finished.name]


def test_a_finished_run_stays_as_it_is(tiny: Path, finished: Path) -> None:
    before = finished.read_bytes()
    result = fit(tiny, finished, "--resume")
    assert result.exit_code == 0, result.output
    assert "complete, 2 epochs; nothing to do" in result.output
    again = fit(tiny, finished)
    assert again.exit_code == 1
    assert "holds this run, complete; give another --out, or --overwrite to discard it" in again.output
    assert finished.read_bytes() == before


@pytest.mark.parametrize(
    ("more", "epochs", "difference"),
    [
        (["--seed", "2"], 2, "seed 1 instead of 2"),
        ([], 3, "epochs 2 instead of 3"),
        (["--precision", "bf16"], 2, "precision fp32 instead of bf16"),
        (["--recipe", "paper"], 2, "recipe short instead of paper"),
        (["--ema", "0.9"], 2, "recipe short instead of short --ema 0.9"),
    ],
)
def test_another_run_never_overwrites_a_finished_one(more: list[str], epochs: int, difference: str, tiny: Path, finished: Path) -> None:
    before = finished.read_bytes()
    for resume in ([], ["--resume"]):
        result = fit(tiny, finished, *more, *resume, epochs=epochs)
        assert result.exit_code == 1
        assert f"holds a run with {difference}; give another --out" in result.output
    assert finished.read_bytes() == before


def test_other_images_are_another_run(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = write_data(tmp_path_factory.mktemp("other"), 200)
    result = fit(other, finished, "--resume")
    assert result.exit_code == 1
    assert "holds a run with rows_sha256 " in result.output


def test_a_file_that_is_no_checkpoint_is_left_alone_until_it_is_to_be_overwritten(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "notes.txt"
    out.write_text("three weeks of work")
    assert "exists and is no checkpoint" in fit(tiny, out, epochs=1).output
    assert out.read_text() == "three weeks of work"
    assert fit(tiny, out, "--overwrite", epochs=1).exit_code == 0
    assert load_checkpoint(out).info.epochs == 1


def test_two_processes_never_train_into_one_file(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    command = [sys.executable, "-m", "resnet_models", *words(tiny, out, epochs=400)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment()) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("epoch 1/400")
        for more in ([], ["--resume"], ["--overwrite"]):
            assert "another process is training into" in fit(tiny, out, *more, epochs=400).output
        process.kill()


def test_an_experiment_refuses_a_folder_with_another_ones_networks(tiny: Path, finished: Path) -> None:
    before = finished.read_bytes()
    out = finished.parent
    finished.rename(out / "plain20.safetensors")
    arguments = ["degradation", "--data", str(tiny), "--out", str(out), "--depths", "20,32", "--epochs", "2", "--threads", "1"]
    result = CliRunner().invoke(main, arguments, env={"RESNET_TRAIN_PRECISION": "fp32"})
    assert result.exit_code == 1
    assert "plain20.safetensors holds a run with variant resnet20 instead of plain20" in result.output
    assert (out / "plain20.safetensors").read_bytes() == before


def test_several_seeds_are_summarised_and_a_second_call_trains_nothing(tiny: Path, tmp_path: Path) -> None:
    arguments = ["seeds", "resnet20", "--data", str(tiny), "--out", str(tmp_path), "--seeds", "2", "--epochs", "1", "--threads", "1"]
    first = CliRunner().invoke(main, arguments, env={"RESNET_TRAIN_PRECISION": "fp32"})
    assert first.exit_code == 0, first.output
    assert "resnet20, 2 seeds: test error " in first.output
    networks = sorted(tmp_path.glob("*.safetensors"))
    assert [path.name for path in networks] == ["resnet20-seed1.safetensors", "resnet20-seed2.safetensors"]
    assert not same_network(*networks)
    again = CliRunner().invoke(main, arguments, env={"RESNET_TRAIN_PRECISION": "fp32"})
    assert again.output.count("nothing to do") == 2
