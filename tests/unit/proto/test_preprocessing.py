"""The one preprocessing function, held to torchvision's on all sizes, and what it refuses."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from resnet_proto.manifest import INTERPOLATIONS, ManifestError, check_preprocessing
from resnet_proto.manifest_pb2 import Input, Manifest, Output
from resnet_proto.preprocessing import Bounds, ImageError, fit, preprocess
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

SIDES = st.integers(1, 700)


def picture(width: int, height: int, channels: int = 3) -> Image.Image:
    pixels = np.random.default_rng(width * 10_000 + height).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.fromarray(pixels.squeeze(2) if channels == 1 else pixels)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def spec(size: int = 224, resize: int = 256, interpolation: str = "bilinear", **more: object) -> Input:
    return Input(height=size, width=size, resize_shorter_side=resize, interpolation=interpolation, **more)  # type: ignore[arg-type]  # **more


@settings(deadline=None, max_examples=60)
@given(SIDES, SIDES, st.sampled_from([224, 232, 236, 256, 300]), st.sampled_from(["bilinear", "bicubic", "nearest", "lanczos"]))
@example(500, 333, 232, "bilinear")  # int(333 * (232 / 333)) is 231
@example(600, 400, 232, "bilinear")
@example(200, 200, 232, "bicubic")
@example(3, 2, 224, "bilinear")
@example(225, 226, 225, "bicubic")  # an odd margin: the half pixel is rounded to even
def test_every_size_is_resized_and_cropped_as_torchvision_does(width: int, height: int, resize: int, interpolation: str) -> None:
    if max(width, height) > 40 * min(width, height):  # torchvision would build pictures of gigabytes
        width = height = max(width, height)
    image = picture(width, height)
    theirs = Compose([Resize(resize, InterpolationMode(interpolation)), CenterCrop(224)])(image)
    assert np.array_equal(np.asarray(fit(image, spec(224, resize, interpolation))), np.asarray(theirs))


@settings(deadline=None, max_examples=40)
@given(SIDES, SIDES, st.tuples(st.integers(20, 300), st.integers(20, 300)), st.tuples(st.integers(1, 300), st.integers(1, 300)))
def test_exact_sizes_and_padding_are_torchvisions(width: int, height: int, size: tuple[int, int], crop: tuple[int, int]) -> None:
    image = picture(width, height)
    theirs = Compose([Resize(size, InterpolationMode.BICUBIC), CenterCrop(crop)])(image)
    ours = Input(height=crop[0], width=crop[1], resize_mode="exact", resize_height=size[0], resize_width=size[1], interpolation="bicubic")
    assert np.array_equal(np.asarray(fit(image, ours)), np.asarray(theirs))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(500, 333), (100, 90), (640, 480)])
def test_without_antialiasing_it_resizes_as_pytorch_interpolates(size: tuple[int, int], interpolation: str) -> None:
    image = picture(*size).resize((size[0] // 4, size[1] // 4)).resize(size, Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    theirs = Compose([Resize(48, InterpolationMode(interpolation), antialias=False), CenterCrop(48)])(pixels).permute(1, 2, 0).numpy()
    ours = np.asarray(fit(image, spec(48, 48, interpolation, antialias=False)))
    antialiased = np.asarray(fit(image, spec(48, 48, interpolation)))
    difference = np.abs(ours.astype(int) - theirs)
    assert difference.max() <= 1  # rounding of an exact half
    assert difference.mean() < 0.01 < np.abs(antialiased.astype(int) - theirs).mean()


def test_half_an_odd_margin_is_rounded_to_even_or_down() -> None:
    image = picture(35, 32)  # a margin of 3: its half is 1.5
    pixels = np.asarray(image)
    assert np.array_equal(np.asarray(fit(image, spec(32, 32))), pixels[:, 2:34])
    assert np.array_equal(np.asarray(fit(image, spec(32, 32, crop_rounding="down"))), pixels[:, 1:33])


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_every_interpolation_that_a_manifest_may_name_is_there(interpolation: str) -> None:
    assert preprocess(encoded(picture(50, 40)), spec(32, 36, interpolation)).shape == (32, 32, 3)


def test_a_file_and_its_bytes_give_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a.webp"
    path.write_bytes(encoded(picture(60, 40), "WEBP"))
    assert np.array_equal(preprocess(path, spec()), preprocess(path.read_bytes(), spec()))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_pixel_mode_becomes_the_networks_colours(mode: str, channels: int) -> None:
    deep = Image.fromarray(np.asarray(picture(32, 32, 1), np.uint16) * 257)
    image = deep if mode == "I;16" else picture(32, 32).convert(mode)
    ours = preprocess(encoded(image, "TIFF" if mode == "CMYK" else "PNG"), spec(32, 32, channels=channels)) if mode != "CMYK" else None
    if ours is None:
        ours = preprocess(encoded(image, "JPEG", quality=100), spec(32, 32, channels=channels))
        assert np.abs(ours.astype(int).squeeze() - np.asarray(image.convert("L" if channels == 1 else "RGB")).astype(int)).mean() < 12
        return
    expected = picture(32, 32, 1) if mode == "I;16" else image
    assert np.array_equal(ours.squeeze(), np.asarray(expected.convert("L" if channels == 1 else "RGB")))


def test_a_palette_with_transparency_keeps_its_colours() -> None:
    image = picture(32, 32).quantize(16)
    data = encoded(image, transparency=3)
    assert np.array_equal(preprocess(data, spec(32, 32)), np.asarray(image.convert("RGB")))


def test_exif_orientation_is_honoured() -> None:
    upright = picture(40, 32)
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(upright.transpose(Image.Transpose.ROTATE_90), exif=exif)
    assert np.array_equal(preprocess(data, spec(32, 32)), preprocess(encoded(upright), spec(32, 32)))


@pytest.mark.parametrize(
    ("image", "bounds", "message"),
    [
        (picture(100, 10), Bounds(999), "100x10 pixels; expected at most 999"),
        (picture(100, 10), Bounds(bytes=7999), "100x10 pixels take 8000 bytes; expected at most 7999"),
        (picture(100, 10, 1), Bounds(bytes=4999), "100x10 pixels take 5000 bytes; expected at most 4999"),
        (picture(400, 1), Bounds(50_000), "resized: 89600x224 pixels; expected at most 50000"),
        (picture(300, 300), Bounds(bytes=800_000), "resized: 224x224 pixels take 829504 bytes; expected at most 800000"),
    ],
)
def test_an_image_above_a_bound_is_refused(image: Image.Image, bounds: Bounds, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        preprocess(encoded(image), spec(224, 224), bounds)


@pytest.mark.parametrize("data", [b"", b"GIF89a" + bytes(20), encoded(picture(40, 40))[:200], encoded(picture(40, 40), "JPEG")[:300]])
def test_what_is_no_image_is_one_line(data: bytes) -> None:
    with pytest.raises(ImageError, match=r"^cannot be decoded: [^\n]*; expected JPEG, PNG or WebP$") as error:
        preprocess(data, spec())
    assert "0x" not in str(error.value)


def test_a_number_of_channels_that_images_do_not_have_is_said() -> None:
    with pytest.raises(ImageError, match="the network takes 5 channels, which no encoded image has; send the pixels as a tensor"):
        preprocess(encoded(picture(40, 40)), spec(32, 32, channels=5))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"interpolation": "cubic"}, "input.interpolation: 'cubic'; expected one of nearest, bilinear"),
        ({"crop_rounding": "up"}, "input.crop_rounding: 'up'; expected nothing or down"),
        ({"resize_mode": "fit"}, "input.resize_mode: 'fit'; expected nothing or exact"),
        ({"resize_mode": "exact", "resize_width": 5}, "input: a size is 0"),
        ({"height": 0}, "input: a size is 0"),
    ],
)
def test_a_manifest_that_no_image_can_meet_is_refused_when_it_is_read(change: dict[str, object], message: str) -> None:
    manifest = Manifest(input=spec())
    check_preprocessing(manifest)
    manifest.input.MergeFrom(Input(**change))  # type: ignore[arg-type]  # fields by name
    if change.get("height") == 0:
        manifest.input.height = 0
    with pytest.raises(ManifestError, match=message):
        check_preprocessing(manifest)


def test_an_unknown_activation_is_refused_when_the_manifest_is_read() -> None:
    with pytest.raises(ManifestError, match=r"output\.activation: 'tanh'; expected one of softmax, sigmoid"):
        check_preprocessing(Manifest(input=spec(), output=Output(activation="tanh")))
