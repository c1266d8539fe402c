"""The page, the tables and the files of a result."""

import csv
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from resnet_bench.errors import BenchError
from resnet_bench.reading import read_report
from resnet_bench.report.csv_file import save_csv
from resnet_bench.report.latencies import medians
from resnet_bench.report.page import PLOTS, page
from resnet_bench.report.pareto import front
from resnet_bench.report.table import load_table, model_table
from resnet_bench.report.wording import labels, notes
from resnet_bench.schema import FORMAT, Report, Spread

MakeReport = Callable[..., Report]


def test_the_front_holds_what_nothing_dominates() -> None:
    points = [(2.0, 92.0), (1.0, 91.0), (3.0, 91.5), (2.5, 92.0), (4.0, 93.0), (1.0, 90.0)]
    assert front(points) == [1, 0, 4]
    assert front([]) == []


def test_runs_at_about_the_same_rate_are_one_point_of_the_line() -> None:
    assert medians([(100, 5.0), (101, 7.0), (102, 6.0), (200, 9.0)]) == [(101, 6.0), (200, 9.0)]


def test_a_result_is_read_back_as_it_was_saved(make_report: MakeReport, tmp_path: Path) -> None:
    report = make_report(20, 56, complete=False)
    assert read_report(report.save(tmp_path / "deep")) == report
    assert read_report(tmp_path / "deep") == report


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", f"format is None; this release reads {FORMAT}"),
        ('{"format": 1}', f"format is 1; this release reads {FORMAT}"),
        (f'{{"format": {FORMAT}}}', "is not a result of resnet-bench depths: KeyError"),
    ],
)
def test_another_file_is_not_read(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(BenchError, match=message):
        read_report(tmp_path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="absent: cannot be read: No such file"):
        read_report(tmp_path / "absent")


def test_csv_has_a_row_a_load_with_the_same_figures(make_report: MakeReport, tmp_path: Path) -> None:
    report = make_report(20, 56)
    with save_csv(report, tmp_path / "results.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    points = [(model, point) for model in report.models for point in model.points]
    assert len(rows) == len(points)
    for row, (model, point) in zip(rows, points, strict=True):
        assert (row["name"], row["kind"]) == (model.facts.name, point.kind)
        assert (float(row["p99_ms"]), float(row["p99_ms_high"])) == (point.p99_ms.median, point.p99_ms.high)
        assert row["certified_accuracy"] == ""


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
    assert "<script>" not in page(make_report(20, command="<script>"))


def test_notes_say_what_does_not_count(make_report: MakeReport) -> None:
    report = make_report(20, complete=False)
    (model,) = report.models
    assert model.capacity is not None
    void = [point.__class__(**{**vars(point), "voids": ("the generator lagged",)}) for point in model.points[:1]]
    bound = model.capacity.__class__(Spread(1, 1, 1), None, "", "generator")
    changed = model.__class__(**{**vars(model), "points": (*void, *model.points[1:]), "capacity": bound})
    found = notes(Report(**{**vars(report), "models": (changed,)}))
    assert found == [
        "Incomplete: it ended before all repeats were made.",
        "resnet20: the load generator, not the server, ended the search; the server may do more.",
        "resnet20, 1 in flight: a run was void and does not count: the generator lagged.",
    ]


def test_loads_that_were_asked_for_have_a_table_of_their_own(make_report: MakeReport) -> None:
    assert load_table(make_report(20)).row_count == 0
