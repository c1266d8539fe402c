"""A server whose models change, in this process, with its repository and Triton's own client."""

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
from in_process import running_app
from prometheus_client.parser import text_string_to_metric_families
from resnet_models.sample import load_sample
from resnet_server.app import App
from tritonclient.utils import InferenceServerException


class Serving:
    """A server, its repository and a client."""

    def __init__(self, app: App, repository: Path, client: Any) -> None:
        self.app, self.model, self.client = app, repository / "resnet20", client
        self.http = f"http://127.0.0.1:{app.http_port}"

    def infer(self, rows: int = 1, version: str = "") -> str:
        """The version that answered."""
        images = load_sample().images[:rows]
        tensor = tritonclient.grpc.InferInput("image", images.shape, "UINT8")
        tensor.set_data_from_numpy(images)
        answer = self.client.infer("resnet20", [tensor], model_version=version)
        assert np.isfinite(answer.as_numpy("logits")).all()
        return str(answer.get_response().model_version)

    def index(self) -> dict[str, tuple[str, str]]:
        """State and reason by version."""
        found = self.client.get_model_repository_index(as_json=True).get("models", [])
        return {one["version"]: (one["state"], one.get("reason", "")) for one in found}

    def post(self, path: str, document: Any = None) -> tuple[int, Any]:
        data = b"" if document is None else json.dumps(document).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(self.http + path, data, method="POST")) as answer:  # noqa: S310
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)["error"]

    def load(self, versions: str) -> tuple[int, Any]:
        """Ask for these versions: status, and the error where there is one."""
        return self.post("/v2/repository/models/resnet20/load", {"parameters": {"versions": versions}})

    def metric(self, name: str) -> dict[str, float]:
        """By version."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.app.metrics_port}/metrics") as page:
            families = text_string_to_metric_families(page.read().decode())
        return {s.labels["version"]: s.value for family in families for s in family.samples if s.name == name and s.labels.get("version")}


@contextmanager
def serving(repository: Path, plans: Path, **given: Any) -> Iterator[Serving]:
    settings = {"model_control": "explicit", "open_admin": True, **given}
    with running_app(repository, plans, **settings) as app, tritonclient.grpc.InferenceServerClient(app.grpc_address) as client:
        yield Serving(app, repository, client)


def refusal(call: Callable[[], Any]) -> tuple[str, str]:
    with pytest.raises(InferenceServerException) as error:
        call()
    return str(error.value.status()).removeprefix("StatusCode."), str(error.value.message())
