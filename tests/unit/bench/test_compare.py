"""`compare`: what is compared, and what is said of it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from resnet_bench.cli import main
from resnet_bench.commands.compare import changes, differences, lost
from resnet_bench.results import Report, Search

MakeReport = Callable[..., Report]


def slower(report: Report, factor: float = 0.1) -> Report:
    """The same with a part of the capacity of its first model."""
    name = report.models[0].name
    changed = [replace(s, confirmed=factor * (s.confirmed or 0)) if s.model == name else s for s in report.searches]
    return replace(report, searches=tuple(changed))


def test_only_what_changed_is_better_or_worse(make_report: MakeReport) -> None:
    before = make_report(20, 56)
    (change,) = [change for change in changes(before, slower(before)) if change.verdict != "same"]
    assert (change.model, change.verdict) == ("resnet20 fp32", "worse")
    assert change.figure == "capacity, images/s"
    assert change.factor == pytest.approx(0.1)
    (back,) = [change for change in changes(slower(before), before) if change.verdict != "same"]
    assert back.verdict == "better"


def test_less_than_2_percent_is_no_change_however_still_the_machine_was(make_report: MakeReport) -> None:
    before = make_report(20)
    still = replace(before, searches=tuple(Search("resnet20", "fp32", repeat, 5000.0, 5000.0) for repeat in range(5)))
    assert {change.verdict for change in changes(still, slower(still, 0.985))} == {"same"}
    assert "worse" in {change.verdict for change in changes(still, slower(still, 0.975))}


def test_latency_that_rises_is_worse(make_report: MakeReport) -> None:
    before = make_report(20)
    samples = [replace(s, latency_ms={name: 2 * ms for name, ms in s.latency_ms.items()}) for s in before.samples]
    worse = {change.figure for change in changes(before, replace(before, samples=tuple(samples))) if change.verdict == "worse"}
    assert worse == {"1 in flight, single: p50 ms", "1 in flight, single: p99 ms", "4,000/s, equal: p99 ms"}


def test_three_repeats_are_too_few_for_a_verdict(make_report: MakeReport) -> None:
    before = make_report(20, repeats=3)
    assert {change.verdict for change in changes(before, slower(before))} == {"unknown"}


def test_a_model_that_meets_the_slo_no_more_is_lost(make_report: MakeReport) -> None:
    before = make_report(20)
    after = replace(before, searches=tuple(replace(s, confirmed=None, reason="too slow") for s in before.searches))
    assert lost(before, after) == ["resnet20: met the SLO before and does not now: too slow"]


def test_another_machine_plan_or_revision_is_told(make_report: MakeReport) -> None:
    before = make_report(20)
    machine = replace(before.machine, processor="Another", versions={"onnxruntime": "1.32.0"}, revision="v2")
    after = replace(before, machine=machine, models=(replace(before.models[0], plan="1 engine"),))
    assert differences(before, after) == [
        "machine: A processor, 2 cores before, Another, 2 cores after",
        "revision: v1-0-gabc before, v2 after",
        "onnxruntime: 1.31.1 before, 1.32.0 after",
        "resnet20: plan: 2 engines x 1 threads, batches of up to 8 before, 1 engine after",
    ]


def test_a_regression_fails_where_it_is_asked_to(make_report: MakeReport, tmp_path: Path) -> None:
    before = make_report(20)
    for name, report in (("a", before), ("b", slower(before))):
        report.save(tmp_path / name)
    files = [str(tmp_path / "a"), str(tmp_path / "b" / "results.json")]
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
    for depth in (20, 56):
        make_report(depth).save(tmp_path / str(depth))
    result = CliRunner().invoke(main, ["compare", str(tmp_path / "20"), str(tmp_path / "56")])
    assert result.exit_code == 1
    assert "have no figure in common" in result.output
