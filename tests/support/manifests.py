"""Kubernetes manifests as the tools render them, checked against schemas; no cluster is asked."""

import ast
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from cloudcoil.models.keda.v1alpha1 import ScaledObject
from cloudcoil.models.prometheus_operator.v1 import PrometheusRule, ServiceMonitor

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
VERSIONS = [f"1.{minor}" for minor in range(29, 38)]
NATIVE = ("v1", "apps/v1", "batch/v1", "policy/v1", "networking.k8s.io/v1", "autoscaling/v2")
CUSTOM = {"ScaledObject": ScaledObject, "ServiceMonitor": ServiceMonitor, "PrometheusRule": PrometheusRule}
Resource = dict[str, Any]


def kustomized(folder: Path) -> list[Resource]:
    """What `kubectl kustomize` renders."""
    kubectl = Path(sys.executable).with_name("kubectl")
    result = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert not result.stderr, result.stderr
    return resources(result.stdout)


def overlay(tmp_path: Path, base: str, *components: str) -> list[Resource]:
    """An overlay with components, composed as docs/how-to/kubernetes.md says."""
    (tmp_path / "kubernetes").symlink_to(KUBERNETES)
    folder = KUBERNETES.parent / "kubernetes"
    text = {"resources": [base], "components": [f"components/{name}" for name in components]}
    composed = tmp_path / "composed"
    composed.mkdir()
    for key in text:
        text[key] = [str(Path("../../" * len(composed.parts)) / (folder / path).relative_to("/")) for path in text[key]]
    (composed / "kustomization.yaml").write_text(yaml.safe_dump(text))
    return kustomized(composed)


def resources(text: str) -> list[Resource]:
    """The documents of a YAML text, empty ones left out."""
    return [document for document in yaml.safe_load_all(text) if document]


def one(found: list[Resource], kind: str, name: str | None = None) -> Resource:
    """The only resource of a kind."""
    (resource,) = [item for item in found if item["kind"] == kind and name in (None, item["metadata"]["name"])]
    return resource


def check_native(resource: Resource, version: str) -> None:
    """Against Kubernetes' own schema, unknown fields refused; raises kubernetes_validate.ValidationError."""
    kubernetes_validate.validate(resource, version, strict=True)


def check_custom(resource: Resource) -> None:
    """Against the typed model of its project, unknown fields refused; fails with what is wrong."""
    kept = CUSTOM[resource["kind"]].model_validate(resource).model_dump(mode="json", by_alias=True, exclude_none=True)
    unknown = unknown_fields(resource, kept)
    assert not unknown, unknown


def check(found: list[Resource], version: str) -> None:
    """Every resource against its schema."""
    for resource in found:
        if resource["apiVersion"] in NATIVE:
            check_native(resource, version)
        else:
            check_custom(resource)


def unknown_fields(given: Any, kept: Any, path: str = "") -> list[str]:
    """Paths in `given` that a model did not keep: typed models drop what they do not know."""
    if isinstance(given, dict):
        here = [f"{path}.{key}" for key in given if not isinstance(kept, dict) or key not in kept]
        known = [key for key in given if isinstance(kept, dict) and key in kept]
        return here + [found for key in known for found in unknown_fields(given[key], kept[key], f"{path}.{key}")]
    if isinstance(given, list):
        pairs = zip(given, kept if isinstance(kept, list) else [], strict=False)
        return [found for index, (a, b) in enumerate(pairs) for found in unknown_fields(a, b, f"{path}[{index}]")]
    return []


class KServeModels:
    """The models of the `kserve` package, read without importing it: its import needs a hundred packages."""

    def __init__(self) -> None:
        files = distribution("kserve").files or []
        self._files = {path.stem.replace("_", ""): Path(str(path.locate())) for path in files if path.parent.name == "models"}

    def problems(self, value: Any, kind: str, path: str, version: str) -> list[str]:
        """What does not fit a type such as `list[V1Container]`; Kubernetes' own types go to Kubernetes' own schema."""
        if kind.startswith("list["):
            return [problem for i, item in enumerate(value) for problem in self.problems(item, kind[5:-1], f"{path}[{i}]", version)]
        if (file := self._files.get(kind.lower())) is not None:
            return self._object(value, file, path, version)
        plain = {"str": str, "int": int, "bool": bool, "dict(str, str)": dict, "V1ObjectMeta": dict, "V1beta1MetricQuantity": str}.get(kind)
        if plain is not None:
            return [] if isinstance(value, plain) else [f"{path}: {value!r} is no {kind}"]
        if kind == "V1Container":
            return container_problems(value, path, version)
        return [f"{path}: no schema for {kind}"]

    def _object(self, value: dict[str, Any], file: Path, path: str, version: str) -> list[str]:
        types, names = _mappings(file)
        by_name = {name: types[attribute] for attribute, name in names.items()}
        problems = [f"{path}.{key}: unknown" for key in value if key not in by_name]
        known = [key for key in value if key in by_name]
        return problems + [found for key in known for found in self.problems(value[key], by_name[key], f"{path}.{key}", version)]


def _mappings(file: Path) -> tuple[dict[str, str], dict[str, str]]:
    """`openapi_types` and `attribute_map` of a generated model."""
    found: dict[str, dict[str, str]] = {}
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and isinstance(node.value, ast.Dict):
            found[node.targets[0].id] = ast.literal_eval(node.value)
    return found["openapi_types"], found["attribute_map"]


def container_problems(container: dict[str, Any], path: str, version: str) -> list[str]:
    """A container as a pod would hold it, against Kubernetes' schema."""
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"containers": [container]}}
    try:
        check_native(pod, version)
    except kubernetes_validate.ValidationError as error:
        return [f"{path}: {error.message}"]
    return []
