"""A model repository behind an fsspec URL, such as `s3://bucket/models`: a mirror on disk, filled with what is served, by digest.

The mirror has the repository's folders, empty but for the versions that were asked for; each of these came whole or not at all. Whatever is
not there or cannot be reached is said; what is in the mirror serves without the other side.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from resnet_proto.manifest import DIGEST_FILE, ManifestError, check_digest, read_labels, read_manifest

from resnet_server.errors import StartError
from resnet_server.models import model_settings
from resnet_server.models.repository import GONE, Repository, model_folders
from resnet_server.models.versions import is_version
from resnet_server.settings import Settings

log = logging.getLogger(__name__)

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
COMPLETE = ".complete"
"""In the mirror's folder once it was read from end to end: it can stand for the repository."""
MOST_FILES = 64
CHUNK = 1 << 20
DIGEST_BYTES = 4096
RETRY_SECONDS = 60.0
"""A version that did not come as its manifest says is asked for again after that: it may have been on its way there."""


class RemoteRepository(Repository):
    """The mirror of `url` below `cache`, of at most `most` bytes. For one thread at a time; other processes may have the same mirror."""

    def __init__(self, url: str, cache: Path, most: int) -> None:
        root = cache / hashlib.sha256(url.encode()).hexdigest()[:24]
        super().__init__(root, without_password(url))
        self._most = most
        self._files, self._place = _file_system(url, self.url)
        self._offline = self._given_up = False
        self._failed: dict[Path, tuple[float, str]] = {}
        self._checked: set[tuple[Path, str]] = set()
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StartError(f"repository-cache: {root} cannot be made: {error.strerror}") from None

    def give_up(self) -> None:
        """See `Repository.give_up`."""
        self._given_up = True

    def refresh(self, name: str = "") -> None:
        """Take in which models and versions there are, and their settings. Without the other side, the mirror stays as it was.

        Raises StartError where there is no mirror either.
        """
        try:
            with self._locked():
                self._refresh(name)
                (self.root / COMPLETE).touch()
        except Exception as error:  # every backend has its own
            if not (self.root / COMPLETE).exists():
                raise StartError(f"repository: {self.url} cannot be read: {described(error)}") from None
            if not self._offline:
                log.warning("repository: %s cannot be read: %s; its copy in %s stands for it", self.url, described(error), self.root)
            self._offline = True
        else:
            if self._offline:
                log.info("repository: %s can be read again", self.url)
            self._offline = False

    def fetch(self, version: Path) -> str:
        """Have a version's files in the mirror as they are on the other side; why they are not, empty where they are."""
        if not version.is_dir():
            return f"is not in {self.url}"
        local = _text(version / DIGEST_FILE)
        known_at, reason = self._failed.get(version, (0.0, ""))
        if reason and time.monotonic() - known_at < RETRY_SECONDS:
            return reason
        if self._offline:
            return "" if local else f"cannot be fetched from {self.url}"
        try:
            with self._locked():
                self._update(version, local)
        except ManifestError as error:
            reason = f"what {self.url} has is refused: {error}"
            self._failed[version] = time.monotonic(), reason
            return reason
        except Exception as error:  # as above
            reason = f"cannot be fetched from {self.url}: {described(error)}"
            log.warning("%s version %s %s", version.parent.name, version.name, reason)
            return "" if local else reason
        self._failed.pop(version, None)
        return ""

    def _refresh(self, only: str) -> None:
        models = {name for name, kind in self._list(self._place) if kind == "directory" and MODEL_NAME.fullmatch(name)}
        for folder in model_folders(self.root).values():
            if folder.name not in models:
                (folder / GONE).touch()
        for name in models & {only} if only and (self.root / COMPLETE).exists() else models:
            self._refresh_model(self.root / name)

    def _refresh_model(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        (folder / GONE).unlink(missing_ok=True)
        found = self._list(f"{self._place}/{folder.name}")
        versions = {name for name, kind in found if kind == "directory" and is_version(name)}
        for path in [path for path in folder.iterdir() if path.is_dir() and is_version(path.name) and path.name not in versions]:
            (path / GONE).touch()
        for version in versions:
            (folder / version).mkdir(exist_ok=True)
            (folder / version / GONE).unlink(missing_ok=True)
        own = folder / model_settings.FILE
        if any(name == model_settings.FILE for name, _ in found):
            _replace(own, self._read(f"{self._place}/{folder.name}/{model_settings.FILE}", model_settings.MOST_BYTES + 1))
        else:
            own.unlink(missing_ok=True)

    def _update(self, version: Path, local: str) -> None:
        place = f"{self._place}/{version.parent.name}/{version.name}"
        there = self._read(f"{place}/{DIGEST_FILE}", DIGEST_BYTES).decode("ascii", "replace")
        if local == there and self._is_whole(version, there):
            return
        staged = version.parent / f".staged-{version.name}-{os.getpid()}"
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir()
        try:
            self._download(place, staged)
            check(staged)
            if _text(staged / DIGEST_FILE) != there:
                raise ManifestError(f"{DIGEST_FILE}: changed while it was fetched")
            self._exchange(staged, version)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        self._checked.add((version, there))
        log.info("%s version %s: fetched from %s", version.parent.name, version.name, self.url)

    def _is_whole(self, version: Path, digest: str) -> bool:
        """Whether the files in the mirror are what their manifest says; looked at once in a process."""
        if (version, digest) not in self._checked:
            try:
                check(version)
            except ManifestError as error:
                log.warning(
                    "%s version %s: its copy in %s is damaged: %s; fetching it again", version.parent.name, version.name, self.root, error
                )
                return False
            self._checked.add((version, digest))
        return True

    def _download(self, place: str, staged: Path) -> None:
        names = [name for name, kind in self._list(place) if kind == "file" and FILE_NAME.fullmatch(name)]
        if len(names) > MOST_FILES:
            raise ManifestError(f"{len(names)} files; expected at most {MOST_FILES}")
        room = self._most - size_of(self.root)
        for name in names:
            with self._files.open(f"{place}/{name}", "rb", block_size=4 * CHUNK) as source, (staged / name).open("xb") as target:
                while part := source.read(CHUNK):
                    if self._given_up:
                        raise InterruptedError("the server stops")
                    room -= len(part)
                    if room < 0:
                        raise ManifestError(f"repository-cache-bytes: the copy would take more than {self._most}; expected room for it")
                    target.write(part)
                target.flush()
                os.fsync(target.fileno())

    def _exchange(self, staged: Path, version: Path) -> None:
        old = version.parent / f".old-{version.name}-{os.getpid()}"
        shutil.rmtree(old, ignore_errors=True)
        version.rename(old)
        staged.rename(version)
        shutil.rmtree(old, ignore_errors=True)

    def prune(self, keep: set[Path]) -> None:
        """Make room: of all versions but `keep`, only their names stay. For the start, when no engine has any of them."""
        with self._locked():
            for folder in [path for path in self.root.iterdir() if path.is_dir()]:
                for path in [path for path in folder.iterdir() if path.is_dir() and path not in keep]:
                    shutil.rmtree(path, ignore_errors=True)
                    if is_version(path.name):
                        path.mkdir(exist_ok=True)

    def _list(self, place: str) -> list[tuple[str, str]]:
        """Names and kinds of what is directly in a folder, hidden ones left out."""
        self._files.invalidate_cache()
        found = [(str(one["name"]).rstrip("/").rpartition("/")[2], str(one["type"])) for one in self._files.ls(place, detail=True)]
        return [(name, kind) for name, kind in found if name and not name.startswith((".", "?"))]

    def _read(self, place: str, most: int) -> bytes:
        with self._files.open(place, "rb", block_size=CHUNK) as file:
            data: bytes = file.read(most)
        return data

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Another server on this machine may have the same mirror."""
        with (self.root / ".lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def open_repository(settings: Settings) -> Repository:
    """As the settings say: the folder, or the mirror of a URL. Raises StartError."""
    if not settings.remote:
        return Repository(settings.repository)
    return RemoteRepository(settings.remote, settings.repository_cache, settings.repository_cache_bytes)


def check(folder: Path) -> None:
    """Raise ManifestError where a file is not the one that the manifest names by its digest."""
    manifest = read_manifest(folder)
    read_labels(folder, manifest)
    for artifact in manifest.artifacts:
        check_digest(folder, artifact.file, artifact.sha256)
    if manifest.HasField("replay"):
        check_digest(folder, manifest.replay.file, manifest.replay.sha256)


def size_of(root: Path) -> int:
    """Bytes of all files below."""
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


def without_password(url: str) -> str:
    """As logs and errors may show it."""
    scheme, _, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    return f"{scheme}://{place.rpartition('@')[2]}{slash}{path.partition('?')[0]}"


def described(error: Exception) -> str:
    """One line of a backend's error."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _file_system(url: str, shown: str) -> tuple[Any, str]:
    try:
        import fsspec
    except ImportError:
        raise StartError(f"repository: {shown} needs fsspec: pip install 'resnet-serving[remote]'") from None
    try:
        files, place = fsspec.core.url_to_fs(url, use_listings_cache=False, skip_instance_cache=True)
    except (ImportError, ValueError) as error:  # no such scheme, or its own package is missing
        raise StartError(f"repository: {shown} cannot be opened: {error}") from None
    return files, str(place).rstrip("/")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _replace(path: Path, data: bytes) -> None:
    """Write a file at once, if it is another."""
    if path.exists() and path.read_bytes() == data:
        return
    new = path.with_name(f".new-{path.name}-{os.getpid()}")
    new.write_bytes(data)
    new.rename(path)
