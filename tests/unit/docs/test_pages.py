"""README and docs: every link leads somewhere, every command could run, and every number is that of a committed file."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import click
import pytest
from pages import PAGES, ROOT, Shown, anchors, commands, links
from resnet_networks import REPOSITORY
from resnet_proto.manifest import read_manifest

import deploy.pages
import deploy.site
import deploy.triton_tables
from deploy.site import COMMANDS

RESULTS = ROOT / "docs" / "results"
GONE = ("limit", "overload", "soak", "handlers")  # commands of earlier trees, which pages about results of that time name
OF_THEN = ("performance.md", "decisions/", "results/")
SHOWN = [shown for page in PAGES for shown in commands(page)]
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
THEIRS = {"--build-arg", "--scale", "--set"}  # options of docker and others
README_LINES = 120


def identity(path: Path) -> str:
    return str(path.relative_to(ROOT))


def fault(shown: Shown) -> str:
    """What of a command does not exist; empty if all does."""
    words = shown.words()
    if not words:
        return ""
    if words[0] == "make":
        return ", ".join(f"no target {word}" for word in words[1:] if "=" not in word and word not in TARGETS)
    if words[0] in ("docker", "kubectl", "helm", "serve"):
        named = [word for word in words[1:] if word.startswith("deploy/")]
        return ", ".join(f"no file {word}" for word in named if not (ROOT / word).exists())
    if words[0] not in COMMANDS:
        return "" if words[0] in ("python", "pip", "resnet-serving") else f"no program {words[0]}"
    return option_fault(COMMANDS[words[0]], words[1:], str(shown))


def option_fault(command: click.Command, words: list[str], where: str) -> str:
    """An option or subcommand that does not exist."""
    context = click.Context(command)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name, *words = words
        found = command.get_command(context, name)
        if found is None:
            return "" if name in GONE and any(part in where for part in OF_THEN) else f"no command {name}"
        command = found
        context = click.Context(command, parent=context)
    meant = command.commands.values() if isinstance(command, click.Group) else [command]  # `resnet-client --token`: of any that has it
    parameters = [parameter for one in (command, *meant) for parameter in one.params]
    known = {option for parameter in parameters for option in (*parameter.opts, *parameter.secondary_opts)} | {"--help", "--version"}
    given = {word.partition("=")[0] for word in words if re.match(r"--[a-z]", word)}
    return ", ".join(f"no option {option}" for option in sorted(given - known))


@pytest.mark.parametrize("page", PAGES, ids=identity)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in links(page):
        if re.match(r"[a-z+]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = page if not name else Path(os.path.normpath(page.parent / name))
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def test_there_are_commands() -> None:
    assert len(SHOWN) > 80
    assert {shown.words()[0] for shown in SHOWN if shown.words()} >= {*COMMANDS, "make", "docker", "pip"}


def test_every_shown_command_exists_with_its_options() -> None:
    faults = [f"{shown}: {found}" for shown in SHOWN if (found := fault(shown))]
    assert faults == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("resnet-server serve --repository r --turbo", "no option --turbo"),
        ("resnet-server fly", "no command fly"),
        ("make coffee", "no target coffee"),
        ("docker compose -f docker-compose.yml -f deploy/none.yml up", "no file deploy/none.yml"),
        ("resnet-toast --help", "no program resnet-toast"),
        ("RESNET_CPUS=2 nice -n 19 resnet-bench depths --out x | cat --nothing", ""),
    ],
)
def test_a_command_that_could_not_run_is_found(text: str, found: str) -> None:
    assert fault(Shown(ROOT / "README.md", text)) == found


def test_every_table_and_chart_is_what_its_file_says() -> None:
    assert [str(path.relative_to(ROOT)) for path in deploy.pages.stale()] == [], "run `make pages`"


def test_a_changed_number_in_a_table_is_found() -> None:
    text = (ROOT / "README.md").read_text()
    assert "91.33 %" in text
    assert deploy.pages.generated(text.replace("91.33 %", "93.33 %")) == text


def load(name: str) -> Any:
    return json.loads((RESULTS / name).read_text())


def ours_over_triton() -> float:
    """The greatest median over the loads of single images that have runs."""
    return max(float(one.ratio.median) for one in deploy.triton_tables.against_triton() if one.load[1] == 1 and one.ratio is not None)


def growth() -> float:
    readings = load("2026-11-25-two-cores/soak/soak.json")["readings"]
    first, last = (sum(reading["resident_bytes"].values()) for reading in (readings[0], readings[-1]))
    return float(100 * (last / first - 1))


def overload_runs(kind: str) -> list[dict[str, Any]]:
    """The runs that measured the capacity, or those at three times it."""
    return [sample for sample in load("2026-11-29-two-cores/overload-h2load/results.json")["samples"] if sample["kind"] == kind]


def goodput_under_overload() -> float:
    runs = zip(overload_runs("overload"), overload_runs("capacity"), strict=True)
    return float(median(over["in_time"] / capacity["answered"] for over, capacity in runs))


def p99_under_overload() -> float:
    return float(median(sample["latency_ms"]["p99"] for sample in overload_runs("overload")))


def images_certified() -> int:
    manifests = [read_manifest(folder) for folder in REPOSITORY.glob("*/1")]
    return min(artifact.certificate.images for manifest in manifests for artifact in manifest.artifacts)


CLAIMS: list[tuple[str, Callable[[], str]]] = [
    (r"compared with PyTorch on ([\d,]+) images", lambda: f"{images_certified():,}"),
    (r"([\d.]+) times Triton's Python backend", lambda: f"{ours_over_triton():.2f}"),
    (r"three times its capacity it answers ([\d.]+) of that", lambda: f"{goodput_under_overload():.2f}"),
    (r"99 % of all answers come within\s+([\d.]+) ms", lambda: f"{p99_under_overload():.1f}"),
    (r"([\d,]+) requests memory grew", lambda: f"{load('2026-11-25-two-cores/soak/soak.json')['readings'][-1]['requests']:,}"),
    (r"requests memory grew by ([\d.]+) %", lambda: f"{growth():.2f}"),
    (r"one wheel of ([\d.]+) MB", lambda: f"{load('first-answer.json')['wheel_bytes']['resnet_serving'] / 1e6:.1f}"),
]


@pytest.mark.parametrize("name", deploy.pages.GENERATED)
def test_no_generated_table_is_empty(name: str) -> None:
    """A result file that lacks a part gives a header alone, which a page would show."""
    lines = deploy.pages.GENERATED[name]().splitlines()
    assert len(lines) > 2 or not lines[0].startswith("|")


@pytest.mark.parametrize(("pattern", "measured"), CLAIMS, ids=[pattern for pattern, _ in CLAIMS])
def test_a_number_of_the_readme_is_that_of_its_file(pattern: str, measured: Callable[[], str]) -> None:
    (stated,) = re.findall(pattern, (ROOT / "README.md").read_text())
    assert stated == measured()


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= README_LINES


def test_the_site_lists_every_metric_and_the_alerts_use_no_other() -> None:
    table = deploy.site.metrics_table()
    names = set(re.findall(r"^\| `(resnet_\w+)`", table, re.MULTILINE))
    assert len(names) >= 28
    rules = "".join(path.read_text() for path in (ROOT / "deploy" / "prometheus" / "rules").glob("*.yml"))
    used = {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\bresnet_\w+", re.sub(r"#.*", "", rules))}
    assert used - names - {name for name in used if f":{name}" in rules} == set()


def test_the_site_lists_every_option_with_its_default() -> None:
    page = deploy.site.options_page()
    assert "Sentinel" not in page
    assert str(Path.home()) not in page
    assert re.search(r"^\| `--max-queue-rows` \| .* \| 2048 \|$", page, re.MULTILINE)
    for command in COMMANDS.values():
        assert isinstance(command, click.Group)
        for one in command.commands.values():
            for parameter in one.params:
                assert not isinstance(parameter, click.Option) or f"`{parameter.opts[0]}`" in page


def test_the_reasons_of_a_refusal_are_the_servers_words() -> None:
    table = (ROOT / "docs" / "how-to" / "refused-model.md").read_text()
    reasons = [reason for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for reason in re.findall(r"`([^`]+)`", row)]
    assert len(reasons) >= 10
    code = "".join(path.read_text() for package in ("proto", "server") for path in (ROOT / package).rglob("*.py"))
    assert [reason for reason in reasons if reason not in code] == []


def test_every_option_named_in_a_text_exists() -> None:
    """Those in inline code: ours, or one of the programs that the pages name."""
    ours = {"--help", "--version"}
    for group in COMMANDS.values():
        assert isinstance(group, click.Group)
        for parameter in (parameter for command in group.commands.values() for parameter in command.params):
            ours |= {*parameter.opts, *parameter.secondary_opts}
    unknown = []
    for page in PAGES:
        for code in re.findall(r"`(--[a-z][^`]*)`", page.read_text()):
            unknown += [f"{identity(page)}: {option}" for option in re.findall(r"--[a-z][\w-]*", code) if option not in ours | THEIRS]
    assert unknown == []
