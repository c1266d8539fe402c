"""Files and folders of people: what in them is an image, and what only lies beside one."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from resnet_proto.image_files import SUFFIXES

from resnet_client.errors import InvalidInputError

SIDECARS = {".ds_store", "thumbs.db", "desktop.ini", ".directory", "icon\r"}
SIDECAR_FOLDERS = {"__macosx", "@eadir", ".thumbnails", ".picasaoriginals"}


@dataclass
class Found:
    """`images` to send, and why other files are not among them."""

    images: list[Path] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)

    def note(self) -> str:
        """One line about what was skipped; empty if nothing was."""
        if not self.skipped:
            return ""
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.skipped.most_common(5))
        more = f" and {len(self.skipped) - 5} other kinds" if len(self.skipped) > 5 else ""
        return f"skipped {kinds}{more}: not JPEG, PNG or WebP"


def find_images(paths: Iterable[Path]) -> Found:
    """Files as they are, folders as the image files below them, in order of their names; without what systems leave beside them.

    Raises InvalidInputError for a folder without an image.
    """
    found = Found()
    for path in paths:
        if not path.is_dir():
            _add(path, found, is_image=True)
            continue
        before = len(found.images)
        for below in sorted(path.rglob("*")):
            if below.is_file():
                _add(below, found, is_image=below.suffix.lower() in SUFFIXES)
        if len(found.images) == before:
            raise InvalidInputError(f"{path}: holds no JPEG, PNG or WebP file")
    if not found.images:
        raise InvalidInputError(f"no image given; {found.note()}")
    return found


def _add(path: Path, found: Found, *, is_image: bool) -> None:
    if is_sidecar(path):
        found.skipped["system file" if path.name.lower() in SIDECARS else "sidecar (._*)"] += 1
    elif is_image:
        found.images.append(path)
    else:
        found.skipped[path.suffix.lower() or "file without suffix"] += 1


def is_sidecar(path: Path) -> bool:
    """True for what macOS, Windows and others write beside photographs: `._cat.jpg`, `.DS_Store`, `Thumbs.db`, `__MACOSX/`."""
    folders = {part.lower() for part in path.parts[:-1]}
    return path.name.startswith("._") or path.name.lower() in SIDECARS or not folders.isdisjoint(SIDECAR_FOLDERS)
