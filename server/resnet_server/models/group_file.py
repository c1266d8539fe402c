"""`group.toml`: a folder of the repository that stands for a group, beside the models that are its members."""

import tomllib
from dataclasses import replace
from pathlib import Path

from resnet_server.errors import StartError
from resnet_server.models.versions import is_version
from resnet_server.settings import Group, Settings

FILE = "group.toml"
MOST_BYTES = 1 << 16
EXPECTED = 'expected names of models, such as members = ["resnet20", "resnet56"]'


def with_groups(settings: Settings) -> Settings:
    """The settings, with the groups of the repository behind their own. Raises StartError for a file that says something else."""
    return replace(settings, groups=(*settings.groups, *groups_in(settings.repository)))


def groups_in(repository: Path) -> list[Group]:
    """What the files say, by folder; none where there is no repository."""
    folders = sorted(repository.iterdir()) if repository.is_dir() else []
    return [read_group(folder) for folder in folders if not folder.name.startswith(".") and is_group(folder)]


def is_group(folder: Path) -> bool:
    """Whether a folder of the repository stands for a group."""
    return (folder / FILE).is_file()


def read_group(folder: Path) -> Group:
    """One of them."""
    path = folder / FILE
    try:
        data = path.read_bytes()
        document = tomllib.loads(data.decode()) if len(data) <= MOST_BYTES else {"": f"{len(data)} bytes"}
    except OSError as error:
        raise StartError(f"{path}: cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise StartError(f"{path}: is no TOML: {error}") from None
    if unknown := [key for key in document if key != "members"]:
        raise StartError(f"{path}: {unknown[0]!r:.100}: is unknown; expected members, in at most {MOST_BYTES} bytes")
    members = document.get("members")
    if not isinstance(members, list) or not members or not all(isinstance(name, str) and name for name in members):
        raise StartError(f"{path}: members: {members!r:.100}; {EXPECTED}")
    if versions := [entry.name for entry in folder.iterdir() if is_version(entry.name)]:
        raise StartError(f"{path}: the folder has version {', '.join(versions)}, too; expected a model or a group")
    return Group(folder.name, tuple(dict.fromkeys(members)))
