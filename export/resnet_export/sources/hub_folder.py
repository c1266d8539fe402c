"""What folders in the layout of the Hugging Face Hub have in common: config.json beside one file of weights."""

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

from resnet_models.dialects import State
from resnet_models.foreign import read_content

from resnet_export.errors import ExportError

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
PATTERNS = [*WEIGHTS, "*.json"]


def weights_file(folder: Path) -> Path:
    """The file of weights; raise ExportError where there is none, or it is split."""
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    split = sorted(path.name for path in folder.glob("*.index.json"))
    found = f"{split[0]}, which is of weights split into several files" if split else "neither"
    raise ExportError(f"checkpoint: {folder} holds {found}; expected {' or '.join(WEIGHTS)}")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; raise ExportError for anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExportError(f"checkpoint: {path} cannot be read as JSON: {error}") from None
    if not isinstance(content, dict):
        raise ExportError(f"checkpoint: {path} is a JSON {type(content).__name__}; expected an object")
    return content


def read_tensors(path: Path) -> State:
    """The tensors of the file of weights; raise ExportError for one that holds other things."""
    content = read_content(path)
    if not isinstance(content, dict):
        raise ExportError(f"checkpoint: {path} holds a {type(content).__name__}; expected tensors by name")
    return {str(key): value for key, value in content.items()}


def library(name: str) -> ModuleType | None:
    """The library a folder comes from, if it is installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def download(repository: str, option: str) -> Path:
    """A snapshot of a repository on the Hub, from the local cache where it is; raise ExportError saying what to do without a network."""
    hub = library("huggingface_hub")
    if hub is None:
        raise ExportError(f"{option}: needs `pip install huggingface_hub`, or publish a folder with config.json and model.safetensors")
    try:
        return Path(hub.snapshot_download(repository, allow_patterns=PATTERNS))
    except Exception as error:  # the hub's client raises those of its HTTP library too
        reason = " ".join(str(error).split())[:160]
        raise ExportError(f"{option}: cannot be downloaded ({reason}); copy config.json and model.safetensors into a folder") from None
