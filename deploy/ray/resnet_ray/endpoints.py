"""Keep a load balancer told of the placed servers: `python -m resnet_ray.endpoints deploy/envoy/endpoints.yaml`.

Writes Envoy's file of endpoints, and again whenever a server comes or goes; without a file it prints a target for gRPC's own
round_robin, such as `ipv4:10.0.0.1:8001,10.0.0.2:8001`, once.
"""

from pathlib import Path

import click
import ray

from resnet_ray.addresses import envoy_document, replace, target
from resnet_ray.directory import NAMESPACE, directory

WAIT_SECONDS = 60.0


@click.command()
@click.argument("path", type=click.Path(path_type=Path), required=False)
@click.option("--address", default="auto", show_default=True, help="The Ray cluster.")
def main(path: Path | None, address: str) -> None:
    """Write Envoy's endpoints to PATH and keep them current; without PATH print a gRPC target."""
    ray.init(address=address, namespace=NAMESPACE, log_to_driver=False)
    known: list[str] = ray.get(directory().addresses.remote())
    if path is None:
        click.echo(target(known))
        return
    while True:
        replace(path, envoy_document(known))
        click.echo(f"{path}: {', '.join(known) or 'none'}")
        known = ray.get(directory().after.remote(known, WAIT_SECONDS))


if __name__ == "__main__":
    main()
