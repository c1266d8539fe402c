"""A FastAPI service in front of the server: uploads in, labels out, and the server's refusals as HTTP statuses.

    RESNET_ADDRESS=localhost:8001 uvicorn web_service:app

One client for the whole process: it keeps one connection, and calls of all requests share the server's batches.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import FastAPI, HTTPException, Request, UploadFile
from fastapi.responses import JSONResponse
from resnet_client import AsyncClient, ClientError, DeadlineError, InvalidInputError, ModelNotFoundError, OverloadedError, UnavailableError

ADDRESS = os.environ.get("RESNET_ADDRESS", "localhost:8001")
DEADLINE = 2.0  # seconds
LARGEST = 10_000_000  # bytes of an upload
STATUS: dict[type[ClientError], int] = {
    InvalidInputError: 400,
    ModelNotFoundError: 404,
    OverloadedError: 429,
    UnavailableError: 503,
    DeadlineError: 504,
}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """The client lives as long as the service."""
    async with AsyncClient(ADDRESS, timeout=DEADLINE) as client:
        app.state.client = client
        yield


app = FastAPI(title="What is in this picture?", lifespan=lifespan)


@app.exception_handler(ClientError)
async def refused(_: Request, error: ClientError) -> JSONResponse:
    """The server's words, with the status that fits; 429 says when to come back."""
    headers = {} if error.retry_after is None else {"Retry-After": str(max(1, round(error.retry_after)))}
    status = next((status for kind, status in STATUS.items() if isinstance(error, kind)), 502)
    return JSONResponse({"detail": str(error)}, status, headers)


@app.get("/health")
async def health(request: Request) -> dict[str, bool]:
    """Ready if the server is."""
    return {"ready": await request.app.state.client.ready()}


@app.post("/classify")
async def classify(request: Request, picture: UploadFile, top: Annotated[int, "labels to give"] = 3) -> list[dict[str, object]]:
    """The most probable labels of one picture."""
    data = await picture.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise HTTPException(413, f"picture: larger than {LARGEST} bytes")
    (prediction,) = await request.app.state.client.classify(data, model="resnet20", top_k=top)
    return [{"label": label.name, "probability": label.probability} for label in prediction.labels]
