"""The sentences at the head of the page."""

from collections.abc import Callable
from dataclasses import replace

from resnet_bench.report.summary import findings
from resnet_bench.schema import Report

MakeReport = Callable[..., Report]


def test_the_front_and_the_price_of_depth_are_said(make_report: MakeReport) -> None:
    capacities, choice, depth = findings(make_report(20, 56))
    assert capacities == "Images a second with p99 within 50 ms: resnet20 5,000 ±150, resnet56 1,786 ±54."
    assert choice.startswith("Each model buys accuracy with latency: all are on the Pareto front")
    assert depth == "resnet56 has 2.8 times the multiply-adds of resnet20 and 0.36 of its capacity, for +0.60 points of accuracy."


def test_a_model_that_is_beaten_is_named(make_report: MakeReport) -> None:
    report = make_report(20, 56)
    first, last = report.models
    beaten = replace(last, facts=replace(last.facts, accuracy=80.0))
    assert "Worth choosing by accuracy and p99: resnet20." in findings(replace(report, models=(first, beaten)))[1]


def test_precisions_are_not_mixed_where_depths_are_compared(make_report: MakeReport) -> None:
    report = make_report(20, 56)
    first, last = report.models
    mixed = replace(report, models=(first, replace(last, facts=replace(last.facts, precision="int8"))))
    assert not any("times the multiply-adds" in text for text in findings(mixed))


def test_nothing_is_said_of_nothing(make_report: MakeReport) -> None:
    assert findings(make_report()) == []
