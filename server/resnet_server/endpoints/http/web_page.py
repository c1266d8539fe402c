"""GET /: a page to try the networks with a picture. Plain files, no build and no other host, so that it works without a network."""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from resnet_server.endpoints.http.openapi import DOCUMENT

FOLDER = Path(__file__).parent / "page"
POLICY = "default-src 'self'; img-src 'self' blob: data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


class WithHeaders:
    """Adds the security headers to whatever `application` answers."""

    def __init__(self, application: ASGIApp) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *((name.lower().encode(), value.encode()) for name, value in HEADERS.items())]
            await send(message)

        await self._application(scope, receive, sending)


async def index(request: Request) -> Response:
    """The page."""
    return FileResponse(FOLDER / "index.html", headers=HEADERS)


async def openapi(request: Request) -> Response:
    """The REST form as an OpenAPI document."""
    return JSONResponse(DOCUMENT)


def routes() -> list[BaseRoute]:
    """The page, its files, and the description of the REST form."""
    return [Route("/", index), Route("/openapi.json", openapi), Mount("/page", WithHeaders(StaticFiles(directory=FOLDER)))]
