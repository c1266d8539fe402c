"""What may be skipped where: in CI, a skip that is not on this list fails the run, so that no test is lost without a word."""

import os
from collections.abc import Iterable

ALLOWED = (
    "no CUDA",  # the tests marked `gpu`: no CI machine has one
    "this onnxruntime",  # ... or a GPU without TensorRT
    "the material beside the project is not here",  # marked `shared`: an outsider's clone has no such folder
    "no package registry answers",  # a build farm without a network; the rest of the wheels is tested all the same
    "node is not on this machine",
    "grpcurl is not on this machine",  # no registry of ours has it; reflection is tested all the same
    "docker is not installed",  # `make compose-test` needs an engine
    "this interpreter is not for other users",  # one in the home of root
    "this machine has no IPv6",
    "needs root",  # to become somebody else
    "there is a GPU",  # what only a machine without one can try
    "CUDA runs here",
)
"""Beginnings of reasons, each with why it may happen in CI."""


def in_ci() -> bool:
    """True where CI says so, as every CI service does."""
    return os.environ.get("CI", "").lower() in ("1", "true", "yes")


def unexpected(skipped: Iterable[tuple[str, str]]) -> list[str]:
    """Of pairs of a test and its reason, those whose reason is not on the list, as lines."""
    return [f"{test}: {reason}" for test, reason in skipped if not reason.removeprefix("Skipped: ").startswith(ALLOWED)]
