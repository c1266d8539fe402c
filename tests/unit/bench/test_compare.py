"""Whether a change is more than noise."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from resnet_bench.cli import main
from resnet_bench.compare.changes import changes, differences, lost
from resnet_bench.compare.verdict import judge
from resnet_bench.schema import Report, Spread

MakeReport = Callable[..., Report]
BEFORE = Spread(100, 95, 105)


@pytest.mark.parametrize(
    ("after", "more_is_better", "repeats", "verdict"),
    [
        (Spread(110, 106, 115), True, 3, "better"),
        (Spread(110, 106, 115), False, 3, "worse"),
        (Spread(90, 85, 94), True, 3, "worse"),
        (Spread(90, 85, 94), False, 3, "better"),
        (Spread(110, 105, 115), True, 3, "same"),
        (Spread(200, 100, 300), True, 3, "same"),
        (Spread(200, 200, 200), True, 1, "unknown"),
    ],
)
def test_ranges_that_overlap_are_noise(after: Spread, more_is_better: bool, repeats: int, verdict: str) -> None:
    assert judge(BEFORE, after, more_is_better, repeats) == verdict


def test_less_than_2_percent_is_no_change() -> None:
    assert judge(Spread(100, 100, 100), Spread(101.9, 101.9, 101.9), True, 3) == "same"
    assert judge(Spread(100, 100, 100), Spread(102.1, 102.1, 102.1), True, 3) == "better"


def slower(report: Report) -> Report:
    """The same with a tenth of the capacity of its first model."""
    first = report.models[0]
    assert first.capacity is not None
    assert first.capacity.images is not None
    images = first.capacity.images
    capacity = replace(first.capacity, images=Spread(images.median / 10, images.low / 10, images.high / 10))
    return replace(report, models=(replace(first, capacity=capacity), *report.models[1:]))


def test_only_what_changed_is_better_or_worse(make_report: MakeReport) -> None:
    before = make_report(20, 56)
    found = [change for change in changes(before, slower(before)) if change.verdict != "same"]
    (change,) = found
    assert (change.model, change.verdict) == ("resnet20 fp32", "worse")
    assert change.figure.startswith("capacity")
    assert change.factor == pytest.approx(0.1)


def test_a_model_that_meets_the_slo_no_more_is_lost(make_report: MakeReport) -> None:
    before = make_report(20)
    (model,) = before.models
    assert model.capacity is not None
    after = replace(before, models=(replace(model, capacity=replace(model.capacity, images=None, reason="too slow")),))
    assert lost(before, after) == ["resnet20: met the SLO before and does not now: too slow"]


def test_another_machine_or_plan_is_told(make_report: MakeReport) -> None:
    before = make_report(20)
    (model,) = before.models
    machine = replace(before.machine, processor="Another", versions={"onnxruntime": "1.32.0"})
    after = replace(before, machine=machine, models=(replace(model, facts=replace(model.facts, plan="1 engine")),))
    assert differences(before, after) == [
        "machine: A processor, 2 cores before, Another, 2 cores after",
        "onnxruntime: 1.31.1 before, 1.32.0 after",
        "resnet20: plan: 2 engines x 1 threads, batches of up to 8 before, 1 engine after",
    ]


def test_a_regression_fails_where_it_is_asked_to(make_report: MakeReport, tmp_path: Path) -> None:
    before = make_report(20)
    files = [str(before.save(tmp_path / "a")), str(slower(before).save(tmp_path / "b"))]
    shown = CliRunner().invoke(main, ["compare", *files])
    assert shown.exit_code == 0
    assert "WORSE" in shown.output
    failed = CliRunner().invoke(main, ["compare", *files, "--fail-on-regression"])
    assert failed.exit_code == 1
    assert "regression: 1 figures are worse by more than noise" in failed.output
    same = CliRunner().invoke(main, ["compare", files[0], files[0], "--fail-on-regression"])
    assert same.exit_code == 0
    assert "within noise: nothing changed" in same.output


def test_results_without_a_common_model_are_not_compared(make_report: MakeReport, tmp_path: Path) -> None:
    files = [str(make_report(depth).save(tmp_path / str(depth))) for depth in (20, 56)]
    result = CliRunner().invoke(main, ["compare", *files])
    assert result.exit_code == 1
    assert "have none in common" in result.output
