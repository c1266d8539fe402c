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
    "secured": {"security": {"tlsSecret": "resnet-tls", "tokensSecret": "resnet-tokens"}},
    "mtls": {"security": {"tlsSecret": "resnet-tls", "clientCaSecret": "clients.example"}},
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
        ({"security": {"clientCaSecret": "clients"}}, "/security"),
        ({"security": {"tokensSecret": "No Name"}}, "/security/tokensSecret"),
    ],
)
def test_a_wrong_value_is_named(values: dict[str, Any], named: str) -> None:
    with helm.Chart.load(CHART) as chart, pytest.raises(helm.HelmValuesError) as caught:
        chart.render(values, name="demo", namespace="prod")
    assert named in str(caught.value)


def sorted_lists(spec: Resource) -> Resource:
    """The order of these says nothing, and a patch puts its own first."""
    pod = spec["template"]["spec"]
    for holder, key in (
        (pod["containers"][0], "env"),
        (pod["containers"][0], "volumeMounts"),
        (pod["containers"][0], "ports"),
        (pod, "volumes"),
    ):
        holder[key] = sorted(holder[key], key=lambda entry: str(entry["name"]))
    return spec


@pytest.mark.parametrize("components", [(), ("secured",)])
def test_helm_and_kustomize_run_the_same_pod(components: tuple[str, ...], tmp_path: Path) -> None:
    """A fact written in both must not drift apart."""
    composed, chart = manifests.overlay(tmp_path, "base", *components), rendered(VALUES[components[0] if components else "defaults"])
    for name in ("", "-headless"):
        one, other = (
            manifests.one(found, "Service", start + name) for found, start in ((composed, "resnet-server"), (chart, "demo-resnet-serving"))
        )
        assert one["spec"]["ports"] == other["spec"]["ports"]
    ours, theirs = (sorted_lists(manifests.one(found, "Deployment")["spec"]) for found in (composed, chart))
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
