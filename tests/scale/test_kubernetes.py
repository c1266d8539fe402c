"""The Kustomize files as kubectl renders them, against the schemas of every Kubernetes from 1.29 to 1.37."""

import math
from pathlib import Path
from typing import Any

import kubernetes_validate
import manifests
import pytest
import yaml

OVERLAYS = ("cpu", "gpu", "keda")


@pytest.mark.parametrize("version", manifests.VERSIONS)
@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_is_valid(name: str, version: str) -> None:
    manifests.check(manifests.kustomized(manifests.KUBERNETES / "overlays" / name), version)


@pytest.mark.parametrize("version", manifests.VERSIONS)
def test_components_compose(version: str, tmp_path: Path) -> None:
    found = manifests.overlay(tmp_path, "overlays/cpu", "monitoring", "publish-job")
    manifests.check(found, version)
    assert {"ServiceMonitor", "PrometheusRule", "Job", "PersistentVolumeClaim", "HorizontalPodAutoscaler"} <= {r["kind"] for r in found}


def test_the_hpa_on_waiting_work_composes(tmp_path: Path) -> None:
    found = manifests.overlay(tmp_path, "base", "waiting-work-hpa")
    manifests.check(found, "1.29")
    rules = yaml.safe_load((manifests.KUBERNETES / "components" / "waiting-work-hpa" / "adapter-rules.yaml").read_text())["rules"][
        "external"
    ]
    metrics = [metric["external"]["metric"]["name"] for metric in manifests.one(found, "HorizontalPodAutoscaler")["spec"]["metrics"]]
    assert metrics == [rule["name"]["as"] for rule in rules]


@pytest.mark.parametrize("version", [version for version in manifests.VERSIONS if version not in ("1.29", "1.30")])
def test_a_model_image_replaces_the_claim(version: str, tmp_path: Path) -> None:
    found = manifests.overlay(tmp_path, "overlays/cpu", "model-image")
    manifests.check(found, version)
    pod = manifests.one(found, "Deployment")["spec"]["template"]["spec"]
    assert pod["volumes"][0] == {"name": "repository", "image": {"reference": "resnet-serving-models:latest", "pullPolicy": "IfNotPresent"}}
    assert pod["containers"][0]["env"][0] == {"name": "RESNET_SERVER_REPOSITORY", "value": "/repository/models"}


@pytest.mark.parametrize("version", manifests.VERSIONS)
def test_a_secured_pod_is_probed_beside_its_tls(version: str, tmp_path: Path) -> None:
    found = manifests.overlay(tmp_path, "overlays/cpu", "secured")
    manifests.check(found, version)
    pod = manifests.one(found, "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert {container[f"{kind}Probe"]["grpc"]["port"] for kind in ("startup", "readiness", "liveness")} == {8003}
    assert container["livenessProbe"]["grpc"]["service"] == "liveness"
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    files = {
        entry["name"]: entry["value"]
        for entry in container["env"]
        if entry["name"].startswith(("RESNET_SERVER_TLS", "RESNET_SERVER_TOKENS"))
    }
    assert len(files) == 3
    assert {path.rpartition("/")[0] for path in files.values()} == {mounted["tls"], mounted["tokens"]}
    assert {volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume} == {"resnet-tls", "resnet-tokens"}


def test_a_misspelt_field_is_found() -> None:
    deployment = manifests.one(manifests.kustomized(manifests.KUBERNETES / "overlays" / "cpu"), "Deployment")
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    container["readinesProbe"] = container.pop("readinessProbe")
    with pytest.raises(kubernetes_validate.ValidationError, match="readinesProbe"):
        manifests.check_native(deployment, "1.37")
    scaled = manifests.one(manifests.kustomized(manifests.KUBERNETES / "overlays" / "keda"), "ScaledObject")
    scaled["spec"]["maxReplicasCount"] = scaled["spec"].pop("maxReplicaCount")
    with pytest.raises(AssertionError, match="maxReplicasCount"):
        manifests.check_custom(scaled)


@pytest.mark.parametrize("name", OVERLAYS)
def test_selectors_find_the_pods(name: str) -> None:
    found = manifests.kustomized(manifests.KUBERNETES / "overlays" / name)
    labels = manifests.one(found, "Deployment")["spec"]["template"]["metadata"]["labels"].items()
    for service in [item for item in found if item["kind"] == "Service"]:
        assert service["spec"]["selector"].items() <= labels
    for kind, key in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        assert manifests.one(found, kind)["spec"][key]["matchLabels"].items() <= labels


def test_the_grace_period_covers_what_comes_before_the_end() -> None:
    pod = manifests.one(manifests.kustomized(manifests.KUBERNETES / "overlays" / "cpu"), "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    drain = next(float(entry["value"]) for entry in container["env"] if entry["name"] == "RESNET_SERVER_DRAIN_SECONDS")
    sleep = float(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] >= sleep + drain + 10


@pytest.mark.parametrize("name", ["cpu", "keda"])
def test_no_overlay_resets_the_replicas_of_its_autoscaler(name: str) -> None:
    assert "replicas" not in manifests.one(manifests.kustomized(manifests.KUBERNETES / "overlays" / name), "Deployment")["spec"]


def desired(triggers: list[dict[str, Any]], measured: dict[str, float], least: int, most: int) -> int:
    """The rule of the autoscaler for totals: ceil(total / threshold), the largest over the metrics, within the bounds."""
    wanted = [math.ceil(measured[trigger["name"]] / float(trigger["metadata"]["threshold"]) - 1e-9) for trigger in triggers]
    return min(most, max(least, *wanted))


@pytest.mark.parametrize(
    ("demand", "waiting", "replicas"),
    [(0.2, 0.0, 2), (1.4, 0.1, 2), (2.1, 0.2, 3), (1.9, 1.2, 5), (2.0, 40.0, 10)],
    ids=["idle", "as it should be", "more demand", "a burst waits", "flooded"],
)
def test_the_scaling_rule_replayed(demand: float, waiting: float, replicas: int) -> None:
    spec = manifests.one(manifests.kustomized(manifests.KUBERNETES / "overlays" / "keda"), "ScaledObject")["spec"]
    measured = {"demand": demand, "waiting-work": waiting}
    assert desired(spec["triggers"], measured, spec["minReplicaCount"], spec["maxReplicaCount"]) == replicas
