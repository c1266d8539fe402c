"""Python client of resnet-serving: `Client` (blocking) and `AsyncClient` (asyncio). `resnet_client.testing` has a server to test with."""

from resnet_client.aio import AsyncClient
from resnet_client.blocking import Client
from resnet_client.connection import TLS
from resnet_client.errors import (
    AccessError,
    ClientError,
    DeadlineError,
    InvalidInputError,
    ModelNotFoundError,
    OverloadedError,
    UnavailableError,
    UnsupportedError,
)
from resnet_client.results import Execution, Label, Member, ModelInfo, Outcome, Prediction

__all__ = [
    "TLS",
    "AccessError",
    "AsyncClient",
    "Client",
    "ClientError",
    "DeadlineError",
    "Execution",
    "InvalidInputError",
    "Label",
    "Member",
    "ModelInfo",
    "ModelNotFoundError",
    "Outcome",
    "OverloadedError",
    "Prediction",
    "UnavailableError",
    "UnsupportedError",
]
