"""What the Ray applications decide without Ray; `make scale-test` runs them on a cluster."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from resnet_ray.addresses import envoy_document, replace, target
from resnet_ray.arguments import Arguments
from resnet_ray.scaling import Policy, latest_total, wanted
from resnet_ray.server_process import ServerProcess, load_of
from resnet_server.metrics.metrics import Metrics

RAY = Path(__file__).parents[3] / "deploy" / "ray"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "repository: missing"),
        ({"repository": "/r", "replica": 2}, "replica: unknown; expected some of repository, replicas"),
        ({"repository": "/r", "cpus": "two"}, "cpus: 'two'; expected a number"),
        ({"repository": "/r", "replicas": 0}, "replicas: 0; expected 1 or more"),
    ],
)
def test_a_wrong_argument_is_named(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Arguments.of(given)


def test_arguments_of_a_command_line_are_texts() -> None:
    assert Arguments.of({"repository": "/r", "replicas": "3", "demand": "0.5"}) == Arguments("/r", replicas=3, demand=0.5)


def test_a_replica_takes_its_cores_and_no_more_unless_told() -> None:
    assert Arguments("/r", cpus=2).command("10.0.0.1")[-4:] == ["--engines", "2", "--threads", "1"]
    assert Arguments("/r", options="--engines 1 --precision int8").command("10.0.0.1")[-4:] == ["--engines", "1", "--precision", "int8"]
    assert "--engines" not in Arguments("/r", gpus=1).command("10.0.0.1")


@pytest.mark.parametrize("name", ["proxied.yaml", "placed.yaml"])
def test_a_configuration_is_understood(name: str) -> None:
    (application,) = yaml.safe_load((RAY / name).read_text())["applications"]
    assert Arguments.of(application["args"]).repository == "/repository"
    assert application["import_path"] == f"resnet_ray.{name.removesuffix('.yaml')}:application"


def test_load_is_in_seconds_by_the_plans_of_the_server() -> None:
    metrics = Metrics(CollectorRegistry())
    for model, throughput, queued, computed in (("resnet20", 1000, 50, 4000), ("resnet56", 100, 20, 300)):
        labels = (model, "1", "int8")
        metrics.plan_throughput.labels(*labels).set(throughput)
        metrics.queue_rows.labels(*labels).set(queued)
        metrics.images.labels(*labels).inc(computed)
    load = load_of(generate_latest(metrics.registry).decode())
    assert load == pytest.approx((0.05 + 0.2, 4 + 3))


@dataclass
class Point:
    value: float


@dataclass
class Context:
    raw_metrics: dict[str, dict[str, list[Point]]]
    capacity_adjusted_min_replicas: int = 1
    capacity_adjusted_max_replicas: int = 8


@pytest.mark.parametrize(("demand", "waiting", "replicas"), [(0.1, 0.0, 1), (1.5, 0.2, 3), (1.0, 1.2, 5), (2.0, 99.0, 8)])
def test_replicas_follow_demand_and_waiting_work(demand: float, waiting: float, replicas: int) -> None:
    old, halves = Point(50.0), (Point(demand / 2), Point(waiting / 2))
    series = {"demand": {"a": [old, halves[0]], "b": [halves[0]]}, "waiting_seconds": {"a": [old, halves[1]], "b": [halves[1]]}}
    assert Policy(waiting_seconds=0.25, demand=0.7)(Context(series)) == (replicas, {})


def test_replicas_that_said_nothing_yet_ask_for_the_least() -> None:
    assert Policy(waiting_seconds=0.25, demand=0.7)(Context({}))[0] == 1
    assert latest_total([[], []]) == 0
    assert wanted({"demand": 0.7}, {"demand": 0.7}, 1, 8) == 1


def test_a_server_that_cannot_start_says_so(tmp_path: Path) -> None:
    arguments = ["--repository", str(tmp_path / "absent"), "--grpc-port", "0", "--metrics-port", "0", "--http-port", "off"]
    with pytest.raises(RuntimeError, match="ended with status 1 before it listened"):
        ServerProcess(arguments)


def test_endpoints_are_what_envoy_reads(tmp_path: Path) -> None:
    shipped = yaml.safe_load((RAY.parent / "envoy" / "endpoints.yaml").read_text())
    ports = [8001, 8011, 8021]
    addresses = [f"127.0.0.1:{port}" for port in ports]
    replace(tmp_path / "endpoints.yaml", envoy_document(addresses))
    assert json.loads((tmp_path / "endpoints.yaml").read_text()) == shipped
    assert [path.name for path in tmp_path.iterdir()] == ["endpoints.yaml"]
    assert target(addresses) == "ipv4:127.0.0.1:8001,127.0.0.1:8011,127.0.0.1:8021"
