"""A model under test."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from resnet_proto import classifier_pb2, open_inference_pb2
from resnet_proto.classifier_pb2_grpc import ClassifierStub
from resnet_proto.manifest import ManifestError, read_manifest
from resnet_proto.manifest_pb2 import Manifest

from resnet_bench.errors import BenchError
from resnet_bench.load.describe import CONNECT_SECONDS, metadata_of, status_of, unreachable
from resnet_bench.load.request import Requests, Tensor, from_images, generated, tensors_of
from resnet_bench.material import Material, material_of
from resnet_bench.schema import Facts
from resnet_bench.server_process import Target


@dataclass(frozen=True)
class Subject:
    """A model, where it is served, and what is sent to it; `path` is its file for raw ONNX Runtime, None if not at hand."""

    target: Target
    facts: Facts
    path: Path | None
    material: Material | None
    tensors: tuple[Tensor, ...]
    built: dict[int, Requests] = field(default_factory=dict)

    def requests(self, rows: int) -> Requests:
        """Requests of so many rows."""
        if rows not in self.built:
            name, version = self.facts.name, self.facts.version
            if self.material is None:
                self.built[rows] = generated(name, version, self.tensors, rows)
            else:
                self.built[rows] = from_images(name, version, self.tensors[0], self.material, rows)
        return self.built[rows]


def find_subjects(target: Target, names: Sequence[str], repository: Path | None, inputs: tuple[Tensor, ...] = ()) -> list[Subject]:
    """Ask a server what it serves; raise BenchError for no answer or a model that is not there.

    A server without our ListModels is measured all the same: `names` say what, the manifests in `repository` give the facts.
    """
    ready = served(target.url)
    if ready is None:
        if not names:
            raise BenchError(f"models: {target.url} is not a resnet-server and does not list its models; name them with --models")
        return [foreign_subject(target, name, repository, inputs) for name in names]
    if missing := [name for name in names if name not in ready]:
        raise BenchError(f"models: {', '.join(missing)} not served; the server has {', '.join(ready) or 'none'}")
    return [own_subject(target, ready[name], repository) for name in names or ready]


def served(url: str) -> dict[str, classifier_pb2.ServedModel] | None:
    """The models that a resnet-server has ready, by name; None for a server of another kind."""
    with grpc.insecure_channel(url) as channel:
        try:
            models = ClassifierStub(channel).ListModels(classifier_pb2.ListModelsRequest(), timeout=CONNECT_SECONDS).models
        except grpc.RpcError as error:
            if status_of(error) == "UNIMPLEMENTED":
                return None
            raise unreachable(url, error) from None
    return {model.name: model for model in models if model.state == classifier_pb2.ServedModel.STATE_READY}


def own_subject(target: Target, model: classifier_pb2.ServedModel, repository: Path | None) -> Subject:
    """A model of our server; its file is in `repository` if that is given."""
    manifest = model.manifest
    metadata = metadata_of(target.url, model.name, model.version)
    facts = facts_of(manifest, model.precision, model.provider, metadata.properties.get("plan", ""))
    folder = folder_of(repository, model.name, model.version)
    path = None if folder is None else folder / next(a.file for a in manifest.artifacts if a.precision == model.precision)
    return Subject(target, facts, path, material_of(manifest, folder), tensors_of(metadata))


def foreign_subject(target: Target, name: str, repository: Path | None, inputs: tuple[Tensor, ...]) -> Subject:
    """A model of another server; facts, file and images are those of the version in `repository`, where there is one."""
    metadata = metadata_of(target.url, name)
    tensors = inputs or tensors_of(metadata)
    folder = folder_of(repository, name)
    manifest = None if folder is None else read_checked(folder)
    if manifest is None or folder is None:
        return Subject(target, unknown_facts(metadata), None, None, tensors)
    artifact = manifest.artifacts[0]
    facts = facts_of(manifest, artifact.precision, metadata.platform, "", served_version="")
    images = tensors[0].datatype == "UINT8"
    return Subject(target, facts, folder / artifact.file, material_of(manifest, folder) if images else None, tensors)


def folder_of(repository: Path | None, name: str, version: str = "") -> Path | None:
    """The folder of a version, of the highest if none is named; None where it is not there."""
    if repository is None or not (repository / name).is_dir():
        return None
    versions = sorted((path for path in (repository / name).iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    return next((path for path in reversed(versions) if version in ("", path.name)), None)


def read_checked(folder: Path) -> Manifest:
    """The manifest; raises BenchError if it is not whole."""
    try:
        return read_manifest(folder)
    except ManifestError as error:
        raise BenchError(f"repository: {folder}: {error}") from None


def facts_of(manifest: Manifest, precision: str, provider: str, plan: str, served_version: str | None = None) -> Facts:
    """What manifest and certificate say; the version is the manifest's unless the server counts otherwise."""
    network, source = manifest.network, manifest.source
    artifact = next(a for a in manifest.artifacts if a.precision == precision)
    certificate = artifact.certificate if artifact.HasField("certificate") else None
    certified = certificate.artifact_accuracy if certificate and certificate.HasField("artifact_accuracy") else None
    return Facts(
        name=manifest.name,
        version=manifest.version if served_version is None else served_version,
        variant=network.variant,
        depth=network.depth,
        parameters=network.parameters,
        multiply_adds=network.multiply_adds,
        trained=network.trained,
        accuracy=source.accuracy if network.trained and source.HasField("accuracy") else None,
        accuracy_images=source.accuracy_images,
        precision=precision,
        provider=provider,
        plan=plan,
        certificate_id=certificate.id if certificate else "",
        certified_accuracy=certified,
        agreement=certificate.top1_agreement if certificate else None,
        input_size=manifest.input.height,
    )


def unknown_facts(metadata: open_inference_pb2.ModelMetadataResponse) -> Facts:
    """Of a model that only its server knows."""
    return Facts(metadata.name, "", "", None, None, None, True, None, "", "", metadata.platform, "", "", None, None, None)
