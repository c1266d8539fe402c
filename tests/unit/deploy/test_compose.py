"""The compose files and the Dockerfile, as far as they can be read without Docker; `make compose-test` runs them."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from resnet_server.cli import serve

ROOT = Path(__file__).parents[3]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
PUBLISH: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "publish.yml").read_text())
SERVICES = {"export": PUBLISH["services"]["export"]} | COMPOSE["services"]


def test_the_images_carry_the_version_of_the_project() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for service in ("server", "bench", "export"):
        assert SERVICES[service]["build"]["labels"]["org.opencontainers.image.version"] == f"${{RESNET_VERSION:-{version}}}"
    chart = yaml.safe_load((ROOT / "deploy" / "helm" / "resnet-serving" / "Chart.yaml").read_text())
    assert chart["appVersion"] == version
    assert version not in DOCKERFILE


def test_the_base_image_is_named_once_and_can_be_pinned() -> None:
    assert len(re.findall(r"python:[\d.]+-slim", re.sub(r"^#.*", "", DOCKERFILE, flags=re.MULTILINE))) == 1
    assert SERVICES["server"]["build"]["args"]["BASE"] == "${RESNET_BASE:-python:3.13-slim}"
    assert re.findall(r"^FROM (\S+) AS base", DOCKERFILE, re.MULTILINE) == ["${BASE}"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_held_in(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert {"mem_limit", "pids_limit"} <= set(service)
    assert "cpus" in service or name not in ("server", "bench"), "what is measured and what measures have limits"


def test_docker_waits_longer_than_the_drain() -> None:
    drain = int(SERVICES["server"]["environment"]["RESNET_SERVER_DRAIN_SECONDS"].rpartition(":-")[2].rstrip("}"))
    assert int(SERVICES["server"]["stop_grace_period"].rstrip("s")) >= drain + 10


def test_the_health_check_is_asked_seldom() -> None:
    """It costs a start of Python with gRPC on the server's own cores."""
    (interval,) = re.findall(r"HEALTHCHECK --interval=(\d+)s", DOCKERFILE)
    assert int(interval) >= 30


@pytest.mark.parametrize("name", ["gpu.yml", "publish.yml", "published.yml", "secured.yml"])
def test_an_overlay_changes_only_what_there_is(name: str) -> None:
    overlay = yaml.safe_load((ROOT / "deploy" / name).read_text())["services"]
    assert set(overlay) <= set(SERVICES)
    for build in (service["build"] for service in overlay.values() if "build" in service):
        for argument in build.get("args", {}):
            assert re.search(rf"^ARG {argument}\b", DOCKERFILE, re.MULTILINE)


def test_no_stage_that_compose_builds_is_missing() -> None:
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.MULTILINE))
    assert {service["build"]["target"] for service in SERVICES.values() if "build" in service} <= stages


def test_a_plain_start_needs_no_pytorch_and_no_volume_of_models() -> None:
    assert {service["build"]["target"] for service in COMPOSE["services"].values() if "build" in service} == {"server", "bench"}
    assert "depends_on" not in COMPOSE["services"]["server"]
    assert all("/repository" not in volume for volume in COMPOSE["services"]["server"]["volumes"])
    assert "COPY released/resnet_networks/repository /repository" in DOCKERFILE


@pytest.mark.parametrize("name", ["server", "bench"])
def test_a_new_volume_is_not_filled_with_the_image_s_networks_before_the_job_runs(name: str) -> None:
    assert PUBLISH["services"][name]["volumes"] == ["repository:/repository:ro,nocopy"]


def test_a_secured_server_has_its_health_check_asked_beside_tls() -> None:
    service = yaml.safe_load((ROOT / "deploy" / "secured.yml").read_text())["services"]["server"]
    names = {f"RESNET_SERVER_{option.name.upper()}" for option in serve.params if option.name}
    assert set(service["environment"]) <= names
    assert "RESNET_SERVER_HEALTH_PORT" in service["environment"]
    folder = service["volumes"][0].rsplit(":", 2)[1]
    assert all(value.startswith(f"{folder}/") for name, value in service["environment"].items() if "TLS" in name or "TOKENS" in name)
