"""POST /classify: one picture as the body, as a form, or as base64 in JSON; its labels as the answer.

The JSON form is that of Hugging Face's image-classification task: `{"inputs": base64, "parameters": {"top_k": 5}}`, answered by a
list of `{"label", "score"}`, the best first.
"""

import base64
import binascii
from dataclasses import dataclass
from typing import Any

import orjson
from resnet_proto import classifier_pb2 as pb
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from resnet_server.endpoints.grpc.classifier import ClassifierService
from resnet_server.endpoints.http.body import read_body, too_large
from resnet_server.endpoints.http.calls import HttpContext, HttpError, as_context, call_method
from resnet_server.endpoints.http.infer_json import bad

FORM, JSON = "multipart/form-data", "application/json"
FIELDS = ("image", "file")


@dataclass(frozen=True)
class Picture:
    """What came: the encoded image, and how many labels are wanted (0: the server's default)."""

    data: bytes
    top_k: int


class RestClassify:
    """Answers by the gRPC Classifier; `limit`: bytes of a body."""

    def __init__(self, service: ClassifierService, limit: int) -> None:
        self._service = service
        self._limit = limit

    def routes(self) -> list[Route]:
        """The one route."""
        return [Route("/classify", self.classify, methods=["POST"])]

    async def classify(self, request: Request) -> Response:
        """`?model=`, `version`, `precision`, `top_k`, `timeout_ms`, `min_accuracy`, `max_depth`; `details=1`: how the answer came to be."""
        picture, query = await self._picture(request), request.query_params
        message = pb.ClassifyRequest(
            images=[picture.data],
            top_k=picture.top_k or whole(query.get("top_k", "0"), "top_k"),
            model_name=query.get("model", ""),
            model_version=query.get("version", ""),
            precision=query.get("precision", ""),
            min_accuracy=share(query.get("min_accuracy", "0"), "min_accuracy"),
            max_depth=whole(query.get("max_depth", "0"), "max_depth"),
        )
        timeout = whole(query.get("timeout_ms", "0"), "timeout_ms")
        context = HttpContext(request, timeout / 1e3 if timeout else None)
        answer = pb.ClassifyResponse.FromString(
            await call_method(self._service.Classify(message.SerializeToString(), as_context(context)), request)
        )
        labels = [{"label": found.label, "score": found.probability} for found in answer.results[0].labels]
        return JSONResponse(with_details(answer, labels) if query.get("details") in ("1", "true") else labels)

    async def _picture(self, request: Request) -> Picture:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == FORM:
            return await self._form(request)
        with self._service.door.reading() as hold:
            body = await read_body(request, self._limit, hold)
        return from_json(body) if kind == JSON else Picture(body, 0)

    async def _form(self, request: Request) -> Picture:
        if int(request.headers.get("content-length") or 0) > self._limit:
            raise too_large(self._limit)
        try:
            async with request.form(max_files=1, max_fields=8, max_part_size=self._limit) as form:
                found = next((form[name] for name in FIELDS if name in form), None)
                if not isinstance(found, UploadFile):
                    raise HttpError(400, f"form: holds no file named {' or '.join(FIELDS)}; expected one picture")
                return Picture(await found.read(), whole(str(form.get("top_k", "0")), "top_k"))
        except MultiPartException as error:
            raise HttpError(400, f"form: {error.message[:200]}") from None


def from_json(body: bytes) -> Picture:
    """Raises HttpError 400 naming what is wrong."""
    try:
        document: Any = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise HttpError(400, f"body: is no JSON ({error})") from None
    if not isinstance(document, dict) or not isinstance(document.get("inputs"), str):
        raise bad("inputs", document.get("inputs") if isinstance(document, dict) else document, "a picture in base64")
    try:
        data = base64.b64decode(document["inputs"], validate=True)
    except binascii.Error as error:
        raise HttpError(400, f"inputs: is no base64 ({error})") from None
    parameters = document.get("parameters") or {}
    top_k = parameters.get("top_k", 0) if isinstance(parameters, dict) else parameters
    if not isinstance(top_k, int) or isinstance(top_k, bool) or top_k < 0:
        raise bad("parameters.top_k", top_k, "a whole number")
    return Picture(data, top_k)


def whole(text: str, field: str) -> int:
    """A whole number from a query or a form."""
    if not (text.isascii() and text.isdecimal()) or len(text) > 9:
        raise bad(field, text, "a whole number")
    return int(text)


def share(text: str, field: str) -> float:
    """A number from a query; what it may be is judged where the gRPC form is, too."""
    try:
        return float(text)
    except ValueError:
        raise bad(field, text, "0 to 1, a share of the images") from None


def with_details(answer: pb.ClassifyResponse, labels: list[dict[str, Any]]) -> dict[str, Any]:
    """Labels, network and times, for the page."""
    execution = answer.execution
    return {
        "labels": labels,
        "model": answer.model_name,
        "version": answer.model_version,
        "precision": execution.precision,
        "provider": execution.provider,
        "certificate": execution.certificate_id,
        **chosen(execution),
        "milliseconds": {
            "decode": 1e3 * execution.decode_seconds,
            "queue": 1e3 * execution.queue_seconds,
            "compute": 1e3 * execution.compute_seconds,
        },
    }


def chosen(execution: pb.Execution) -> dict[str, Any]:
    """Where a group answered: which network did, and why."""
    if not execution.network:
        return {}
    return {
        "network": execution.network,
        "network_version": execution.network_version,
        "depth": execution.network_depth,
        "accuracy": execution.network_accuracy,
        "reason": execution.reason,
    }
