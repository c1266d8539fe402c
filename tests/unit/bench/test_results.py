"""results.json is read back as it was saved, and says what is wrong with another file."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import TypeAdapter
from resnet_bench.errors import BenchError
from resnet_bench.results import FORMAT, Report, Settings, cells, read_report
from resnet_bench.sample import Sample, ServerTimes

MakeReport = Callable[..., Report]


def test_a_result_is_read_back_as_it_was_saved(make_report: MakeReport, tmp_path: Path) -> None:
    report = make_report(20, 56, complete=False)
    report.save(tmp_path / "deep")
    assert read_report(tmp_path / "deep") == report
    assert read_report(tmp_path / "deep" / "results.json") == report
    assert json.loads((tmp_path / "deep" / "results.json").read_text())["machine"]["revision"] == "v1-0-gabc"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", f"format is None; this release reads {FORMAT}"),
        ('{"format": 2}', f"format is 2; this release reads {FORMAT}"),
        (f'{{"format": {FORMAT}}}', "is not a result of resnet-bench: command: Field required"),
    ],
)
def test_another_file_is_not_read(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(BenchError, match=message):
        read_report(tmp_path)


def test_a_wrong_field_is_named(make_report: MakeReport, tmp_path: Path) -> None:
    make_report(20).save(tmp_path)
    path = tmp_path / "results.json"
    values = json.loads(path.read_text())
    values["samples"][3]["calls"] = "many"
    path.write_text(json.dumps(values))
    with pytest.raises(BenchError, match=r"samples\.3\.calls"):
        read_report(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="absent: cannot be read: No such file"):
        read_report(tmp_path / "absent")


def test_one_schema_describes_every_file() -> None:
    schema = TypeAdapter(Report).json_schema()
    assert {"command", "machine", "settings", "models", "samples"} <= set(schema["required"])
    assert schema["properties"]["samples"]["items"]["$ref"].endswith("/Sample")


def test_csv_has_a_row_a_run_with_the_same_figures(make_report: MakeReport, tmp_path: Path) -> None:
    report = make_report(20)
    report.save(tmp_path)
    with (tmp_path / "results.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(report.samples)
    for row, sample in zip(rows, report.samples, strict=True):
        assert (row["model"], row["kind"], row["void"]) == (sample.model, sample.kind, "")
        assert float(row["images"]) == sample.images
        assert row["p99_ms"] == ("" if sample.kind == "raw" else str(sample.latency_ms["p99"]))
        assert row["outcomes"] == f"OK:{sample.calls}"


def test_the_published_capacity_is_the_lowest_that_a_repeat_confirmed(make_report: MakeReport) -> None:
    (model,) = make_report(20).results
    assert model.confirmed is not None
    assert model.capacity == model.confirmed.low == pytest.approx(0.98 * 5000 / 1.03)
    assert model.raw is not None
    assert model.efficiency == pytest.approx(model.capacity / model.raw.median)


def test_a_repeat_without_a_capacity_is_left_out_of_it(make_report: MakeReport) -> None:
    report = make_report(20)
    (model,) = replace(report, searches=(replace(report.searches[0], confirmed=None), *report.searches[1:])).results
    assert model.confirmed is not None
    assert model.confirmed.n == 4


def test_void_runs_are_kept_apart(make_report: MakeReport) -> None:
    report = make_report(20)
    samples = tuple(replace(s, void="disturbed") if s.kind == "half" and s.repeat < 2 else s for s in report.samples)
    (half,) = [cell for cell in cells(samples).values() if cell.first.kind == "half"]
    assert (len(half.runs), half.voids) == (3, ("disturbed", "disturbed"))


SAMPLE = Sample("m", "d", "closed", 0.0, 4, 32, 2.0, 0.05, None, 0, calls=20, answered=20, latency_ms={"mean": 20.6})


def test_the_split_adds_up_to_the_clients_mean_and_hides_nothing() -> None:
    """A call of 32 rows over two engines: their batches' times do not count twice, and what does not fit shows as negative."""
    sample = replace(SAMPLE, server=ServerTimes(queue_ms=1.0, total_ms=20.0, batch_ms=19.7, batch_rows={}))
    assert sample.split_ms == pytest.approx((1.0, 19.0, 0.6))
    late = replace(SAMPLE, server=ServerTimes(queue_ms=3.0, total_ms=21.0, batch_ms=19.7, batch_rows={}))
    assert late.split_ms == pytest.approx((3.0, 18.0, -0.4))
    assert sum(late.split_ms or ()) == pytest.approx(20.6)
    assert SAMPLE.split_ms is None


def test_a_runs_figures_are_of_what_was_really_offered() -> None:
    assert (SAMPLE.images, SAMPLE.achieved_rate) == (320, 10)
    assert Settings(1, 1, 1.0, 0.05, 1, 1, False).repeats == 1
