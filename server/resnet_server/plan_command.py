"""`resnet-server plan`: plans without serving."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from rich.console import Console

from resnet_server.engines.device import pick_devices
from resnet_server.engines.runtimes import pick_runtimes
from resnet_server.errors import EngineError, ServingError, StartError
from resnet_server.models.group import VERSION
from resnet_server.models.group_file import with_groups
from resnet_server.models.group_loader import (
    GroupSource,
    alone,
    check_groups,
    entries_of,
    facts_of,
    files_of,
    names_to_scan,
    of_groups,
    sources,
)
from resnet_server.models.loader import parse_precisions
from resnet_server.models.model_settings import wanted_of
from resnet_server.models.remote import open_repository
from resnet_server.models.repository import Candidate, Published, Trust, scan
from resnet_server.planning.planner import Planned, Planner
from resnet_server.planning.report import plan_table
from resnet_server.settings import Settings


def print_plans(settings: Settings, fresh: bool, console: Console) -> None:
    """Print a table for every version, and one line for each that has none.

    Raises StartError without a repository or device, and EngineError at the end if no version has a plan.
    """
    device = pick_devices(settings.device, settings.devices)[0]
    pick_runtimes(settings.runtime, device)
    repository = open_repository(settings)
    repository.refresh()
    settings = with_groups(replace(settings, repository=repository.root))
    check_groups(settings)
    found = scan(
        repository,
        models=names_to_scan(settings),
        wanted=wanted_of(settings),
        trust=Trust(settings.allow_uncertified, settings.require_policy, settings.require_signature),
    )
    console.print(f"device: {device.kind} ({device.reason})", highlight=False, markup=False)
    planned = 0
    for published in alone(settings, found):
        own = published.own.applied_to(published.version, settings)
        planner = Planner(own, device, fresh)
        for candidates in choices(published, own.precision):
            files = published.files(candidates)
            planned += print_plan(f"{published.name} version {published.version}", partial(planner.plan, files), console)
        if published.refusal:
            console.print(f"{published.name} version {published.version}: refused: {published.refusal}", highlight=False, markup=False)
    for source in sources(settings, found):
        plan = partial(plan_group, Planner(of_groups(settings), device, fresh), settings, source)
        planned += print_plan(f"{source.name} version {VERSION}", plan, console)
    if not planned:
        raise EngineError(f"plan: no version in {settings.repository} has one")


def plan_group(planner: Planner, settings: Settings, source: GroupSource) -> Planned:
    """The plan of a group; raises ServingError where its members do not go together."""
    members = entries_of(source, settings.precision)
    return planner.plan(files_of(members), facts_of(members))


def print_plan(title: str, make: Callable[[], Planned], console: Console) -> bool:
    """Print a table, or why there is none; whether there was one."""
    try:
        result = make()
    except StartError:
        raise
    except ServingError as error:
        console.print(f"{title}: no plan: {error}", highlight=False, markup=False)
        return False
    origin = "kept from before" if result.cached else "measured now"
    console.print(plan_table(f"{title}: plan, {origin}", result.plan), highlight=False, markup=False)
    return True


def choices(published: Published, precision: str) -> list[list[Candidate]]:
    """The candidates that compete for one plan: all with `auto`, else each precision asked for by itself."""
    if published.refusal:
        return []
    if precision == "auto":
        return [list(published.candidates)]
    by_name = {candidate.artifact.precision: candidate for candidate in published.candidates}
    wanted = parse_precisions(precision)
    if missing := [name for name in wanted if name not in by_name]:
        raise StartError(f"precision: {', '.join(missing)} is not certified; {published.name} holds {', '.join(by_name)}")
    return [[by_name[name]] for name in wanted]
