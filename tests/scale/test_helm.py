"""The chart as Helm renders it."""

from pathlib import Path
from typing import Any

import helm_python as helm
import manifests
import pytest
from manifests import Resource

CHART = manifests.ROOT / "deploy" / "helm" / "resnet-serving"
VALUES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "cpu": {"autoscaling": {"kind": "cpu", "max": 4}, "networkPolicy": {"enabled": False}},
    "keda": {"autoscaling": {"kind": "keda"}, "monitoring": {"serviceMonitor": True, "rules": True, "labels": {"release": "prometheus"}}},
    "cuda": {"server": {"device": "cuda", "env": {"RESNET_SERVER_PRECISION": "fp16"}}, "temporaryMemory": "1Gi"},
    "path": {"repository": {"kind": "path", "path": "/models"}, "server": {"preStopSeconds": 0}, "image": {"digest": "sha256:" + "0" * 64}},
    "named": {"nodeSelector": {"pool": "cpu"}, "imagePullSecrets": [{"name": "pull"}], "priorityClassName": "high"},
}
IMAGE = {"repository": {"kind": "image", "image": "registry.example/resnet-models:1"}}


def rendered(values: dict[str, Any], chart: Path = CHART) -> list[Resource]:
    with helm.Chart.load(chart) as loaded:
        loaded.validate_schema(values)
        texts = loaded.render(values, name="demo", namespace="prod")
    return [resource for path, text in texts.items() if not path.endswith("NOTES.txt") for resource in manifests.resources(text)]


@pytest.mark.parametrize("version", manifests.VERSIONS)
@pytest.mark.parametrize("name", VALUES)
def test_a_release_is_valid(name: str, version: str) -> None:
    manifests.check(rendered(VALUES[name]), version)


@pytest.mark.parametrize("version", ["1.31", "1.37"])
def test_a_release_with_a_model_image_is_valid(version: str) -> None:
    manifests.check(rendered(IMAGE), version)


@pytest.mark.parametrize("name", VALUES)
def test_the_linter_finds_nothing(name: str) -> None:
    report = helm.lint(CHART, VALUES[name], strict=True, kube_version="v1.29.0")
    assert not report["errors"]
    assert [message["error"] for message in report["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"replica": 3}, "replica"),
        ({"resources": {"cpu": 1.5}}, "/resources/cpu"),
        ({"repository": {"kind": "image"}}, "/repository"),
        ({"repository": {"kind": "path", "path": "models"}}, "/repository/path"),
        ({"autoscaling": {"kind": "vpa"}}, "/autoscaling/kind"),
        ({"image": {"digest": "latest"}}, "/image/digest"),
        ({"server": {"connectionSeconds": 0}}, "/server/connectionSeconds"),
        ({"server": {"env": {"precision": "int8"}}}, "'precision' does not match"),
    ],
)
def test_a_wrong_value_is_named(values: dict[str, Any], named: str) -> None:
    with helm.Chart.load(CHART) as chart, pytest.raises(helm.HelmValuesError) as caught:
        chart.render(values, name="demo", namespace="prod")
    assert named in str(caught.value)


def test_helm_and_kustomize_run_the_same_pod() -> None:
    """A fact written in both must not drift apart."""
    ours = manifests.one(manifests.kustomized(manifests.KUBERNETES / "base"), "Deployment")["spec"]
    theirs = manifests.one(rendered({}), "Deployment")["spec"]
    for pod in (ours["template"]["spec"], theirs["template"]["spec"]):
        del pod["serviceAccountName"], pod["topologySpreadConstraints"][0]["labelSelector"], pod["containers"][0]["image"]
    assert theirs["template"]["spec"] == ours["template"]["spec"]
    assert [theirs[key] for key in ("replicas", "strategy", "progressDeadlineSeconds")] == [
        ours[key] for key in ("replicas", "strategy", "progressDeadlineSeconds")
    ]


def test_the_rules_are_those_of_prometheus() -> None:
    (rule,) = [item for item in rendered(VALUES["keda"]) if item["kind"] == "PrometheusRule"]
    files = sorted((manifests.ROOT / "deploy" / "prometheus" / "rules").glob("*.yml"))
    assert rule["spec"]["groups"] == [group for path in files for group in manifests.resources(path.read_text())[0]["groups"]]


def test_the_grace_period_follows_the_drain() -> None:
    pod = manifests.one(rendered({"server": {"drainSeconds": 90, "preStopSeconds": 10}}), "Deployment")["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == 115
