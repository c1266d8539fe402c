"""What systems and people leave in a repository is neither a model nor a version, and harms none."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from resnet_export.cli import main
from resnet_export.verify import verify_stored
from resnet_server.errors import StartError
from resnet_server.models.model_settings import Wanted
from resnet_server.models.repository import Published, Repository, Trust, scan
from resnet_server.models.versions import parse_versions


def published(root: Path) -> list[Published]:
    return scan(Repository(root), models=(), wanted=Wanted(parse_versions("all"), {}), trust=Trust())


@pytest.fixture
def littered(released_repository: Path, tmp_path: Path) -> Path:
    """A repository with what macOS, NFS, editors, file systems and people add to it, on all three levels."""
    own_repository = tmp_path / "repository"
    shutil.copytree(released_repository / "resnet20", own_repository / "resnet20")
    model, version = own_repository / "resnet20", own_repository / "resnet20" / "1"
    for folder in (own_repository, model, version):
        for name in (".DS_Store", "._manifest.json", ".nfs000000000012", "Thumbs.db", "notes~", "README.md"):
            (folder / name).write_bytes(b"\0")
        (folder / "dangling").symlink_to(folder / "nowhere")
    for folder in (own_repository / "lost+found", own_repository / ".snapshot" / "1", version / "lost+found"):
        folder.mkdir(parents=True)
    for name in ("01", "1.bak", "backup", "-1", "0", "１", ".publishing-x"):
        (model / name).mkdir()
    (model / "2").write_text("a file")
    return own_repository


def test_only_what_was_published_is_read(littered: Path) -> None:
    (found,) = published(littered)
    assert (found.key, found.refusal, found.rejected) == (("resnet20", "1"), "", ())
    assert [candidate.path.name for candidate in found.candidates] == ["model.fp32.onnx", "model.int8.onnx"]


def test_the_listing_and_the_check_read_it_too(littered: Path) -> None:
    result = CliRunner().invoke(main, ["list", str(littered), "--json"])
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)
    assert (row["model"], row["version"], row["broken"]) == ("resnet20", 1, "")
    assert verify_stored(littered / "resnet20" / "1", "cpu")[0].broken == ""


def test_a_copy_beside_its_version_is_no_version_and_one_in_its_place_is_refused(littered: Path) -> None:
    (littered / "resnet20" / "3").mkdir()
    refusals = {found.version: found.refusal for found in published(littered)}
    assert refusals["1"] == ""
    assert "manifest.json" in refusals["3"]


def test_a_repository_of_litter_only_is_none(tmp_path: Path) -> None:
    (tmp_path / ".DS_Store").touch()
    (tmp_path / "lost+found").mkdir()
    with pytest.raises(StartError, match="holds no published version"):
        published(tmp_path)
