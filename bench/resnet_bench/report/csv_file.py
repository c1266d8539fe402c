"""results.csv: a row for each model and load, with the model's facts in every row."""

import csv
from pathlib import Path

from resnet_bench.schema import ModelResult, Point, Report, Spread

FACTS = (
    "name",
    "version",
    "variant",
    "depth",
    "parameters",
    "multiply_adds",
    "trained",
    "accuracy",
    "precision",
    "provider",
    "plan",
    "certificate_id",
    "certified_accuracy",
    "agreement",
)
LOAD = ("kind", "arrivals", "rate", "concurrency", "rows", "calls", "repeats")
MEASURED = (
    "goodput",
    "throughput",
    "efficiency",
    "mean_ms",
    "p50_ms",
    "p90_ms",
    "p99_ms",
    "p999_ms",
    "cpu_seconds",
    "lag_p99_ms",
    "generator_cpu",
)
SPLIT = ("queue", "compute", "wire")


def save_csv(report: Report, path: Path) -> Path:
    """Write the file; an unknown figure is an empty cell."""
    rows = [{**facts_row(model), **point_row(point)} for model in report.models for point in model.points]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else list(FACTS), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def facts_row(model: ModelResult) -> dict[str, object]:
    """The columns of a model."""
    row: dict[str, object] = {name: getattr(model.facts, name) for name in FACTS}
    row.update(spread_columns("raw_throughput", model.raw_throughput))
    row.update(spread_columns("capacity", model.capacity.images if model.capacity else None))
    row["memory_bytes"] = model.memory_bytes
    return row


def point_row(point: Point) -> dict[str, object]:
    """The columns of a load."""
    row: dict[str, object] = {name: getattr(point, name) for name in LOAD}
    for name in MEASURED:
        row.update(spread_columns(name, getattr(point, name)))
    for name in SPLIT:
        row.update(spread_columns(f"{name}_ms", getattr(point.split, name) if point.split else None))
    row["void_runs"] = len(point.voids)
    return row


def spread_columns(name: str, spread: Spread | None) -> dict[str, object]:
    """Three columns: NAME is the median, NAME_low and NAME_high the range."""
    if spread is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return {name: spread.median, f"{name}_low": spread.low, f"{name}_high": spread.high}
