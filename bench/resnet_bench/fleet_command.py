"""`resnet-bench plan-fleet`: capacity on paper."""

import math

import click
from rich.console import Console
from rich.table import Table

from resnet_bench.fleet import Engine, plan_fleet

MILLISECOND = 1e-3
POSITIVE = click.FloatRange(0, min_open=True)


@click.command("plan-fleet")
@click.option("--row-ms", type=POSITIVE, required=True, help="Batch of one row, as `resnet-server plan` prints it.")
@click.option("--batch", type=click.IntRange(1), required=True, help="Rows of the plan's batch.")
@click.option("--batch-ms", type=POSITIVE, required=True, help="Batch of that many rows.")
@click.option("--engines", type=click.IntRange(1), default=1, show_default=True, help="Engines of a replica.")
@click.option("--peak", type=POSITIVE, multiple=True, required=True, help="Images a second at the peak; may be given several times.")
@click.option("--objective-ms", type=POSITIVE, default=50.0, show_default=True, help="99 % of the images are answered within it.")
@click.option("--spare", type=click.IntRange(0), default=1, show_default=True, help="Replicas that may be gone at the peak.")
@click.option("--most-calls", type=POSITIVE, default=math.inf, help="Calls of one image a second that a replica can take in.")
@click.option("--price", type=click.FloatRange(0), default=0.0, help="Of a replica, an hour.")
def plan_fleet_command(
    row_ms: float,
    batch: int,
    batch_ms: float,
    engines: int,
    peak: tuple[float, ...],
    objective_ms: float,
    spare: int,
    most_calls: float,
    price: float,
) -> None:
    """Replicas and cost for a forecast of traffic, from what one replica was measured to do."""
    table = Table(
        "peak, images/s", "replicas", "of them spare", "images/s a replica", "utilisation with spares gone", "p99 at most", "cost an hour"
    )
    try:
        engine = Engine.measured(row_ms * MILLISECOND, batch_ms * MILLISECOND, batch)
        for rate in peak:
            fleet = plan_fleet(engine, engines, rate, objective_ms * MILLISECOND, spare, price, most_calls)
            table.add_row(
                f"{rate:,.0f}",
                f"{fleet.replicas:,}",
                str(spare),
                f"{fleet.rate:,.0f}",
                f"{fleet.utilisation:.0%}",
                f"{fleet.latency / MILLISECOND:.1f} ms",
                f"{fleet.cost:,.2f}" if price else "",
            )
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    Console(width=140).print(table)
