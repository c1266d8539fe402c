"""Photographs to certify on: how many are held, and which classes they show."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from resnet_export import image_folder
from resnet_export.errors import ExportError
from resnet_export.images import from_folder
from resnet_proto.manifest_pb2 import Input

SPEC = Input(height=8, width=8, resize_shorter_side=8, interpolation="bilinear")
BYTES = 8 * 8 * 3
TWO_CRANES = ("tench", "crane", "cock", "crane")  # a bird and a machine, as common lists of ImageNet's classes have them


def picture(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(path)


def folder_of(tmp_path: Path, **counts: int) -> Path:
    for name, count in counts.items():
        for index in range(count):
            picture(tmp_path / name / f"{index:02}.png", index)
    return tmp_path


def test_no_more_images_are_held_than_fit_and_they_are_drawn_over_the_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_folder, "MOST_BYTES", 9 * BYTES + 1)
    found = from_folder(folder_of(tmp_path, cat=20, dog=20, emu=2), SPEC, ("cat", "dog", "emu"))
    assert (len(found), found.available, found.source) == (9, 42, f"9 images of the folder {tmp_path.name}, drawn over its folders from 42")
    assert found.labels is not None
    assert sorted(np.bincount(found.labels)) == [2, 3, 4]
    again = from_folder(tmp_path, SPEC, ("cat", "dog", "emu"))
    assert again.names == found.names


def test_fewer_are_drawn_where_that_is_asked_for(tmp_path: Path) -> None:
    found = from_folder(folder_of(tmp_path, cat=5, dog=5), SPEC, ("cat", "dog"), 4)
    assert found.labels is not None
    assert np.bincount(found.labels).tolist() == [2, 2]
    assert from_folder(tmp_path, SPEC, ("cat", "dog"), 10).available == 0  # all of them were used


def test_a_name_of_two_classes_is_refused_and_their_indices_are_taken(tmp_path: Path) -> None:
    folder_of(tmp_path / "by name", crane=1, tench=1)
    with pytest.raises(ExportError, match="images: 'crane' is the label of 2 classes; name the folders by index, 1 and 3"):
        from_folder(tmp_path / "by name", SPEC, TWO_CRANES)
    for index in (1, 3):
        picture(tmp_path / "by index" / str(index) / "a.png")
    found = from_folder(tmp_path / "by index", SPEC, TWO_CRANES)
    assert found.labels is not None
    assert sorted(found.labels.tolist()) == [1, 3]


def test_a_name_of_two_classes_harms_only_those_who_use_it(tmp_path: Path) -> None:
    found = from_folder(folder_of(tmp_path, tench=2), SPEC, TWO_CRANES)
    assert found.labels is not None
    assert found.labels.tolist() == [0, 0]


def test_one_image_outside_the_classes_is_named_and_switches_nothing_off(tmp_path: Path) -> None:
    folder_of(tmp_path, cat=2, dog=2)
    picture(tmp_path / "stray.png")
    with pytest.raises(ExportError, match=r"images: 1 of 5 in .* lie outside a folder named after a label \(stray.png\)"):
        from_folder(tmp_path, SPEC, ("cat", "dog"))


def test_without_any_folder_of_a_class_there_are_no_labels(tmp_path: Path) -> None:
    assert from_folder(folder_of(tmp_path, holiday=3), SPEC, ("cat", "dog")).labels is None


def test_an_image_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder_of(tmp_path, cat=1)
    (tmp_path / "cat" / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(ExportError, match=r"images: .*broken\.jpg cannot be decoded"):
        from_folder(tmp_path, SPEC, ("cat",))
    with pytest.raises(ExportError, match="holds no JPEG, PNG or WebP file"):
        from_folder(tmp_path / "nowhere", SPEC, ("cat",))
