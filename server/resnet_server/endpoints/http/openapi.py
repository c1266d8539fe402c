"""The REST form as an OpenAPI 3.1 document."""

from importlib.metadata import version
from typing import Any

ERRORS = {
    "400": "A field is wrong; the text names it, its value and what is expected.",
    "404": "No model or version of that name.",
    "413": "The body is too large.",
    "429": "More work than time for it; `Retry-After` says when to try again.",
    "503": "The model is not ready, or the server is shutting down.",
    "504": "The answer cannot come before the timeout.",
}
NAME = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}, "description": "A model."}
VERSION = {
    "name": "version",
    "in": "path",
    "required": True,
    "schema": {"type": "string"},
    "description": "A version; without, the highest.",
}


def query(name: str, kind: str, text: str) -> dict[str, Any]:
    """A parameter of the query string."""
    return {"name": name, "in": "query", "schema": {"type": kind}, "description": text}


def answered(text: str, schema: dict[str, Any] | None = None) -> dict[str, Any]:
    """Responses of an operation: its own, and the errors that all have."""
    content = {"content": {"application/json": {"schema": schema or {"type": "object"}}}}
    failed = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {"200": {"description": text, **content}, **{code: {"description": why, "content": failed} for code, why in ERRORS.items()}}


def operation(summary: str, *parameters: dict[str, Any], body: dict[str, Any] | None = None, schema: dict[str, Any] | None = None) -> Any:
    """One operation."""
    found: dict[str, Any] = {"summary": summary, "responses": answered(summary, schema)}
    if parameters:
        found["parameters"] = list(parameters)
    if body is not None:
        found["requestBody"] = {"required": True, "content": body}
    return found


TENSOR = {
    "type": "object",
    "required": ["name", "datatype", "shape"],
    "properties": {
        "name": {"type": "string"},
        "datatype": {"type": "string", "examples": ["UINT8"]},
        "shape": {"type": "array", "items": {"type": "integer"}},
        "data": {"type": "array", "items": {}},
        "parameters": {"type": "object"},
    },
}
INFERENCE = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string"},
        "parameters": {
            "type": "object",
            "description": "`timeout` (microseconds), `priority`, `precision`, `min_accuracy`, `max_depth`, `binary_data_output`.",
        },
        "inputs": {"type": "array", "items": TENSOR},
        "outputs": {"type": "array", "items": {"type": "object"}},
    },
}
LABELS = {
    "type": "array",
    "items": {"type": "object", "properties": {"label": {"type": "string"}, "score": {"type": "number"}}},
}
PICTURE = {"schema": {"type": "string", "format": "binary"}}


def model_paths(path: str, *parameters: dict[str, Any]) -> dict[str, Any]:
    """What a model, or a version of it, answers."""
    body = {"application/json": {"schema": INFERENCE}, "application/octet-stream": PICTURE}
    return {
        path: {"get": operation("Inputs and outputs of a model.", *parameters)},
        f"{path}/ready": {"get": operation("Whether the model is served and has an engine.", *parameters)},
        f"{path}/infer": {"post": operation("Compute logits; JSON, or JSON with binary tensors behind it.", *parameters, body=body)},
        f"{path}/config": {"get": operation("The model's configuration, in Triton's form.", *parameters)},
        f"{path}/stats": {"get": operation("Counts and times since the start.", *parameters)},
    }


CLASSIFY = operation(
    "Labels of one picture, the best first.",
    query("model", "string", "Name of a model; not needed where there is one."),
    query("version", "string", "A version; without, the highest."),
    query("precision", "string", "One of those that are loaded."),
    query("top_k", "integer", "How many labels; without, 5."),
    query("timeout_ms", "integer", "The answer must come within so many milliseconds."),
    query("min_accuracy", "number", "Of a group: only networks of at least this accuracy, 0 to 1."),
    query("max_depth", "integer", "Of a group: only networks of at most so many layers."),
    query("details", "integer", "1: with the network, its certificate and the times."),
    body={
        "image/*": PICTURE,
        "multipart/form-data": {"schema": {"type": "object", "properties": {"image": {"type": "string", "format": "binary"}}}},
        "application/json": {"schema": {"type": "object", "properties": {"inputs": {"type": "string", "format": "byte"}}}},
    },
    schema=LABELS,
)

DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {
        "title": "resnet-serving",
        "version": version("resnet-serving"),
        "description": "The Open Inference Protocol v2, and pictures.",
    },
    "paths": {
        "/v2": {"get": operation("Name, version and extensions of the server.")},
        "/v2/health/live": {"get": operation("Whether the process can go on.")},
        "/v2/health/ready": {"get": operation("Whether every model has an engine.")},
        "/v2/repository/index": {"post": operation("Every version in the repository with its state.")},
        **model_paths("/v2/models/{name}", NAME),
        **model_paths("/v2/models/{name}/versions/{version}", NAME, VERSION),
        "/classify": {"post": CLASSIFY},
        "/models": {"get": operation("Every network with its accuracy and certificate.", schema={"type": "array"})},
    },
    "components": {"schemas": {"Error": {"type": "object", "properties": {"error": {"type": "string"}}}}},
}
