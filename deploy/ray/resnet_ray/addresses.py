"""Addresses of servers as a client's target and as Envoy's file of endpoints."""

import json
import os
from collections.abc import Sequence
from pathlib import Path


def target(addresses: Sequence[str]) -> str:
    """A gRPC target that names all of them."""
    return f"ipv4:{','.join(addresses)}"


def envoy_document(addresses: Sequence[str]) -> str:
    """The file of a cluster `resnet`; JSON is YAML."""
    pairs = (address.rpartition(":") for address in addresses)
    endpoints = [{"endpoint": {"address": {"socket_address": {"address": host, "port_value": int(port)}}}} for host, _, port in pairs]
    kind = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
    return json.dumps({"resources": [{"@type": kind, "cluster_name": "resnet", "endpoints": [{"lb_endpoints": endpoints}]}]}, indent=1)


def replace(path: Path, text: str) -> None:
    """Envoy reads a file again when another is moved over it."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(text)
    fresh.replace(path)
