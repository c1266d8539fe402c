"""A model repository as publishers see it: versions appear whole, vanish whole, and no number is used twice.

What a kill or a full disk leaves behind is a folder whose name begins with a dot; no server reads it, and the next publisher removes it.
"""

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from resnet_export.errors import RepositoryError

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
UNFINISHED = (".publishing-", ".removing-")
USED = ".versions"


def model_folder(repository: Path, name: str) -> Path:
    """Return <repository>/<name>, or raise RepositoryError for a name that is none."""
    if not NAME.fullmatch(name):
        raise RepositoryError(f"name: '{name}'; expected lower-case letters, digits, dots, dashes and underscores, at most 100")
    return repository / name


def versions(model: Path) -> list[int]:
    """The versions that are published, in order."""
    names = [entry.name for entry in model.iterdir() if entry.is_dir()] if model.is_dir() else []
    return sorted(int(name) for name in names if re.fullmatch("[1-9][0-9]*", name, re.ASCII))


def used(model: Path) -> set[int]:
    """The versions that are or ever were published. `.versions` keeps the numbers of those that were removed."""
    try:
        lines = (model / USED).read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError):
        lines = []
    return {int(line) for line in lines if line.isdecimal()} | set(versions(model))


def check_free(model: Path, wanted: int | None) -> None:
    """Raise RepositoryError if the wanted version exists, or did."""
    if wanted in versions(model):
        raise RepositoryError(f"version: {wanted} of {model.name} exists in {model.parent} and is never overwritten")
    if wanted in used(model):
        raise RepositoryError(f"version: {wanted} of {model.name} was published once and removed; a number is never used again")


@dataclass(frozen=True)
class Staging:
    """A folder that is filled unseen, and becomes a version in one step."""

    model: Path
    folder: Path

    def appear(self, wanted: int | None, finish: Callable[[int], None]) -> Path:
        """Become `wanted`, or the number after the highest ever used; `finish` writes what depends on it.

        Several publishers take one number after the other. Raises RepositoryError if `wanted` is taken.
        """
        with locked(self.model):
            check_free(self.model, wanted)
            version = wanted or max(used(self.model), default=0) + 1
            finish(version)
            self.folder.chmod(0o755)
            for path in (*self.folder.iterdir(), self.folder):
                sync(path)
            remember(self.model, version)
            target = self.model / str(version)
            try:
                self.folder.rename(target)  # fails where the system has no locks and another was faster: the target is not empty
            except OSError as error:
                raise RepositoryError(f"version: {version} of {self.model.name} cannot appear: {error.strerror}") from None
            sync(self.model)
            sync(self.model.parent)  # the model's own entry may be new too
        return target


@contextmanager
def staging(model: Path) -> Iterator[Staging]:
    """Give a folder to fill; whatever is not made to appear vanishes. Raise RepositoryError where the disk refuses."""
    try:
        with locked(model):
            sweep(model)
            folder = Path(tempfile.mkdtemp(prefix=UNFINISHED[0], dir=model))
            alive = lock(folder)
    except OSError as error:
        raise RepositoryError(f"repository: {model} cannot be written: {error.strerror}") from None
    try:
        yield Staging(model, folder)
    except OSError as error:
        raise RepositoryError(f"repository: {model} cannot be written: {error.strerror or error}; nothing is published") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(alive)
        remove_if_empty(model)


def remove(model: Path, version: int) -> None:
    """Take a version away in one step; raise RepositoryError if it is not there. Its number is never used again."""
    if version not in versions(model):
        raise RepositoryError(f"version: {version} of {model.name} is not in {model.parent}")
    with locked(model):
        sweep(model)
        remember(model, version)
        grave = Path(tempfile.mkdtemp(prefix=UNFINISHED[1], dir=model))
        (model / str(version)).rename(grave / str(version))
        sync(model)
        shutil.rmtree(grave)


def remember(model: Path, version: int) -> None:
    """Write the numbers ever used, with `version`, to `.versions`, atomically."""
    path = model / f"{USED}.part"
    path.write_text("".join(f"{number}\n" for number in sorted({*used(model), version})), encoding="ascii")
    sync(path)
    path.replace(model / USED)


def sweep(model: Path) -> None:
    """Remove what publishers that died left behind: the living hold a lock on theirs."""
    for entry in model.iterdir():
        if entry.name.startswith(UNFINISHED) and entry.is_dir():
            with contextlib.suppress(OSError):
                handle = lock(entry, wait=False)
                shutil.rmtree(entry, ignore_errors=True)
                os.close(handle)


@contextmanager
def locked(model: Path) -> Iterator[None]:
    """Hold the model's folder, made if absent, against other publishers."""
    while True:
        model.mkdir(parents=True, exist_ok=True)
        try:
            handle = lock(model)
        except FileNotFoundError:  # removed in between, being empty
            continue
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), model.stat()):
                break
        os.close(handle)
    try:
        yield
    finally:
        os.close(handle)


def remove_if_empty(model: Path) -> None:
    """Remove a model's folder in which nothing was ever published; rmdir itself refuses any other."""
    with contextlib.suppress(OSError):
        model.rmdir()


def lock(folder: Path, *, wait: bool = True) -> int:
    """A handle that locks the folder until it is closed or its process ends; one without a lock where the file system has none.

    Raises BlockingIOError if another holds it and `wait` is false.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise
    except OSError:
        if not wait:  # nobody can tell whether its owner lives: leave it alone
            os.close(handle)
            raise
    return handle


def sync(path: Path) -> None:
    """Force a file or a folder's entries to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
