"""The page, the tables and the sentences of a comparison of depths."""

import re
from collections.abc import Callable
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from resnet_bench.report.findings import beaten, findings
from resnet_bench.report.page import PLOTS, page
from resnet_bench.report.plots import medians
from resnet_bench.report.tables import capacity, labels, load_table, markdown, model_table, notes, shown
from resnet_bench.results import Facts, Report, Search
from resnet_bench.stats import Summary

MakeReport = Callable[..., Report]


def test_a_figure_has_its_range_and_number() -> None:
    assert shown(Summary(1234.5, 1100.0, 1300.0, 5, None)) == "1,234 [1,100, 1,300] n=5"
    assert shown(Summary(0.987, 0.9, 1.0, 2, None), 2) == "0.99 [0.90, 1.00] n=2"
    assert shown(Summary(12.34, 12.34, 12.34, 1, None)) == "12.3 n=1"
    assert shown(None) == "-"


def test_runs_at_about_the_same_rate_are_one_point_of_the_line() -> None:
    assert medians([(100, 5.0), (101, 7.0), (102, 6.0), (200, 9.0)]) == [(101, 6.0), (200, 9.0)]


def test_markdown_has_a_row_for_each_line() -> None:
    assert markdown("Title", ("a", "b"), [("1", "2"), ("3", "4")], "note").splitlines()[2:6] == [
        "| a | b |",
        "| --- | --- |",
        "| 1 | 2 |",
        "| 3 | 4 |",
    ]


@pytest.mark.parametrize("depths", [(20,), (20, 32, 44, 56), tuple(range(20, 140, 10))])
def test_the_page_draws_every_plot_for_1_to_12_models(make_report: MakeReport, depths: tuple[int, ...]) -> None:
    html = page(make_report(*depths))
    for plot in PLOTS:
        section = re.search(rf'<section id="{plot.identity}">(.*?)</section>', html, re.DOTALL)
        assert section is not None
        assert section[1].count("<svg") == 1, plot.title
    for depth in depths:
        assert html.count(f">resnet{depth}<") >= 4
    for heading in ("Figures", "What was served", "Machine"):
        assert f"<h2>{heading}</h2>" in html


def test_the_page_needs_nothing_from_elsewhere(make_report: MakeReport) -> None:
    html = page(make_report(20, 56))
    assert not re.search(r'(src|href)="(?!#)|@import|url\((?!#)', html.replace('xlink:href="#', 'href="#'))
    assert "prefers-color-scheme: dark" in html
    assert not re.search(r"#000[0-2][0-9a-f]{2}", html), "a stand-in colour was left"
    for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        ElementTree.fromstring(svg)  # noqa: S314  # our own


def test_untrained_networks_are_marked_and_have_no_accuracy(make_report: MakeReport) -> None:
    report = make_report(18, 152, trained=False)
    html = page(report)
    assert labels(report) == ["resnet18 (untrained)", "resnet152 (untrained)"]
    assert "No trained network with a known accuracy" in html
    assert "Random weights, good for speed only" in html
    assert list(model_table(report).columns[1].cells) == ["untrained", "untrained"]


def test_names_and_commands_are_escaped(make_report: MakeReport) -> None:
    assert "<script>" not in page(make_report(20, arguments="<script>"))


def test_notes_say_what_does_not_count(make_report: MakeReport) -> None:
    report = make_report(20, complete=False)
    searches = (
        replace(report.searches[0], bound="generator"),
        replace(report.searches[1], confirmed=None, reason="too slow"),
        *report.searches[2:],
    )
    samples = tuple(replace(s, void="disturbed: steal") if s.kind == "half" else s for s in report.samples)
    changed = replace(report, searches=searches, samples=samples, settings=replace(report.settings, allow_disturbed=True))
    assert notes(changed) == [
        "Incomplete: it ended before all repeats were made.",
        "Disturbed runs count (--allow-disturbed): these figures are not for publication.",
        "resnet20: 1 of 5 repeats found no capacity: too slow.",
        "resnet20: the load generator, not the server, ended a search; the server may do more.",
        "resnet20, 2,500/s: no run counts: disturbed: steal.",
        "5 of 35 runs are void and in no figure; results.json says why.",
    ]
    (model,) = changed.results
    assert capacity(model).startswith("≥ 4,757 (repeats 4,900 [4,757, ")


def test_loads_that_were_asked_for_have_a_table_of_their_own(make_report: MakeReport) -> None:
    report = make_report(20)
    assert load_table(report).row_count == 0
    asked = tuple(replace(s, kind="rate") if s.kind == "half" else s for s in report.samples)
    assert load_table(replace(report, samples=asked)).row_count == 1


def test_the_capacity_and_the_price_of_depth_are_said(make_report: MakeReport) -> None:
    capacities, choice, depth = findings(make_report(20, 56))
    assert capacities.endswith("within 50 ms, the lowest that a repeat confirmed: resnet20 4,757, resnet56 1,699.")
    assert choice.startswith(
        "No model is beaten beyond the noise: who wants more accuracy pays with capacity. p99 in ms at 1,429 images a second"
    )
    assert depth == "resnet56 has 2.8 times the multiply-adds of resnet20 and 0.36 of its capacity, for +0.60 points of accuracy."


def with_models(report: Report, **changes: Facts) -> Report:
    return replace(report, models=tuple(changes.get(facts.name, facts) for facts in report.models))


def test_a_model_that_is_beaten_is_named_with_the_one_that_beats_it(make_report: MakeReport) -> None:
    report = make_report(20, 56)
    worse = with_models(report, resnet56=replace(report.models[1], accuracy=80.0))
    assert findings(worse)[1] == "At least as accurate and of more capacity, beyond the noise: resnet20 beats resnet56."


@pytest.mark.parametrize(
    ("capacities", "lost"),
    [((5000.0, 4000.0), True), ((5000.0, 4900.0), False), ((4000.0, 5000.0), False)],
)
def test_nothing_is_recommended_from_noise(make_report: MakeReport, capacities: tuple[float, float], lost: bool) -> None:
    """Two networks, the first more accurate: the second is beaten only where the ranges of what the repeats confirmed do not overlap."""
    report = make_report(20, 56)
    noise = (0.96, 1.0, 1.04)
    searches = tuple(
        Search(facts.name, "fp32", repeat, rate * share, rate * share)
        for facts, rate in zip(report.models, capacities, strict=True)
        for repeat, share in enumerate(noise)
    )
    first = replace(report.models[0], accuracy=95.0)
    one, other = with_models(replace(report, searches=searches), resnet20=first).results
    assert (beaten(other, [one, other]) is one) is lost
    assert beaten(one, [one, other]) is None


def test_precisions_are_not_mixed_where_depths_are_compared(make_report: MakeReport) -> None:
    report = make_report(20, 56)
    samples = tuple(replace(s, precision="int8") if s.model == "resnet56" else s for s in report.samples)
    searches = tuple(replace(s, precision="int8") if s.model == "resnet56" else s for s in report.searches)
    models = (report.models[0], replace(report.models[1], precision="int8"))
    mixed = replace(report, models=models, samples=samples, searches=searches)
    assert labels(mixed) == ["resnet20 fp32", "resnet56 int8"]
    assert not any("times the multiply-adds" in text for text in findings(mixed))


def test_nothing_is_said_of_nothing(make_report: MakeReport) -> None:
    assert findings(make_report()) == []
