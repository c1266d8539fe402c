"""What of the manifests can be checked without Kubernetes' tools; `make scale-test` has the rest."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from resnet_server.cli import serve

from deploy.rules import written

DEPLOY = Path(__file__).parents[3] / "deploy"
PLAIN = sorted(path for folder in ("kubernetes", "kserve") for path in (DEPLOY / folder).rglob("*.yaml"))


def documents() -> Iterator[tuple[str, Any]]:
    for path in PLAIN:
        yield from ((str(path.relative_to(DEPLOY)), document) for document in yaml.safe_load_all(path.read_text()) if document)


def containers() -> list[tuple[str, dict[str, Any]]]:
    """Every container of a Deployment, a Job or a runtime; patches of overlays are no whole containers."""
    found = []
    for where, document in documents():
        spec = document.get("spec", {}) if "overlays" not in where else {}
        pod = spec.get("template", {}).get("spec", spec)
        found += [(where, container) for container in pod.get("containers", [])]
    return found


def test_what_is_written_from_the_rules_is_up_to_date() -> None:
    stale = [str(path.relative_to(DEPLOY)) for path, text in written().items() if not path.is_file() or path.read_text() != text]
    assert not stale, "run `python -m deploy.rules`"


def test_every_file_of_kustomize_is_used() -> None:
    used = set()
    for path in PLAIN:
        if path.name == "kustomization.yaml":
            document = yaml.safe_load(path.read_text())
            entries = document.get("resources", []) + [patch["path"] for patch in document.get("patches", []) if "path" in patch]
            used |= {(path.parent / entry).resolve() for entry in entries}
            for entry in entries:
                assert (path.parent / entry).exists(), f"{path}: {entry}"
    left = {path for path in PLAIN if path.name != "kustomization.yaml" and "kserve" not in path.parts} - used
    assert {path.name for path in left} == {"adapter-rules.yaml"}


@pytest.mark.parametrize(("where", "container"), containers(), ids=lambda value: value if isinstance(value, str) else "")
def test_a_container_has_no_right_that_it_needs_not(where: str, container: dict[str, Any]) -> None:
    security = container["securityContext"]
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert set(container["resources"]) == {"requests", "limits"}, where


def test_the_environment_names_options_of_the_server() -> None:
    names = {f"RESNET_SERVER_{option.name.upper()}" for option in serve.params if isinstance(option, click.Option) and option.name}
    given = {entry["name"] for _, container in containers() for entry in container.get("env", [])}
    given |= {name for name in json.dumps(list(documents())).split('"') if name.startswith("RESNET_SERVER_")}
    assert len(given & names) >= 3
    assert {name for name in given if name.startswith("RESNET_SERVER_")} <= names


def test_what_the_runtime_passes_are_options_of_the_server() -> None:
    flags = {flag for option in serve.params for flag in option.opts}
    for where, container in containers():
        for argument in container.get("args", []):
            assert not argument.startswith("--") or argument.partition("=")[0] in flags, f"{where}: {argument}"


def test_autoscalers_ask_for_recorded_series() -> None:
    recorded = (DEPLOY / "prometheus" / "rules" / "recording.yml").read_text()
    asked = [path.read_text() for path in PLAIN if path.name in ("scaledobject.yaml", "adapter-rules.yaml", "inferenceservice.yaml")]
    asked.append((DEPLOY / "helm" / "resnet-serving" / "templates" / "autoscaling.yaml").read_text())
    for series in ("pod:resnet_demand:replicas", "model:resnet_queue_work:seconds"):
        assert f"record: {series}\n" in recorded
        assert sum(series in text for text in asked) >= 3


def test_every_value_of_the_chart_has_a_schema() -> None:
    chart = DEPLOY / "helm" / "resnet-serving"
    values, schema = yaml.safe_load((chart / "values.yaml").read_text()), json.loads((chart / "values.schema.json").read_text())
    assert set(values) == set(schema["properties"]) - {"global"}
    for name, value in values.items():
        if isinstance(value, dict) and schema["properties"][name].get("properties"):
            assert set(value) == set(schema["properties"][name]["properties"]), name
