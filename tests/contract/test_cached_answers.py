"""A server that keeps answers, on both transports: the same bytes, counted, and no engine asked twice."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc
from in_process import running_app
from resnet_models.sample import load_sample
from resnet_server.app import App

PICTURE = Path(__file__).parents[2] / "server/resnet_server/endpoints/http/page/examples/cat.png"


@pytest.fixture(scope="module", params=["queue", "asyncio"])
def app(request: pytest.FixtureRequest, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with running_app(repository, tmp_path_factory.mktemp("plans"), transport=request.param, cache_bytes=1 << 20) as running:
        yield running


def counts(client: Any) -> tuple[int, int, int, int]:
    """Hits, misses, images computed, calls answered."""
    (stats,) = client.get_inference_statistics("resnet20").model_stats
    about = stats.inference_stats
    return about.cache_hit.count, about.cache_miss.count, stats.inference_count, about.success.count


def test_a_tensor_that_comes_again_is_answered_without_an_engine(app: App) -> None:
    with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{app.grpc_port}") as client:

        def infer(images: Any, **named: Any) -> Any:
            tensor = tritonclient.grpc.InferInput("image", images.shape, "UINT8")
            tensor.set_data_from_numpy(images)
            return client.infer("resnet20", [tensor], **named)

        images, before = load_sample().images[:5], counts(client)
        first = infer(images[:3]).as_numpy("logits")
        for request_id in ("", "r-1", ""):  # one that is parsed, and one that is known by its head
            again = infer(images[:3], request_id=request_id)
            assert again.get_response().id == request_id
            np.testing.assert_array_equal(again.as_numpy("logits"), first)
        other = infer(images[2:5]).as_numpy("logits")
        assert not np.array_equal(other, first)
        np.testing.assert_allclose(other[0], first[2], atol=1e-4)
        labels = tritonclient.grpc.InferRequestedOutput("logits", class_count=2)
        assert infer(images[:3], outputs=[labels]).as_numpy("logits").shape == (3, 2)
        after = counts(client)
    assert tuple(now - then for now, then in zip(after, before, strict=True)) == (4, 2, 6, 6)


def test_pictures_are_kept_by_their_pixels_over_http(app: App) -> None:
    url = f"http://127.0.0.1:{app.http_port}/classify?details=1"
    answers = [httpx.post(url, content=PICTURE.read_bytes()).raise_for_status().json() for _ in range(2)]
    assert answers[0]["labels"] == answers[1]["labels"]
    assert (answers[0]["milliseconds"]["compute"] > 0, answers[1]["milliseconds"]["compute"]) == (True, 0)
    page = httpx.get(f"http://127.0.0.1:{app.metrics_port}/metrics").text
    assert 'resnet_cache_hits_total{model="resnet20",version="1"} ' in page
