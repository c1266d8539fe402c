"""KServe's resources against the models of its own package, and what its controller makes of ports and names."""

from typing import Any

import manifests
import pytest
from manifests import ROOT, KServeModels

FOLDER = ROOT / "deploy" / "kserve"
VERSION = "1.34"


def read(name: str) -> dict[str, Any]:
    (resource,) = manifests.resources((FOLDER / name).read_text())
    return resource


@pytest.mark.parametrize(
    ("name", "kind", "model"),
    [
        ("runtime.yaml", "ClusterServingRuntime", "V1alpha1ServingRuntimeSpec"),
        ("runtime-rest.yaml", "ClusterServingRuntime", "V1alpha1ServingRuntimeSpec"),
        ("inferenceservice.yaml", "InferenceService", "V1beta1InferenceServiceSpec"),
    ],
)
def test_a_resource_fits_its_model(name: str, kind: str, model: str) -> None:
    resource = read(name)
    assert resource["kind"] == kind
    assert KServeModels().problems(resource["spec"], model, "spec", VERSION) == []


def test_unknown_fields_and_wrong_types_are_found() -> None:
    spec = read("runtime.yaml")["spec"]
    spec["protocolVersion"] = spec.pop("protocolVersions")
    spec["containers"][0]["readinesProbe"] = {}
    spec["replicas"] = "two"
    problems = KServeModels().problems(spec, "V1alpha1ServingRuntimeSpec", "spec", VERSION)
    assert [problem.partition(":")[0] for problem in problems] == ["spec.protocolVersion", "spec.containers[0]", "spec.replicas"]


def test_the_service_picks_the_runtime() -> None:
    runtime, model = read("runtime.yaml"), read("inferenceservice.yaml")["spec"]["predictor"]["model"]
    assert model["runtime"] == runtime["metadata"]["name"]
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]
    formats = [(entry["name"], entry["version"]) for entry in runtime["spec"]["supportedModelFormats"]]
    assert (model["modelFormat"]["name"], model["modelFormat"]["version"]) in formats


@pytest.mark.parametrize(
    ("name", "protocol", "port", "option"),
    [("runtime.yaml", "grpc-v2", "h2c", "--grpc-port"), ("runtime-rest.yaml", "v2", "http1", "--http-port")],
)
def test_the_first_port_is_that_of_the_protocol_and_readiness_asks_grpc(name: str, protocol: str, port: str, option: str) -> None:
    spec = read(name)["spec"]
    (container,) = spec["containers"]
    assert (container["name"], spec["protocolVersions"]) == ("kserve-container", [protocol])
    first = container["ports"][0]
    assert first["name"] == port
    assert f"{option}={first['containerPort']}" in container["args"]
    for probe in ("readinessProbe", "startupProbe"):
        assert f"--grpc-port={container[probe]['grpc']['port']}" in container["args"]
