"""Publishers that are processes of their own: they write what `publish` writes, and die when told."""

import os
import resource
import signal
import sys
from collections.abc import Callable
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path

from resnet_export.errors import RepositoryError
from resnet_export.repository import remove, staging, versions

FILES = ("labels.txt", "model.fp32.onnx", "replay.npz")
WATCHED = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "shutil.rmtree"}


def publish(model: Path, wanted: int | None = None, size: int = 1000) -> Path:
    """What `publish` does to the disk: files, then a manifest that names the version."""
    with staging(model) as staged:
        for name in FILES:
            (staged.folder / name).write_bytes(name.encode() * (size // len(name)))
        return staged.appear(wanted, lambda version: write_text(staged.folder / "manifest.json", str(version)))


def write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="ascii")


def is_whole(folder: Path) -> bool:
    names = sorted(path.name for path in folder.iterdir())
    return names == sorted([*FILES, "manifest.json"]) and (folder / "manifest.json").read_text() == folder.name


def assert_whole(model: Path) -> None:
    """Whatever a server would read is complete, byte for byte."""
    for version in versions(model):
        assert is_whole(model / str(version))
        for name in FILES:
            assert (model / str(version) / name).read_bytes() == name.encode() * (1000 // len(name))


def killed_at(step: int, work: Callable[[Path], object], model: Path) -> None:
    """Run `work`, and die without warning when it touches the disk for the `step`th time."""
    left = step

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if event in WATCHED and str(model) in str(arguments[0]):
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    work(model)


def publish_next(model: Path) -> None:
    publish(model)


def remove_first(model: Path) -> None:
    remove(model, 1)


def publish_within(limit: int, model: Path, said: "SimpleQueue[str]") -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        publish(model)
    except RepositoryError as error:
        said.put(str(error))


def publish_many(model: Path, together: Barrier, count: int) -> None:
    together.wait()
    for _ in range(count):
        publish(model)
