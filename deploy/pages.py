"""`make pages`: write every table and chart of README and docs that comes from a committed file; with `--check`, fail where one differs.

A page holds `<!-- from NAME -->`, what was generated, and `<!-- end -->`. GENERATED names the sources.
"""

import json
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from resnet_networks import REPOSITORY
from resnet_proto.certificate import POLICIES, POLICY_OF_PRECISION
from resnet_proto.manifest import read_manifest

from deploy import certificate_tables, plane_tables, shape_tables, triton_tables
from deploy.markdown import markdown
from deploy.triton_tables import AGAINST

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results" / "2026-11-25-two-cores"
IMAGES = ROOT / "docs" / "images"
BLOCK = re.compile(r"(<!-- from ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
SERVERS = {
    "ours": "resnet-serving",
    "triton": "Triton, Python backend, 2 instances",
    "triton-defaults": "Triton, Python backend, defaults",
    "litserve": "LitServe",
    "mlserver": "MLServer",
}


def load(name: str) -> Any:
    """A file of results."""
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


def shown(spread: dict[str, float], digits: int = 0) -> str:
    """A median with half the range of its runs."""
    half = (spread["high"] - spread["low"]) / 2
    return f"{spread['median']:,.{digits}f}&nbsp;±{half:,.{digits}f}"


def point(model: Any, kind: str) -> Any:
    """The load of one kind."""
    (found,) = [one for one in model["points"] if one["kind"] == kind]
    return found


def depths_short() -> str:
    """What a reader chooses a depth by."""
    rows = []
    for model in load("depths/results.json")["models"]:
        facts, images = model["facts"], model["capacity"]["images"]
        half = point(model, "half")
        rows.append(
            [
                facts["name"],
                f"{facts['accuracy']:.2f} %",
                shown(images),
                f"{half['p99_ms']['median']:.0f} ms",
                f"{point(model, 'busy')['cpu_seconds']['median']:.2f} s",
            ]
        )
    return markdown(("network", "accuracy", "images/s within 50 ms", "p99 at half of that", "CPU for 1,000"), rows)


def depths() -> str:
    """Every figure of the depth comparison."""
    header = (
        "network",
        "accuracy",
        "multiply-adds",
        "raw img/s",
        "capacity, img/s",
        "of raw",
        "alone, p50 ms",
        "p99 at 50 %",
        "p99 at 80 %",
    )
    rows = []
    for model in load("depths/results.json")["models"]:
        facts, capacity = model["facts"], model["capacity"]
        rows.append(
            [
                facts["name"],
                f"{facts['accuracy']:.2f} %",
                f"{facts['multiply_adds'] / 1e6:.1f} M",
                shown(model["raw_throughput"]),
                shown(capacity["images"]),
                shown(capacity["efficiency"], 2),
                shown(point(model, "single")["p50_ms"], 2),
                shown(point(model, "half")["p99_ms"], 1),
                shown(point(model, "busy")["p99_ms"], 1),
            ]
        )
    costs = [
        [
            model["facts"]["name"],
            shown(point(model, "busy")["cpu_seconds"], 2),
            f"{model['memory_bytes'] / 2**20:.0f} MiB",
        ]
        for model in load("depths/results.json")["models"]
    ]
    return markdown(header, rows) + "\n" + markdown(("network", "CPU s for 1,000 images at 80 %", "memory"), costs)


def peers() -> str:
    """All servers under one load."""
    rows = [
        [
            SERVERS[row["peer"]],
            shown(row["served"]),
            shown(row["p50_ms"], 2),
            shown(row["p99_ms"], 2),
            f"{row['cpu_us']:,.0f}",
            shown(row["ratio"], 2) if row["ratio"] else "",
        ]
        for row in fastest_first()
    ]
    return markdown(("server", "img/s", "p50 ms", "p99 ms", "CPU µs a call", "ours over it"), rows)


def fastest_first() -> list[Any]:
    """Rows of the comparison with all peers."""
    return sorted(load("peers-all/peers.json")["rows"], key=lambda row: -float(row["served"]["median"]))


TARGETS = (
    ("resnet56 fp32, 1 in flight, over Triton", 1.3, "peers-resnet56-1"),
    ("resnet56 fp32, 16 in flight, over Triton", 1.05, "peers-resnet56-16"),
    ("resnet56 fp32, 64 in flight, over Triton", 1.0, "peers-resnet56-64"),
    ("resnet20 fp32, 1 in flight, over Triton", 1.1, "peers-resnet20-1"),
    ("resnet20 fp32, 16 in flight, over Triton", 1.0, "peers-resnet20-16"),
    ("resnet20 fp32, 64 in flight, over Triton", 1.0, "peers-resnet20-64"),
    ("resnet56 fp32, 16 in flight, 8 rows a call, over Triton", 1.0, "peers-resnet56-16x8"),
    ("resnet56 fp32, 16 in flight, 32 rows a call, over Triton", 1.0, "peers-resnet56-16x32"),
    ("resnet20 fp32, 16 in flight, 8 rows a call, over Triton", 1.0, "peers-resnet20-16x8"),
    ("resnet20 fp32, 16 in flight, 32 rows a call, over Triton", 1.0, "peers-resnet20-16x32"),
    ("resnet20 as it starts (INT8), 64 in flight, over Triton on the fp32 file", 1.4, "peers-resnet20-auto"),
    ("ResNet-50 INT8, random weights, over Triton on the fp32 file", 3.0, "peers-resnet50"),
    ("resnet20 fp32, 32 rows a call, of raw ONNX Runtime", 0.95, "limit-rows-fp32"),
    ("resnet20 INT8, 32 rows a call, of raw ONNX Runtime", 0.95, "limit-rows-int8"),
    ("ResNet-18 fp32, random weights, of raw ONNX Runtime", 0.95, "limit-imagenet resnet18"),
    ("ResNet-50 fp32, random weights, of raw ONNX Runtime", 0.95, "limit-imagenet resnet50"),
    ("resnet56 fp32, 3 times the capacity, goodput of capacity", 0.9, "overload"),
)


def targets() -> str:
    """What was to be reached, and what was measured; a target inside the range of the runs is neither reached nor missed."""
    rows = []
    for work, target, source in TARGETS:
        ratio, tail = measured(source)
        verdict = "reached" if ratio["low"] >= target else "**missed**" if ratio["high"] < target else "within the range"
        rows.append([work, f"{target:g}", shown(ratio, 2), f"{tail:.2f}" if tail else "", verdict])
    return markdown(("work", "target", "measured", "p99, ours over Triton's", ""), rows)


def measured(source: str) -> tuple[dict[str, float], float | None]:
    """The ratio that a folder of results holds, and that of the p99 where there is one."""
    folder, _, model = source.partition(" ")
    if folder == "overload":
        return load("overload/overload.json")["of_capacity"], None
    if folder.startswith("peers"):
        (row,) = [row for row in load(f"{folder}/peers.json")["rows"] if row["peer"] == "triton"]
        return row["ratio"], row["p99_ratio"]["median"]
    (cell,) = [cell for cell in load(f"{folder}/limit.json")["cells"] if model in ("", cell["model"])]
    return cell["of_raw"], None


def grid() -> str:
    """Share of raw ONNX Runtime by network, rows a call and calls in flight."""
    cells: dict[tuple[str, int], dict[int, str]] = {}
    for cell in load("limit-grid/limit.json")["cells"]:
        key = (f"{cell['model']} {cell['precision']}", cell["rows"])
        cells.setdefault(key, {})[cell["in_flight"]] = shown(cell["of_raw"], 2)
    flights = sorted({flight for row in cells.values() for flight in row})
    header = ("network", "rows a call", *(f"{flight} in flight" for flight in flights))
    return markdown(header, [[name, str(rows), *(row[flight] for flight in flights)] for (name, rows), row in cells.items()])


def certificates() -> str:
    """What the released files promise, from their manifests."""
    header = ("network", "precision", "images", "top-1 agreement", "max logit error", "accuracy", "change, 95 %", "file")
    rows = []
    for folder in sorted(REPOSITORY.glob("*/1")):
        manifest = read_manifest(folder)
        for artifact in manifest.artifacts:
            held = artifact.certificate
            rows.append(
                [
                    manifest.name,
                    artifact.precision,
                    f"{held.images:,}",
                    f"{100 * held.top1_agreement:.2f} %",
                    f"{held.max_abs_error:.2g}",
                    f"{held.reference_accuracy:.2f} → {held.artifact_accuracy:.2f} %",
                    f"{held.accuracy_change_low:+.2f} to {held.accuracy_change_high:+.2f}",
                    f"{(folder / artifact.file).stat().st_size / 1e6:.2f} MB",
                ]
            )
    return markdown(header, rows)


def policies() -> str:
    """What each precision is held to, from the code."""
    rows = []
    for precision, name in POLICY_OF_PRECISION.items():
        policy = POLICIES[name]
        error = f"≤ {policy.max_relative_error:g} of the spread" if policy.HasField("max_relative_error") else ""
        loss = f"≤ {policy.max_accuracy_loss:g} points" if policy.HasField("max_accuracy_loss") else ""
        rows.append([precision, f"`{name}`", f"≥ {100 * policy.min_top1_agreement:g} %", error, loss, str(policy.min_images)])
    return markdown(("precision", "policy", "top-1 agreement", "logit error", "accuracy lost", "images at least"), rows)


def start() -> str:
    """What trying it costs."""
    found = json.loads((ROOT / "docs" / "results" / "first-answer.json").read_text(encoding="utf-8"))
    rows = [
        (
            "download, everything included",
            f"{found['download_bytes'] / 1e6:.0f} MB",
            f"{found['download_seconds']:.0f} s from a near registry",
        ),
        ("install, without PyTorch", f"{found['environment_bytes'] / 1e6:.0f} MB on disk", f"{found['install_seconds']:.0f} s"),
        ("`resnet-server demo --stop`: check, measure, serve, classify", "", f"{found['demo_seconds']:.0f} s"),
    ]
    return markdown((f"what trying costs, {found['created_at'][:10]}", "size", "time on two cores"), rows)


def quoted(name: str) -> str:
    """A table as a script of a decision printed it."""
    return f"```text\n{(AGAINST / name).read_text(encoding='utf-8').rstrip()}\n```\n"


GENERATED: dict[str, Callable[[], str]] = {
    "depths": depths,
    "depths-short": depths_short,
    "peers": peers,
    "grid": grid,
    "certificates": certificates,
    "policies": policies,
    "targets": targets,
    "start": start,
    "forms": partial(quoted, "forms.txt"),
    "empty-call": partial(quoted, "empty-call.txt"),
    "one-call-calm": partial(quoted, "one-call-calm.txt"),
    "grain-rows": partial(quoted, "grain.txt"),
    "least-grain": partial(quoted, "least-grain.txt"),
    "burst-room": partial(quoted, "../2026-11-29-auto-served/burst-room.txt"),
    "openvino-alone": partial(quoted, "openvino-alone.txt"),
    "openvino-served": partial(quoted, "openvino-served.txt"),
    "front-ends-224": partial(quoted, "front-ends-224.txt"),
    "jpeg": partial(quoted, "jpeg.txt"),
    "one-call": partial(quoted, "one-call.txt"),
    **certificate_tables.TABLES,
    **plane_tables.TABLES,
    **shape_tables.TABLES,
    **triton_tables.TABLES,
}


def chart(ink: str, faint: str) -> str:
    """SVG of images a second by server, ours in colour."""
    rows = fastest_first()
    most, left, wide, step = rows[0]["served"]["median"], 290, 350, 34
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {step * len(rows) + 18}" role="img" font-family="system-ui, sans-serif" '
        f'font-size="15" fill="{ink}">',
        "<title>Images a second, resnet20 fp32, 16 single images in flight, on two cores</title>",
    ]
    for index, row in enumerate(rows):
        y, length = 10 + step * index, wide * row["served"]["median"] / most
        ours = row["peer"] == "ours"
        weight = ' font-weight="600"' if ours else ""
        parts += [
            f'<text x="{left - 12}" y="{y + 17}" text-anchor="end"{weight}>{SERVERS[row["peer"]]}</text>',
            f'<rect x="{left}" y="{y}" width="{length:.1f}" height="24" rx="3" fill="{"#2f81f7" if ours else faint}"/>',
            f'<text x="{left + length + 8:.1f}" y="{y + 17}"{weight}>{row["served"]["median"]:,.0f} img/s</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])


def charts() -> dict[Path, str]:
    """Files of the picture, for light and for dark pages."""
    return {IMAGES / "throughput-light.svg": chart("#1f2328", "#b6bec7"), IMAGES / "throughput-dark.svg": chart("#e6edf3", "#4d5560")}


def pages() -> list[Path]:
    """Everything that may hold a generated block."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def generated(text: str) -> str:
    """A page with every block as the files have it."""
    return BLOCK.sub(lambda match: f"{match[1]}{GENERATED[match[2]]()}{match[3]}", text)


def stale() -> dict[Path, str]:
    """Files that differ from what is generated, with what they should hold."""
    wanted = {page: generated(page.read_text(encoding="utf-8")) for page in pages()} | charts()
    return {path: text for path, text in wanted.items() if not path.is_file() or path.read_text(encoding="utf-8") != text}


def main() -> None:
    """Write, or check."""
    found = stale()
    if "--check" in sys.argv[1:]:
        sys.exit("".join(f"{path.relative_to(ROOT)}: differs from its source; run `make pages`\n" for path in found) or 0)
    for path, text in found.items():
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
