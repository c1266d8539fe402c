"""Servers of ours placed, restarted and scaled by Ray, and called directly: `serve run deploy/ray/placed.yaml`.

No call passes through Ray: callers get the servers' addresses (`resnet_ray.endpoints`), keep their deadlines and the full speed.
"""

import asyncio
import time
from typing import Any

import ray
from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy

from resnet_ray.arguments import Arguments
from resnet_ray.directory import directory
from resnet_ray.server_process import Load, ServerProcess


class PlacedServer:
    """One server on the node's own address, listed in the directory as long as it is healthy."""

    def __init__(self, arguments: Arguments) -> None:
        self._server = ServerProcess(arguments.command(arguments.host or ray.util.get_node_ip_address()))
        self._directory = directory()
        self._seen, self._since = Load(0.0, 0.0), time.monotonic()

    async def check_health(self) -> None:
        """Renew the lease of a healthy server; raises for Serve to replace another."""
        await asyncio.to_thread(self._server.check)
        await self._directory.renew.remote(self._server.address)

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """What the policy reads: seconds that wait, and the share of this replica that was in use since the last time."""
        load, now = await asyncio.to_thread(self._server.load), time.monotonic()
        demand = (load.computed - self._seen.computed) / max(1e-3, now - self._since)
        self._seen, self._since = load, now
        return {"waiting_seconds": load.waiting, "demand": demand}

    async def address(self) -> str:
        """host:port of this replica's server."""
        return self._server.address

    def __del__(self) -> None:
        """Leave the directory, drain, end; Serve calls this when the replica goes, Python when it could not start."""
        if server := getattr(self, "_server", None):
            self._directory.leave.remote(server.address)
            server.stop()


def scaling(arguments: Arguments) -> dict[str, Any]:
    """A fixed number of replicas, or one that follows the load."""
    if arguments.max_replicas <= arguments.replicas:
        return {"num_replicas": arguments.replicas}
    thresholds = {"waiting_seconds": arguments.waiting_seconds, "demand": arguments.demand}
    config = AutoscalingConfig(
        min_replicas=arguments.replicas,
        max_replicas=arguments.max_replicas,
        metrics_interval_s=1,
        look_back_period_s=5,
        upscale_delay_s=2,
        downscale_delay_s=300,
        policy=AutoscalingPolicy(policy_function="resnet_ray.scaling:Policy", policy_kwargs=thresholds),
    )
    return {"autoscaling_config": config}


def application(given: dict[str, Any]) -> serve.Application:
    """What `import_path: resnet_ray.placed:application` builds; `given` as in Arguments."""
    arguments = Arguments.of(given)
    deployment = serve.deployment(PlacedServer).options(
        name="resnet-placed",
        ray_actor_options={"num_cpus": arguments.cpus, "num_gpus": arguments.gpus},
        health_check_period_s=1,
        health_check_timeout_s=10,
        graceful_shutdown_timeout_s=40,
        **scaling(arguments),
    )
    built: serve.Application = deployment.bind(arguments)
    return built
