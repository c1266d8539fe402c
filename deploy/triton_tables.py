"""Tables and the sentence of the pages that compare with Triton's Python backend, and with ONNX Runtime itself."""

from collections.abc import Callable, Iterable
from pathlib import Path

from resnet_bench.peers.lineup import OURS
from resnet_bench.peers.standings import Standing, standings
from resnet_bench.report.tables import shown, with_interval
from resnet_bench.results import read_report

from deploy.markdown import markdown

RESULTS = Path(__file__).parents[1] / "docs" / "results"
AGAINST = RESULTS / "2026-11-29-against-triton"
OF_RAW = RESULTS / "2026-11-29-of-raw"


def against_triton() -> Iterable[Standing]:
    """Triton in its best configuration under each load that has runs of both; of a load that was measured again the later result."""
    found = {}
    for report in sorted(map(read_report, AGAINST.glob("*/results.json")), key=lambda report: report.created_at):
        for standing in standings(report):
            if standing.name != OURS and standing.ratio is not None:
                found[standing.facts.name, standing.facts.precision, standing.load] = standing
    return found.values()


def triton_table() -> str:
    """Ours over Triton's Python backend, load by load, with the configuration of its that did best."""
    rows = []
    for standing in sorted(against_triton(), key=lambda one: (one.facts.name, one.facts.precision, one.load[1], one.load[0])):
        (in_flight, images), ratio = standing.load, standing.ratio
        setup = standing.cell.first.setup.partition(", ")[2].removesuffix(", no queue delay")
        late = standing.equal[0][1] if standing.equal else None
        work = f"{standing.facts.name} {standing.facts.precision}, {in_flight} in flight" + (
            f", {images} rows a call" if images > 1 else ""
        )
        rows.append([work, setup, with_interval(ratio, 2), "" if late is None else with_interval(late, 2)])
    return markdown(("work", "Triton's best", "ours / Triton's", "p99 at an equal rate, ours / Triton's"), rows)


def triton_sentence() -> str:
    """The span of the ratios of single images, what they are against, and where runs without disturbance are missing."""
    singles = [(f"{one.facts.name} {one.facts.precision}, {one.load[0]}", one.ratio) for one in against_triton() if one.load[1] == 1]
    medians = {name: ratio.median for name, ratio in singles if ratio is not None}
    tried = dict.fromkeys(
        f"{run.model} {run.precision}, {run.concurrency}"
        for folder in sorted(AGAINST.glob("*/results.json"))
        for run in read_report(folder).samples
        if run.kind == "closed" and run.rows == 1
    )
    text = (
        f"{min(medians.values()):.2f} to {max(medians.values()):.2f} times Triton's Python backend in its best of three configurations "
        f"(single images, the same file and precision, {len(medians)} of {len(tried)} loads)"
    )
    below = [name for name, median in medians.items() if median < 1]
    open_yet = [name for name in tried if name not in medians]
    text += f". Below 1: {'; '.join(below)} in flight" if below else ""
    return text + (f". Not settled, for lack of undisturbed runs: {'; '.join(open_yet)} in flight.\n" if open_yet else ".\n")


def raw_table() -> str:
    """Ours over ONNX Runtime alone in its best plan, images without calls; of a load that was measured again the later result."""
    rows = {}
    for report in sorted(map(read_report, OF_RAW.glob("*/results.json")), key=lambda report: report.created_at):
        for one in standings(report):
            if one.name != OURS and one.ratio is not None:
                (in_flight, images), work = one.load, f"{one.facts.name} {one.facts.precision}"
                load = f"{work}, {in_flight} in flight" + (f", {images} rows a call" if images > 1 else "")
                images_a_second = shown(one.cell.summary(lambda run: run.images))
                rows[load] = (load, one.cell.first.setup, images_a_second, with_interval(one.ratio, 2))
    return markdown(("work", "ONNX Runtime's best plan", "its img/s", "ours / it"), rows.values())


TABLES: dict[str, Callable[[], str]] = {"triton-table": triton_table, "triton-sentence": triton_sentence, "raw-table": raw_table}
