"""What every peer is given, and what it gives back once it serves."""

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from resnet_bench.limit.driving import Endpoint
from resnet_bench.limit.published import Published

SERVED = Path(__file__).with_name("served")
SESSION = "ort_session.py"


@dataclass(frozen=True)
class Setting:
    """One file to serve, a folder to work in, and the machine: everything that all peers share."""

    published: Published
    folder: Path
    environments: Path
    install: bool
    cores: int
    max_batch: int
    rows_at_once: int


@dataclass(frozen=True)
class Standing:
    """A peer that serves: where, as which process, what it computes in, and how it was set up, for the reader."""

    endpoint: Endpoint
    pid: int
    precision: str
    setup: str


Starter = Callable[[Setting], AbstractContextManager[Standing]]


def place(folder: Path, program: str, name: str) -> Path:
    """Copy one of the programs in `served`, and the session it uses, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(SERVED / SESSION, folder / SESSION)
    return Path(shutil.copyfile(SERVED / program, folder / name))
