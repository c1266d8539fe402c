"""What callers may give, and what is made of it."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clients import KINDS, ask
from PIL import Image
from resnet_client import InvalidInputError
from resnet_client.inputs import Item, Parts, load
from resnet_client.rows import RowParts
from resnet_client.testing import FakeServer

PIXELS = np.random.default_rng(3).integers(0, 256, (4, 6, 3), dtype=np.uint8)


def png(pixels: Any = PIXELS) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def decoded(data: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "cat.png"
    file.write_bytes(png())
    return file


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["str", "path", "bytes", "bytearray", "memoryview", "array", "pillow"])
@pytest.mark.parametrize("several", [False, True])
def test_an_image_may_have_any_form(form: str, several: bool, kind: str, fake: FakeServer, path: Path) -> None:
    with Image.open(path) as pillow:
        pillow.load()
    forms = {
        "str": str(path),
        "path": path,
        "bytes": png(),
        "bytearray": bytearray(png()),
        "memoryview": memoryview(png()),
        "array": PIXELS,
        "pillow": pillow,
    }
    given = [forms[form]] * 3 if several else forms[form]
    found = ask(kind, fake.url, "classify", given)
    assert len(found) == (3 if several else 1)
    sent = [image for call in fake.calls if call.method == "Classify" for image in call.request.images]
    assert len(sent) == len(found)
    for image in sent:
        np.testing.assert_array_equal(decoded(image), PIXELS)


def test_an_array_of_four_dimensions_is_so_many_images(fake: FakeServer) -> None:
    assert len(ask("blocking", fake.url, "classify", np.stack([PIXELS, 255 - PIXELS]))) == 2
    np.testing.assert_array_equal(decoded(fake.calls[-1].request.images[1]), 255 - PIXELS)


@pytest.mark.parametrize("kind", KINDS)
def test_images_may_come_from_a_generator(kind: str, fake: FakeServer) -> None:
    def frames() -> Iterator[bytes]:
        yield from (bytes([n]) for n in range(1, 41))

    assert len(ask(kind, fake.url, "classify", frames())) == 40
    sent = [image for call in fake.calls if call.method == "Classify" for image in call.request.images]
    assert sorted(sent) == [bytes([n]) for n in range(1, 41)]


async def test_images_may_come_from_an_asynchronous_generator(fake: FakeServer) -> None:
    from resnet_client import AsyncClient

    async def frames() -> Any:
        for n in range(1, 41):
            yield bytes([n])

    async with AsyncClient(fake.url) as client:
        assert len(await client.classify(frames())) == 40


def test_a_pillow_image_is_turned_as_its_file_would_be() -> None:
    image = Image.fromarray(PIXELS)
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    buffer = io.BytesIO()
    image.save(buffer, "PNG", exif=exif)
    np.testing.assert_array_equal(decoded(load(0, Image.open(buffer)).data), np.rot90(PIXELS, -1))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "F", "I;16"])
def test_every_mode_of_a_pillow_image_is_sent(mode: str) -> None:
    item = load(0, Image.new(mode, (3, 2)))
    assert item.error is None
    assert decoded(item.data).shape[:2] == (2, 3)


@pytest.mark.parametrize(
    ("image", "text"),
    [
        ("nowhere.png", "images[7] (nowhere.png): cannot be read: No such file"),
        ("a\0b", "images[7] (a\0b): cannot be read: embedded null byte"),
        (".", "images[7] (.): cannot be read: Is a directory"),
        (b"", "images[7]: empty, 0 bytes; expected a JPEG, PNG or WebP"),
        (7, "images[7]: int; expected a path, bytes, uint8 [h, w, 3]"),
        (np.zeros((4, 4, 3), np.float32), "images[7]: float32 [4, 4, 3]; expected uint8 [h, w, 3]"),
        (np.zeros((0, 4, 3), np.uint8), "images[7]: uint8 [0, 4, 3]; expected"),
    ],
)
def test_what_is_no_image_is_said_in_one_line_that_names_it(image: Any, text: str) -> None:
    error = load(7, image).error
    assert isinstance(error, InvalidInputError)
    assert str(error).startswith(f"INVALID_ARGUMENT: {text}")
    assert "\n" not in str(error)


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "void.jpg").touch()
    error = load(0, tmp_path / "void.jpg").error
    assert error is not None
    assert (error.source, error.index) == (str(tmp_path / "void.jpg"), 0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("given", [[], iter([]), np.zeros((0, 2, 2, 3), np.uint8)])
def test_no_image_at_all_is_refused_before_anything_is_sent(given: Any, kind: str, fake: FakeServer) -> None:
    with pytest.raises(InvalidInputError, match="images: none given"):
        ask(kind, fake.url, "classify", given)
    assert not fake.calls


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("given", [3, None])
def test_what_is_no_collection_either_is_refused(given: Any, kind: str, fake: FakeServer) -> None:
    for method in ("classify", "infer"):
        with pytest.raises(InvalidInputError, match=f"images: {type(given).__name__}; expected"):
            ask(kind, fake.url, method, given)


def items(*sizes: int) -> list[Item]:
    return [Item(index, None, bytes(size)) for index, size in enumerate(sizes)]


def grouped(parts: Parts, given: list[Item]) -> list[list[int]]:
    full = [parts.add(item) for item in given]
    return [[item.index for item in part] for part in (*full, parts.rest()) if part]


def test_images_are_grouped_by_count_and_by_bytes_in_order() -> None:
    assert grouped(Parts(3, 100), items(*[1] * 7)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert grouped(Parts(64, 10), items(6, 4, 1, 20, 3)) == [[0, 1], [2], [3], [4]]


def test_arrays_are_grouped_by_rows_and_by_bytes_in_order() -> None:
    images = np.arange(12 * 2 * 2 * 3, dtype=np.uint8).reshape(12, 2, 2, 3)
    for rows, size, expected in ((5, 1000, [5, 5, 2]), (64, 36, [3, 3, 3, 3]), (64, 1, [1] * 12)):
        parts = RowParts(rows, size)
        found = [part for array in (images[:4], images[4], images[5:]) for part in parts.add(array)] + list(parts.rest())
        assert [len(part.pixels) for part in found] == expected
        assert [part.start for part in found] == [sum(expected[:i]) for i in range(len(expected))]
        np.testing.assert_array_equal(np.concatenate([part.pixels for part in found]), images)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, 2, 2, 3), np.float32),
        np.zeros((2, 2), np.uint8),
        np.zeros((0, 2, 2, 3), np.uint8),
        [b"png"],
        [np.zeros((2, 2, 3), np.uint8), np.zeros((3, 2, 3), np.uint8)],
    ],
)
def test_a_wrong_array_is_refused_by_what_it_is(images: Any, kind: str, fake: FakeServer) -> None:
    with pytest.raises(InvalidInputError, match=r"images: .*; expected (uint8 \[n, h, w, 3\]|one size)"):
        ask(kind, fake.url, "infer", images)
    assert not [call for call in fake.calls if call.method == "ModelInfer"]
