"""How the command line shows answers: a table for people, JSON and CSV for programs."""

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from resnet_client.results import ModelInfo, Outcome, Prediction

CSV_COLUMNS = ("image", "rank", "index", "label", "probability", "logit", "model", "version", "status", "error")


WIDE = 1000
"""Columns where nobody's window is: a pipe gets each image on one line."""


def console() -> Console:
    """Standard output, as it is: a file name is no markup."""
    return Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else WIDE)


def as_json(outcomes: Iterable[Outcome]) -> None:
    """A list with an object for each image, written as they come."""
    separator = "[\n"
    for outcome in outcomes:
        sys.stdout.write(separator + json.dumps(_object(outcome), indent=2))
        separator = ",\n"
    sys.stdout.write("\n]\n" if separator == ",\n" else "[]\n")


def _object(outcome: Outcome) -> dict[str, Any]:
    name = {"image": outcome.source}
    if outcome.error is not None:
        return name | {"error": {"status": outcome.error.status.name, "text": outcome.error.args[0]}}
    return name | asdict(outcome.get())


def as_csv(outcomes: Iterable[Outcome]) -> None:
    """A line for each label, most probable first, or one with the error; written as they come."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for outcome in outcomes:
        writer.writerows(_lines(outcome))


def _lines(outcome: Outcome) -> Iterator[tuple[Any, ...]]:
    if outcome.error is not None:
        yield (outcome.source, *[""] * 7, outcome.error.status.name, outcome.error.args[0])
        return
    one = outcome.get()
    for rank, label in enumerate(one.labels, 1):
        figures = (label.index, label.name, f"{label.probability:.6g}", f"{label.logit:.6g}")
        yield (outcome.source, rank, *figures, one.model, one.version, "OK", "")


def as_table(outcomes: Iterable[Outcome]) -> None:
    """A line for each image, and how the last call was computed."""
    table, last = Table(box=None), None
    for column in ("image", "label", "probability", "then"):
        table.add_column(column, justify="right" if column == "probability" else "left", overflow="fold")
    for outcome in outcomes:
        if outcome.prediction is not None:
            last = outcome.prediction
            then = ", ".join(f"{label.name} {label.probability:.1%}" for label in last.labels[1:3])
            table.add_row(outcome.source, last.best.name, f"{last.best.probability:.1%}", then)
    if last is not None:
        console().print(table)
        console().print(_how(last))


def _how(one: Prediction) -> str:
    run = one.execution
    chosen = f", answered by {run.network} ({run.reason})" if run.network else ""
    return (
        f"{one.model} version {one.version}{chosen}, {run.precision} on {run.provider}, batch of {run.batch_rows}: "
        f"decode {1e3 * run.decode_seconds:.1f} ms, queue {1e3 * run.queue_seconds:.1f} ms, compute {1e3 * run.compute_seconds:.1f} ms"
    )


def models_table(infos: list[ModelInfo]) -> Table:
    """A row for each version."""
    table = Table(box=None)
    for column in ("model", "version", "state", "precision", "provider", "input", "accuracy", "agreement", "parameters"):
        table.add_column(column)
    for info in infos:
        if not info.ready:
            table.add_row(info.name, info.version, f"REFUSED: {info.reason}")
            continue
        accuracy, agreement = quality(info)
        size = f"{info.input_size}x{info.input_size}"
        facts = (info.precision, info.provider.removesuffix("ExecutionProvider"), size, accuracy, agreement, f"{info.parameters:,}")
        table.add_row(info.name, info.version, "ready", *facts)
    return table


def quality(info: ModelInfo) -> tuple[str, str]:
    """Accuracy and agreement; of a group the range and how many members, each of which has a certificate."""
    if info.members:
        accuracies = [100 * member.accuracy for member in info.members]
        return f"{min(accuracies):.2f} to {max(accuracies):.2f} %", f"{len(info.members)} members"
    accuracy = "unknown" if info.accuracy is None else f"{info.accuracy:.2f} %"
    return accuracy, "UNCERTIFIED" if info.agreement is None else f"{info.agreement:.2%}"
