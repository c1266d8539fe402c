"""A hook of mkdocs: what the site takes from the code while it is built. `make docs` calls it."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import resnet_bench.cli
import resnet_client.cli
import resnet_export.cli
import resnet_models.cli
import resnet_server.cli
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase
from resnet_server.metrics.metrics import Metrics

OWN = "resnet_"
DECISIONS = Path(__file__).parents[1] / "docs" / "decisions"
COMMANDS: dict[str, click.Command] = {
    "resnet-server": resnet_server.cli.main,
    "resnet-client": resnet_client.cli.main,
    "resnet-export": resnet_export.cli.main,
    "resnet-bench": resnet_bench.cli.main,
    "resnet-train": resnet_models.cli.main,
}


def on_config(config: Any) -> None:
    """Called by mkdocs first: decisions, and pages that the configuration does not name, are listed at the end of their part."""
    docs = Path(config["docs_dir"])
    for part in (part for part in config["nav"] if isinstance(part, dict)):
        for title, listed in part.items():
            if isinstance(listed, list):
                found = (path.relative_to(docs).as_posix() for path in sorted((docs / title.lower()).glob("*.md")))
                listed += [page for page in found if page not in listed]
    explanation = next(part["Explanation"] for part in config["nav"] if isinstance(part, dict) and "Explanation" in part)
    explanation.append({"Decisions": ["decisions/index.md", *(f"decisions/{path.name}" for path in sorted(DECISIONS.glob("[0-9]*.md")))]})


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs for every page."""
    for marker, make in (("<!-- metrics -->", metrics_table), ("<!-- options -->", options_page), ("<!-- decisions -->", decisions)):
        if marker in markdown:
            markdown = markdown.replace(marker, make())
    return markdown


def decisions() -> str:
    """A table of the pages, by their titles."""
    found = [(path.name, path.read_text(encoding="utf-8").partition("\n")[0]) for path in sorted(DECISIONS.glob("[0-9]*.md"))]
    titles = [(name, re.fullmatch(r"# (\d+): (.+)", title)) for name, title in found]
    return "\n".join(["| | |", "|---|---|", *(f"| [{title[1]}]({name}) | {title[2]} |" for name, title in titles if title)])


def metrics_table() -> str:
    """Name as scraped, kind, labels and help of every metric that the server registers."""
    lines = ["| metric | kind | labels | |", "|---|---|---|---|"]
    for metric in sorted(registered(), key=lambda metric: metric._name):
        name = f"{metric._name}_total" if metric._type == "counter" else metric._name
        labels = ", ".join(f"`{label}`" for label in metric._labelnames)
        lines.append(f"| `{name}` | {metric._type} | {labels} | {metric._documentation} |")
    return "\n".join(lines)


def registered() -> list[MetricWrapperBase]:
    """The metrics of a server, from the one file that defines them."""
    metrics = Metrics(CollectorRegistry())
    return [value for value in vars(metrics).values() if isinstance(value, MetricWrapperBase) and value._name.startswith(OWN)]


def options_page() -> str:
    """Every command with its arguments and options."""
    return "\n\n".join(part for name, command in COMMANDS.items() for part in described(name, command, 2))


def described(name: str, command: click.Command, level: int) -> Iterator[str]:
    """A heading, what the command does, how it is called, its options, and the same of its subcommands."""
    context = click.Context(command, info_name=name)
    yield f"{'#' * level} {name}"
    yield escaped(inspect.cleandoc(command.help or "").replace("\b", ""))
    if isinstance(command, click.Group):
        for sub in command.list_commands(context):
            found = command.get_command(context, sub)
            if found is not None and not found.hidden:
                yield from described(f"{name} {sub}", found, level + 1)
        return
    yield f"    {name} {' '.join(command.collect_usage_pieces(context))}"
    rows = [row for parameter in command.params if (row := option_row(parameter, context))]
    yield "\n".join(["| option | value | | default |", "|---|---|---|---|", *rows])


def option_row(parameter: click.Parameter, context: click.Context) -> str:
    """One line of the table; nothing for an argument or a hidden option. A help text may end in its own `[default: ...]`."""
    if not isinstance(parameter, click.Option) or parameter.hidden:
        return ""
    names = " ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    taken = parameter.make_metavar(context).strip("[]").removesuffix(" RANGE")
    value = "" if parameter.is_flag else ", ".join(f"`{one}`" for one in taken.split("|"))
    text, _, stated = (parameter.help or "").partition("[default: ")
    given = parameter.to_info_dict()["default"]
    shown = "" if parameter.is_flag or given in (None, "", ()) or "Sentinel" in str(given) or callable(given) else str(given)
    said = parameter.show_default if isinstance(parameter.show_default, str) else ""  # a folder in the home of whoever builds the site
    default = "required" if parameter.required else stated.rstrip("]") or said or shown
    return f"| {names} | {value} | {escaped(text.strip())} | {escaped(default)} |"


def escaped(text: str) -> str:
    """Text that Markdown would take for markup, in a table too."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
