"""Claims over seeds, and the tables of networks and recipes."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from resnet_models.analysis.seed_claims import option_claim, seed_claims
from resnet_models.analysis.tables import networks_table, recipes_table
from resnet_models.card import model_card
from resnet_models.checkpoint import load_checkpoint
from resnet_models.cli import main
from resnet_models.errors import DataError
from resnet_models.evaluation import Evaluation, EvaluationSet, read_evaluations
from resnet_models.seeds import SeedSummary, read_summary, write_summary
from resnet_models.statistics import mean_difference, mean_interval
from scipy import stats


def summary(variant: str, *errors: float) -> SeedSummary:
    seeds = tuple(range(1, len(errors) + 1))
    return SeedSummary(variant, "short", 40, seeds, errors, errors, mean_interval(errors), mean_interval(errors))


def evaluated(network: str, seed: int, wrong: range, recipe: str = "short", *, flip: bool = False) -> Evaluation:
    bits = np.isin(np.arange(1000), wrong)
    return Evaluation(
        network, seed, f"{network}{seed}", 1000, len(wrong), base64.b64encode(np.packbits(bits).tobytes()).decode(), recipe, flip
    )


def a_set(*rows: Evaluation) -> EvaluationSet:
    return EvaluationSet("1,000 images", "", "2.9", 1, rows)


def test_a_difference_over_seeds_is_welchs() -> None:
    found = mean_difference([10.0, 11.0, 12.0], [8.0, 8.2, 8.1])
    assert found.value == pytest.approx(2.9)
    spread = 1 / 3, 0.01 / 3  # squares of the standard errors of both means
    freedom = sum(spread) ** 2 / (spread[0] ** 2 / 2 + spread[1] ** 2 / 2)
    assert found.low == pytest.approx(2.9 - stats.t.ppf(0.975, freedom) * sum(spread) ** 0.5)
    assert mean_difference([10.0], [8.0, 8.2]).low == -np.inf


def test_seeds_decide_only_where_their_interval_does() -> None:
    rows = [summary("plain20", 10.2, 10.3, 10.1), summary("resnet20", 8.6, 8.7, 8.5)]
    test = a_set(
        *(evaluated("plain20", seed, range(100 + seed)) for seed in (1, 2)), *(evaluated("resnet20", seed, range(60)) for seed in (1, 2))
    )
    (claim,) = seed_claims(rows, test)
    assert [check.verdict for check in claim.checks] == ["holds", "holds", "holds"]
    assert "10.20, 10.30, 10.10 % against 8.60, 8.70, 8.50 %: 1.60 [" in claim.checks[0].measured
    assert "2 of 2 pairs with p < 0.05; least difference 4.10" in claim.checks[2].measured
    (close,) = seed_claims([summary("plain20", 10.2, 8.1), summary("resnet20", 8.6, 9.7)], None)
    assert [check.verdict for check in close.checks] == ["not decided", "not decided"]
    (alone,) = seed_claims([summary("plain20", 10.2), summary("resnet20", 8.6)], None)
    assert alone.checks[0].verdict == "not decided"
    assert seed_claims([summary("resnet20", 8.6)], None) == []


def test_shortcut_options_are_compared_at_their_depth() -> None:
    rows = [
        summary("resnet8", 13.0, 13.1),
        summary("resnet8_b", 12.0, 12.1),
        summary("resnet8_c", 12.0, 12.1),
        summary("resnetv2_8", 14, 14.1),
    ]
    (claim,) = seed_claims(rows, None)
    assert claim.title == "Shortcut options at depth 8"
    assert [check.part for check in claim.checks] == [
        "resnet8's error is above resnet8_b's",
        "resnet8_b's error is above resnet8_c's",
        "resnet8's error is above resnetv2_8's",
    ]
    assert [check.verdict for check in claim.checks] == ["holds", "not decided", "does not hold"]


def test_options_with_one_seed_are_compared_on_the_images_held_out() -> None:
    held = a_set(
        evaluated("resnet8", 1, range(300)), evaluated("resnet8", 1, range(10), "short --ema 0.9"), evaluated("resnet8_b", 1, range(200))
    )
    claim = option_claim([], held, 8)
    (check,) = claim.checks
    assert (check.part, check.verdict) == ("resnet8's error is above resnet8_b's, images held out, one seed", "holds")
    assert check.measured.startswith("30.00 % against 20.00 %: 10.00 [")


def test_a_summary_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = [summary("plain20", 10.2), summary("resnet20", 8.6, 8.7)]
    write_summary(rows, tmp_path / "seeds.json")
    assert read_summary(tmp_path / "seeds.json") == rows
    (tmp_path / "seeds.json").write_text("[{}]")
    with pytest.raises(DataError, match=r"seeds: .* cannot be read"):
        read_summary(tmp_path / "seeds.json")


def test_a_recipe_helps_only_where_the_interval_says_so() -> None:
    found = a_set(
        evaluated("resnet8", 1, range(200)),
        evaluated("resnet8", 1, range(100), "short --whiten"),
        evaluated("resnet8", 1, range(198), "short --ema 0.99"),
        evaluated("resnet8", 1, range(300), "short --peak 0.4"),
    )
    lines = recipes_table(found).splitlines()
    assert [line.rpartition("| ")[2] for line in lines[3:]] == ["helps |", "not decided |", "hurts |"]
    assert lines[3].startswith("| `short --whiten` | 10.00 % | 10.00 [8.")


def test_the_table_of_networks_has_both_ways_of_testing(pretrained: Path) -> None:
    test = a_set(evaluated("resnet20", 1, range(90)), evaluated("resnet20", 1, range(80), flip=True))
    table = networks_table([(pretrained, load_checkpoint(pretrained))], test, None)
    assert (
        table.splitlines()[2]
        == "| resnet20 | 269,722 | 40.6 M | 8.67 % | 8.00 %: 1.00 [0.35, 1.64] points less | 8.75 % | not measured | 40 |"
    )


def test_networks_are_added_to_a_file_and_mirrored(pretrained: Path, cifar: Path, tmp_path: Path) -> None:
    out, plain = tmp_path / "a.json", pretrained.with_name("plain20.safetensors")
    base = ["evaluate", "--data", str(cifar), "--threads", "1", "--out", str(out)]
    assert CliRunner().invoke(main, [*base, str(pretrained)]).exit_code == 0
    before = read_evaluations(out).evaluations
    result = CliRunner().invoke(main, [*base, str(pretrained), str(plain), "--flip"])
    assert result.exit_code == 0, result.output
    found = read_evaluations(out)
    assert found.evaluations[:1] == before
    assert [(one.network, one.flip) for one in found.evaluations] == [
        ("resnet20", False),
        ("resnet20", True),
        ("plain20", False),
        ("plain20", True),
    ]
    assert found.of("resnet20", flip=True).wrong_bits != found.of("resnet20").wrong_bits
    again = CliRunner().invoke(main, [*base, str(pretrained), str(plain), "--flip"])
    assert again.output.strip() == str(out)
    other = CliRunner().invoke(main, [*base, str(pretrained), "--split", "train"])
    assert other.exit_code == 1
    assert "is of 125 CIFAR-10 test images; expected 60 CIFAR-10 training images, or another --out" in other.output


def test_held_out_images_are_those_that_training_held_out(pretrained: Path, cifar: Path, tmp_path: Path) -> None:
    out, trained = tmp_path / "a.json", tmp_path / "trained.safetensors"
    options = ["--data", str(cifar), "--threads", "1", "--validation", "20"]
    result = CliRunner().invoke(main, ["fit", "resnet8", *options, "--epochs", "1", "--batch", "20", "--out", str(trained)])
    assert result.exit_code == 0, result.output
    result = CliRunner().invoke(main, ["evaluate", str(trained), *options, "--out", str(out)])
    assert result.exit_code == 0, result.output
    found = read_evaluations(out)
    info = load_checkpoint(trained).info
    assert found.rows == info.accuracy_images == "20 held out of 60 CIFAR-10 training images"
    assert info.accuracy == pytest.approx(100 - found.of("resnet8").error)
    assert found.evaluations[0].recipe == "short --batch 20"
    assert json.loads(out.read_text())["command"].startswith("resnet-train evaluate CHECKPOINT... --data DIR --validation 20")


def test_a_card_takes_the_training_error_that_a_file_does_not_record(pretrained: Path, cifar: Path, tmp_path: Path) -> None:
    out = tmp_path / "train.json"
    arguments = [
        "evaluate",
        str(pretrained),
        "--data",
        str(cifar),
        "--split",
        "train",
        "--limit",
        "50",
        "--out",
        str(out),
        "--threads",
        "1",
    ]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    checkpoint, found = load_checkpoint(pretrained), read_evaluations(out)
    error = found.of("resnet20").error
    card = model_card(checkpoint, pretrained, found)
    assert f"| Training error | {error:.2f} % on the first 50 training images, un-augmented, in eval mode |" in card
    assert "| Training error | not recorded |" in model_card(checkpoint, pretrained)
    assert "| Training error | not recorded |" in model_card(checkpoint, pretrained.with_name("plain20.safetensors"), found)
