"""Answers in zlib's form, for who takes nothing else."""

import zlib
from collections.abc import AsyncIterator

import httpx
import pytest
from resnet_server.endpoints.http.deflated import Deflated
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

BODY = b"logits " * 500


async def whole(request: Request) -> Response:
    return Response(BODY[: int(request.query_params.get("size", len(BODY)))], headers={"x-kept": "yes"})


async def encoded(request: Request) -> Response:
    return Response(BODY, headers={"content-encoding": "identity"})


async def pieces(request: Request) -> Response:
    async def parts() -> AsyncIterator[bytes]:
        yield BODY[:9]
        yield BODY[9:]

    return StreamingResponse(parts())


APPLICATION = Deflated(Starlette(routes=[Route("/whole", whole), Route("/encoded", encoded), Route("/pieces", pieces)]), 1024)


@pytest.mark.parametrize(
    ("path", "accepted", "deflated"),
    [
        ("/whole", "deflate", True),
        ("/whole", "br, deflate;q=0.5", True),
        ("/whole", "gzip, deflate", False),  # which comes before
        ("/whole", "identity", False),
        ("/whole?size=1023", "deflate", False),
        ("/encoded", "deflate", False),
        ("/pieces", "deflate", False),
    ],
)
async def test_whole_answers_are_deflated_for_who_takes_nothing_else(path: str, accepted: str, deflated: bool) -> None:
    async with (
        httpx.AsyncClient(transport=httpx.ASGITransport(APPLICATION), base_url="http://server") as client,
        client.stream("GET", path, headers={"accept-encoding": accepted}) as answer,
    ):
        raw = b"".join([part async for part in answer.aiter_raw()])
    assert (answer.headers.get("content-encoding") == "deflate") is deflated
    assert (zlib.decompress(raw) if deflated else raw) in (BODY, BODY[:1023])
    if deflated:
        assert int(answer.headers["content-length"]) == len(raw) < len(BODY)
        assert "accept-encoding" in answer.headers["vary"].lower()
        assert answer.headers["x-kept"] == "yes"
