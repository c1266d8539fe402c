"""Claims from stored results, and the documentation's table."""

import base64
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from resnet_models.analysis.depth_claims import degradation_claim, depth_claim
from resnet_models.analysis.tables import TEST, begin, end, with_table
from resnet_models.checkpoint import Epoch
from resnet_models.cli import main
from resnet_models.degradation import Run
from resnet_models.errors import DataError
from resnet_models.evaluation import Evaluation, EvaluationSet, read_evaluations

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "docs" / "results" / "depth"


def evaluated(**wrong: int) -> EvaluationSet:
    """Networks that get the first so many of 1,000 images wrong."""
    rows = [Evaluation(name, 1, "", 1000, count, bits(count)) for name, count in wrong.items()]
    return EvaluationSet("1,000 images", "", "2.9", 1, tuple(rows))


def bits(count: int) -> str:
    return base64.b64encode(np.packbits(np.arange(1000) < count).tobytes()).decode("ascii")


def runs(**errors: float) -> list[Run]:
    return [Run(name, 1, (Epoch(1, 1.0, error, error),)) for name, error in errors.items()]


def test_degradation_holds_only_where_every_part_does() -> None:
    curves = runs(plain20=8, plain56=12, resnet20=5, resnet56=2)
    as_claimed = evaluated(plain20=100, plain56=200, resnet20=90, resnet56=60)
    assert degradation_claim(as_claimed, as_claimed, curves).overall == "holds"
    close = evaluated(plain20=100, plain56=200, resnet20=61, resnet56=60)
    found = degradation_claim(close, None, curves)
    assert found.overall == "holds in part"
    assert [check.verdict for check in found.checks] == ["holds", "holds", "holds", "not decided"]
    assert "6.10 % against 6.00 %: 0.10 [-0." in found.checks[-1].measured
    with pytest.raises(DataError, match="curves: they lack 'plain56'"):
        degradation_claim(close, None, runs(plain20=8))


def test_each_step_of_depth_is_a_part() -> None:
    found = depth_claim(evaluated(resnet20=90, resnet32=70, resnet44=71, plain20=100))
    assert [check.verdict for check in found.checks] == ["holds", "not decided", "holds"]
    with pytest.raises(DataError, match="'resnet20' was not evaluated; expected one of plain20"):
        depth_claim(evaluated(plain20=100))


def test_a_network_that_was_counted_with_mirror_images_too_is_compared_once() -> None:
    once = evaluated(resnet20=90, resnet32=70, plain20=100)
    twice = replace(once, evaluations=(*once.evaluations, *(replace(one, flip=True) for one in once.evaluations)))
    assert depth_claim(twice) == depth_claim(once)


def test_the_documentations_table_is_what_the_committed_results_give(tmp_path: Path) -> None:
    arguments = ["claims", "--results", str(RESULTS), "--page", str(ROOT / "docs" / "explanation" / "depth.md"), "--check"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    page = tmp_path / "depth.md"
    page.write_text((ROOT / "docs" / "explanation" / "depth.md").read_text().replace("| holds |", "| agrees |", 1))
    stale = CliRunner().invoke(main, ["claims", "--results", str(RESULTS), "--page", str(page), "--check"])
    assert stale.exit_code == 1
    assert "run resnet-train claims without --check" in stale.output


def test_a_page_without_a_place_for_the_table_is_refused() -> None:
    with pytest.raises(DataError, match="page: has no line"):
        with_table("# Depth", "claims", "table")
    first, last = begin("claims"), end("claims")
    assert with_table(f"a {first} old {last} b", "claims", "new") == f"a {first}\n\nnew\n\n{last} b"


def test_results_that_are_damaged_are_named(tmp_path: Path) -> None:
    shutil.copy(RESULTS / TEST, tmp_path / TEST)
    assert read_evaluations(tmp_path / TEST).of("resnet56").images == 9980
    (tmp_path / TEST).write_text("{")
    result = CliRunner().invoke(main, ["claims", "--results", str(tmp_path)])
    assert result.exit_code == 1
    assert "evaluations-test.json cannot be read" in result.output


def test_evaluating_twice_gives_the_same_file_and_names_its_images(pretrained: Path, tmp_path: Path) -> None:
    from resnet_models.sample import load_sample

    sample = load_sample()
    for split in ("train", "test"):
        x, y = sample.images[:100].transpose(0, 3, 1, 2), sample.labels[:100].astype(np.uint8)
        np.savez(tmp_path / f"cifar10_{split}.npz", x=x, y=y)
    arguments = ["evaluate", str(pretrained), "--data", str(tmp_path), "--limit", "40", "--out"]
    for name in ("a.json", "b.json"):
        result = CliRunner().invoke(main, [*arguments, str(tmp_path / name)])
        assert result.exit_code == 0, result.output
    first, second = read_evaluations(tmp_path / "a.json"), read_evaluations(tmp_path / "b.json")
    assert first == second
    assert first.rows == "first 40 of 100 CIFAR-10 test images"
    assert int(first.of("resnet20").wrong_images().sum()) == first.of("resnet20").wrong
