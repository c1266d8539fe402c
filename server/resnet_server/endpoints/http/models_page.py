"""GET /models: what the page shows of each network."""

from typing import Any

from resnet_proto import classifier_pb2 as pb
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from resnet_server.endpoints.grpc.classifier import ClassifierService
from resnet_server.endpoints.http.calls import HttpContext, as_context, call_method


class RestModels:
    """Answers by the gRPC Classifier's ListModels."""

    def __init__(self, service: ClassifierService) -> None:
        self._service = service

    def routes(self) -> list[Route]:
        """The one route."""
        return [Route("/models", self.models)]

    async def models(self, request: Request) -> Response:
        """Every version that is ready or refused."""
        answer = await call_method(self._service.ListModels(pb.ListModelsRequest(), as_context(HttpContext(request))), request)
        return JSONResponse([described(model) for model in answer.models])


def described(model: pb.ServedModel) -> dict[str, Any]:
    """Name, depth, precision, accuracy and certificate; the reason of one that is refused."""
    if model.state != pb.ServedModel.STATE_READY:
        return {"name": model.name, "version": model.version, "ready": False, "reason": model.reason}
    if model.members:
        return described_group(model)
    manifest = model.manifest
    artifact = next(artifact for artifact in manifest.artifacts if artifact.precision == model.precision)
    certificate = artifact.certificate
    return {
        "name": model.name,
        "version": model.version,
        "ready": True,
        "depth": manifest.network.depth,
        "parameters": manifest.network.parameters,
        "classes": manifest.output.classes,
        "precision": model.precision,
        "provider": model.provider,
        "accuracy": certificate.artifact_accuracy / 100 if certificate.HasField("artifact_accuracy") else None,
        "agreement": certificate.top1_agreement,
        "images": certificate.images,
        "certificate": certificate.id,
        "input": [manifest.input.height, manifest.input.width],
    }


def described_group(model: pb.ServedModel) -> dict[str, Any]:
    """As `described`, of a group: depth, accuracy and certificate are those of its most accurate member."""
    best, manifest = model.members[-1], model.manifest
    return {
        "name": model.name,
        "version": model.version,
        "ready": True,
        "depth": best.depth,
        "parameters": manifest.network.parameters,
        "classes": manifest.output.classes,
        "precision": model.precision,
        "provider": model.provider,
        "accuracy": best.accuracy,
        "agreement": None,
        "images": None,
        "certificate": best.certificate_id,
        "input": [manifest.input.height, manifest.input.width],
        "members": [member_facts(member) for member in model.members],
    }


def member_facts(member: pb.Member) -> dict[str, Any]:
    """One network of a group."""
    return {name: getattr(member, name) for name in ("name", "version", "precision", "depth", "accuracy")}
