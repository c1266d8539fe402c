"""Python client of resnet-serving: `Client` (blocking) and `AsyncClient` (asyncio)."""

from resnet_client.aio import AsyncClient
from resnet_client.blocking import Client
from resnet_client.errors import ClientError
from resnet_client.results import Execution, Label, ModelInfo, Prediction

__all__ = ["AsyncClient", "Client", "ClientError", "Execution", "Label", "ModelInfo", "Prediction"]
