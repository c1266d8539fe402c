"""A model under test: where it is served, what is known of it, and what is sent to it."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc
import numpy as np
from resnet_proto import classifier_pb2
from resnet_proto import open_inference_pb2 as pb
from resnet_proto.classifier_pb2_grpc import ClassifierStub
from resnet_proto.manifest_pb2 import Manifest
from resnet_proto.open_inference_pb2_grpc import GRPCInferenceServiceStub

from resnet_bench.access import PLAIN, Access
from resnet_bench.drivers.raw import TOLERANCE, expected_logits
from resnet_bench.errors import BenchError
from resnet_bench.published import Material, Published, find, material_of, versions_of
from resnet_bench.requests import Requests, Tensor, generated, image_request, tensors_of
from resnet_bench.results import Facts
from resnet_bench.target import Target, details_of, started, status_of

CONNECT_SECONDS = 10.0


@dataclass(frozen=True)
class Subject:
    """`published` is its file for raw ONNX Runtime, None if not at hand; `material` the images to send, None: noise for `tensors`."""

    target: Target
    facts: Facts
    published: Published | None
    material: Material | None
    tensors: tuple[Tensor, ...]
    built: dict[tuple[int, float | None], Requests] = field(default_factory=dict)

    def requests(self, rows: int, timeout: float | None = None) -> Requests:
        """Requests of so many rows; `timeout` seconds travel as the request's parameter."""
        if (rows, timeout) not in self.built:
            self.built[rows, timeout] = self._build(rows, timeout)
        return self.built[rows, timeout]

    def _build(self, rows: int, timeout: float | None) -> Requests:
        name, version, material = self.facts.name, self.facts.version, self.material
        if material is None:
            return generated(name, version, self.tensors, rows, timeout)
        starts = range(0, len(material.images), max(1, min(rows, len(material.images))))
        windows = [material.window(start, rows) for start in starts]
        data = tuple(image_request(name, version, self.tensors[0].name, window.images, timeout) for window in windows)
        classes = tuple(window.classes for window in windows if window.classes is not None)
        first = np.ascontiguousarray(windows[0].images)
        return Requests(f"{name}/{version}/{rows}/{timeout}", data, classes if len(classes) == len(data) else None, first)

    def checked_requests(self, rows: int) -> Requests:
        """As `requests`, with what raw ONNX Runtime answers to the first."""
        plain = self.requests(rows)
        if self.published is None or plain.images is None:
            return plain
        expected = expected_logits(self.published.path, plain.images)
        allowed = TOLERANCE[self.facts.precision] * max(1.0, float(np.abs(expected).max()))
        return replace(plain, expected=expected, allowed=allowed)


@contextmanager
def own_servers(repository: Path, names: Sequence[str], precisions: Sequence[str], options: Sequence[str]) -> Iterator[list[Subject]]:
    """Start a server for each model and precision; all run until the end, and those that are not measured wait idle.

    A server for each, so that memory, CPU time and metrics are its own; each measures its plan anew, since one that was kept may come
    from a time when the machine was busy. Raises BenchError where a server does not start or refuses the model.
    """
    with ExitStack() as stack:
        plans = stack.enter_context(TemporaryDirectory(prefix="resnet-bench-plans-"))
        subjects = []
        for name in names:
            for precision in precisions:
                arguments = ("--models", name, "--precision", precision, "--plan-cache", plans, *options)
                target = replace(stack.enter_context(started(repository, arguments)), setup=" ".join(options))
                subjects += find_subjects(target, (name,), repository)
        yield subjects


def find_subjects(target: Target, names: Sequence[str], repository: Path | None, inputs: tuple[Tensor, ...] = ()) -> list[Subject]:
    """Ask a server what it serves; raise BenchError for no answer or a model that is not there.

    A server without our ListModels is measured all the same: `names` say what, the manifests in `repository` give the facts.
    """
    ready = served(target.url, target.access)
    if ready is None:
        if not names:
            raise BenchError(f"models: {target.url} is not a resnet-server and does not list its models; name them with --models")
        return [foreign_subject(target, name, repository, inputs) for name in names]
    if missing := [name for name in names if name not in ready]:
        raise BenchError(f"models: {', '.join(missing)} not served; the server has {', '.join(ready) or 'none'}")
    return [own_subject(target, ready[name], repository, inputs) for name in names or ready]


