"""What is taken from folders of people."""

from pathlib import Path

import pytest
from resnet_client import InvalidInputError
from resnet_client.files import find_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    names = (
        "b.JPG",
        "a.png",
        "._a.png",
        ".DS_Store",
        "Thumbs.db",
        "notes.txt",
        "c.heic",
        "d.heic",
        "sub/e.webp",
        "__MACOSX/a.png",
        "README",
    )
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_images_below_a_folder_are_found_and_sidecars_are_not(folder: Path) -> None:
    found = find_images([folder])
    assert [str(path.relative_to(folder)) for path in found.images] == ["a.png", "b.JPG", "sub/e.webp"]
    assert found.skipped == {"sidecar (._*)": 2, "system file": 2, ".heic": 2, ".txt": 1, "file without suffix": 1}
    assert found.note().startswith("skipped 2 ")
    assert found.note().endswith(": not JPEG, PNG or WebP")
    assert "\n" not in found.note()


def test_files_that_are_named_are_taken_whatever_their_suffix_except_sidecars(folder: Path) -> None:
    found = find_images(sorted(path for path in folder.iterdir() if path.is_file()))  # as a shell does for `folder/*`
    assert {path.name for path in found.images} == {"b.JPG", "a.png", "notes.txt", "c.heic", "d.heic", "README"}
    assert found.skipped.total() == 3


def test_nothing_to_send_is_an_error(tmp_path: Path) -> None:
    (tmp_path / ".DS_Store").touch()
    with pytest.raises(InvalidInputError, match="holds no JPEG, PNG or WebP file"):
        find_images([tmp_path])
    with pytest.raises(InvalidInputError, match="no image given; skipped 1 system file"):
        find_images([tmp_path / ".DS_Store"])
    assert find_images([tmp_path / "absent.png"]).note() == ""
