"""Rules and dashboard against the metrics that the server really has."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from resnet_server.metrics.metrics import Metrics

DEPLOY = Path(__file__).parents[3] / "deploy"
RULES = DEPLOY / "prometheus" / "rules"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "resnet-serving.json"
METRIC = re.compile(r"(?<![:\w])resnet_[a-z0-9_]+")
RECORD = re.compile(r"- record: (\S+)")
RECORDED = re.compile(r"\b(?:model|job|pod):[a-z_]+:[a-z0-9_]+")
ALERT = re.compile(r"^ +- alert: (\w+)$", re.MULTILINE)


def served() -> set[str]:
    """The names of all samples that the server can expose."""
    names = set()
    for family in Metrics(CollectorRegistry()).registry.collect():
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
        names |= {family.name + suffix for suffix in suffixes}
    return names


def expressions() -> dict[str, str]:
    """Every PromQL text by where it stands."""
    found = {path.name: path.read_text() for path in RULES.glob("*.yml")}
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        found |= {f"{panel['title']} {target['refId']}": target["expr"] for target in panel.get("targets", [])}
    return found


def test_every_metric_that_is_queried_exists() -> None:
    known = served()
    for where, text in expressions().items():
        assert not set(METRIC.findall(text)) - known, where


def test_every_recorded_series_that_is_queried_is_recorded() -> None:
    recorded = {name for path in RULES.glob("*.yml") for name in RECORD.findall(path.read_text())}
    assert len(recorded) > 5
    for where, text in expressions().items():
        assert not set(RECORDED.findall(text)) - recorded, where


def test_every_alert_has_a_unit_test_and_stands_in_the_documentation() -> None:
    tests, documentation = (
        (DEPLOY / "prometheus" / "tests" / "alerts.yml").read_text(),
        (DEPLOY.parent / "docs" / "how-to" / "docker.md").read_text(),
    )
    alerts = ALERT.findall((RULES / "alerts.yml").read_text())
    assert len(alerts) == len(set(alerts)) >= 5
    for alert in alerts:
        assert f"alertname: {alert}" in tests or f'alertname="{alert}"' in tests, alert
        assert f"`{alert}`" in documentation, alert


def test_panels_have_a_place_of_their_own_and_say_what_they_show() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        grid = panel["gridPos"]
        cells = {(grid["x"] + x, grid["y"] + y) for x in range(grid["w"]) for y in range(grid["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells
        assert panel["type"] == "row" or (panel["description"] and panel["targets"]), panel["title"]


def test_the_dashboard_reads_the_provisioned_data_source() -> None:
    provisioned = (DEPLOY / "grafana" / "provisioning" / "datasources" / "prometheus.yml").read_text()
    for uid in re.findall(r'"type": "prometheus",\s+"uid": "([^"]+)"', DASHBOARD.read_text()):
        assert f"uid: {uid}\n" in provisioned


def promtool() -> str:
    """Its path; skips without it, but fails where the tools are promised (.ci/run)."""
    found = shutil.which("promtool")
    if found is None and "RESNET_REQUIRE_TOOLS" in os.environ:
        pytest.fail("promtool is not installed")
    return found or pytest.skip("promtool is not installed; `make compose-test` runs these in Prometheus's image")


@pytest.mark.parametrize(
    "arguments", [("check", "rules", *sorted(map(str, RULES.glob("*.yml")))), ("test", "rules", "../tests/alerts.yml")]
)
def test_the_rules_do_what_their_unit_tests_say(arguments: tuple[str, ...]) -> None:
    result = subprocess.run([promtool(), *arguments], cwd=RULES, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