def served(url: str, access: Access = PLAIN) -> dict[str, classifier_pb2.ServedModel] | None:
    """The models that a resnet-server has ready, by name; None for a server of another kind."""
    with access.channel(url) as channel:
        try:
            models = (
                ClassifierStub(channel)
                .ListModels(classifier_pb2.ListModelsRequest(), timeout=CONNECT_SECONDS, metadata=access.metadata)
                .models
            )
        except grpc.RpcError as error:
            if status_of(error) == "UNIMPLEMENTED":
                return None
            raise BenchError(f"url: no server answers at {url} ({status_of(error)})") from None
    return {model.name: model for model in models if model.state == classifier_pb2.ServedModel.STATE_READY}


def metadata_of(url: str, model: str, version: str = "", access: Access = PLAIN) -> pb.ModelMetadataResponse:
    """The model's inputs, outputs and properties; raises BenchError for no answer or a model that is not there."""
    with access.channel(url) as channel:
        stub = GRPCInferenceServiceStub(channel)
        try:
            answer: pb.ModelMetadataResponse = stub.ModelMetadata(
                pb.ModelMetadataRequest(name=model, version=version), timeout=CONNECT_SECONDS, metadata=access.metadata
            )
        except grpc.RpcError as error:
            if status_of(error) in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
                raise BenchError(f"url: no server answers at {url} ({status_of(error)})") from None
            raise BenchError(f"model: '{model}' is not served at {url}: {details_of(error)}") from None
    return answer


def own_subject(target: Target, model: classifier_pb2.ServedModel, repository: Path | None, inputs: tuple[Tensor, ...] = ()) -> Subject:
    """A model of our server; its file is in `repository` if that is given."""
    metadata = metadata_of(target.url, model.name, model.version, target.access)
    facts = facts_of(model.manifest, model.precision, provider=model.provider, plan=metadata.properties.get("plan", ""))
    published = None if repository is None else _published(repository, model.name, model.precision, model.version)
    material = None if inputs else published.material if published else material_of(model.manifest, None)
    return Subject(target, facts, published, material, inputs or tensors_of(metadata))


def foreign_subject(target: Target, name: str, repository: Path | None, inputs: tuple[Tensor, ...]) -> Subject:
    """A model of another server; facts, file and images are those of the latest version in `repository`, where there is one."""
    metadata = metadata_of(target.url, name, access=target.access)
    tensors = inputs or tensors_of(metadata)
    published = None if repository is None else _published(repository, name)
    if published is None:
        return Subject(target, Facts(metadata.name, provider=metadata.platform), None, None, tensors)
    facts = facts_of(published.manifest, published.precision, provider=metadata.platform, version="")
    return Subject(target, facts, published, published.material if tensors[0].datatype == "UINT8" else None, tensors)


def _published(repository: Path, name: str, precision: str = "", version: str = "") -> Published | None:
    return find(repository, name, precision, version) if versions_of(repository / name) else None


def facts_of(manifest: Manifest, precision: str, **others: str) -> Facts:
    """What manifest and certificate say; `others` replace fields, such as the version where the server counts otherwise."""
    network, source = manifest.network, manifest.source
    artifact = next(a for a in manifest.artifacts if a.precision == precision)
    certificate = artifact.certificate if artifact.HasField("certificate") else None
    certified = certificate.artifact_accuracy if certificate and certificate.HasField("artifact_accuracy") else None
    facts = Facts(
        name=manifest.name,
        version=manifest.version,
        variant=network.variant,
        depth=network.depth,
        parameters=network.parameters,
        multiply_adds=network.multiply_adds,
        trained=network.trained,
        accuracy=source.accuracy if network.trained and source.HasField("accuracy") else None,
        accuracy_images=source.accuracy_images,
        precision=precision,
        certificate_id=certificate.id if certificate else "",
        certified_accuracy=certified,
        agreement=certificate.top1_agreement if certificate else None,
        input_size=manifest.input.height,
    )
    return replace(facts, **others)  # type: ignore[arg-type]  # texts by name
