"""Which form of the server runs: its hot path compiled by mypyc (`deploy/compile_server.py`), or all of it as Python."""

from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec

COMPILED, PURE = "compiled", "pure Python"
WITNESS = "resnet_server.batching.batcher"


def build_form() -> str:
    """Looked up as an import would find it; nothing is imported."""
    spec = find_spec(WITNESS)
    origin = "" if spec is None or spec.origin is None else spec.origin
    return COMPILED if origin.endswith(tuple(EXTENSION_SUFFIXES)) else PURE
