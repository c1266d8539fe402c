"""Makes `tests/data/hostile`: small images and ONNX files as people, cameras and attackers send them.

    python tests/support/make_hostile.py

The files are committed, so that tests see the same bytes whatever library is installed; `index.json` says of each what is right:
`answered` or `refused`.
"""

import io
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from PIL import Image

FOLDER = Path(__file__).parents[1] / "data" / "hostile"
ORIENTATION = 0x0112


def picture(mode: str = "RGB", size: tuple[int, int] = (48, 32)) -> Image.Image:
    """A gradient with a bright corner, so that every orientation looks different."""
    width, height = size
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    rgb = np.stack([x, y, (x + y) / 2], axis=2).astype(np.uint8)
    rgb[: height // 4, : width // 4] = 255
    return Image.fromarray(rgb).convert(mode)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    """The file's bytes."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def oriented(kind: str, orientation: int) -> bytes:
    """With an EXIF orientation."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return saved(picture(), kind, exif=exif)


def png_that_claims(width: int, height: int) -> bytes:
    """A header of that size with next to no data: a decompression bomb."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    body = b"".join(struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


def many_scans(scans: int) -> bytes:
    """A progressive JPEG whose last scan is repeated: each costs a pass over the whole picture (libjpeg-turbo's LJT-01-004)."""
    data = saved(picture(size=(64, 64)), "JPEG", progressive=True)
    start, end = data.rindex(b"\xff\xda"), data.rindex(b"\xff\xd9")
    return data[:start] + scans * data[start:end] + data[end:]


def images() -> dict[str, tuple[bytes, bool]]:
    """Bytes by name, and whether a server should answer."""
    good = {
        "cmyk.jpg": saved(picture("CMYK"), "JPEG"),
        "grey.jpg": saved(picture("L"), "JPEG"),
        "progressive.jpg": saved(picture(), "JPEG", progressive=True),
        "grey16.png": saved(Image.fromarray(np.asarray(picture("L"), np.uint16) * 257), "PNG"),
        "one-bit.png": saved(picture("1"), "PNG"),
        "grey-alpha.png": saved(picture("LA"), "PNG"),
        "alpha.png": saved(picture("RGBA"), "PNG"),
        "palette.png": saved(picture("P"), "PNG"),
        "palette-transparent.png": saved(picture("P"), "PNG", transparency=0),
        "one-pixel.png": saved(picture(size=(1, 1)), "PNG"),
        "thin.png": saved(picture(size=(300, 1)), "PNG"),
        "animated.webp": saved(picture(), "WEBP", save_all=True, append_images=[picture().rotate(90)]),
        "animated.png": saved(picture(), "PNG", save_all=True, append_images=[picture().rotate(90)]),
        **{f"orientation-{n}.jpg": oriented("JPEG", n) for n in range(2, 9)},
        **{f"orientation-{n}.webp": oriented("WEBP", n) for n in (3, 6)},
    }
    jpeg, png = saved(picture(size=(64, 64)), "JPEG"), saved(picture(size=(64, 64)), "PNG")
    bad = {
        "empty.jpg": b"",
        "text.jpg": b"this is no picture",
        "truncated.jpg": jpeg[: len(jpeg) // 2],
        "head-only.jpg": jpeg[:20],
        "truncated.png": png[: len(png) // 2],
        "broken-checksum.png": png[:-20] + bytes([png[-20] ^ 0xFF]) + png[-19:],
        "bomb.png": png_that_claims(60_000, 60_000),
        "no-pixels.png": png_that_claims(0, 10),
        "picture.gif": saved(picture("P"), "GIF"),
        "picture.bmp": saved(picture(), "BMP"),
        "picture.tiff": saved(picture(), "TIFF"),
        "page.svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
    }
    return {**{name: (data, True) for name, data in good.items()}, **{name: (data, False) for name, data in bad.items()}}


def model(edit: Callable[[onnx.ModelProto], object]) -> bytes:
    """A minimal classifier of the served form (`image` UINT8 to `logits` FP32), edited."""
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", 32, 32, 3])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])
    weights = helper.make_tensor("w", TensorProto.FLOAT, [3, 10], [0.0] * 30)
    nodes = [
        helper.make_node("Cast", ["image"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["f"], ["m"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["m", "w"], ["logits"]),
    ]
    proto = helper.make_model(helper.make_graph(nodes, "g", [image], [logits], [weights]), opset_imports=[helper.make_opsetid("", 17)])
    edit(proto)
    return bytes(proto.SerializeToString())


def set_weights(proto: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    """Replace the weights."""
    proto.graph.initializer[0].CopyFrom(tensor)


def outside_data() -> onnx.TensorProto:
    """Weights that are said to be in a file outside the model's folder."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3, 10], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../../../../../../etc/passwd")
    return tensor


def models() -> dict[str, bytes]:
    """Files that no server may load."""
    whole = model(lambda _: None)
    return {
        "empty.onnx": b"",
        "text.onnx": b"this is no model",
        "truncated.onnx": whole[: len(whole) // 2],
        "no-opset.onnx": model(lambda proto: proto.ClearField("opset_import")),
        "future-opset.onnx": model(lambda proto: setattr(proto.opset_import[0], "version", 9999)),
        "no-graph.onnx": model(lambda proto: proto.ClearField("graph")),
        "unknown-operator.onnx": model(lambda proto: setattr(proto.graph.node[2], "op_type", "Teleport")),
        "foreign-domain.onnx": model(lambda proto: setattr(proto.graph.node[2], "domain", "com.example")),
        "cycle.onnx": model(lambda proto: proto.graph.node[0].input.__setitem__(0, "m")),
        "missing-weights.onnx": model(lambda proto: proto.graph.ClearField("initializer")),
        "short-weights.onnx": model(lambda proto: set_weights(proto, TensorProto(name="w", data_type=1, dims=[3, 10], raw_data=bytes(8)))),
        "huge-weights.onnx": model(lambda proto: set_weights(proto, TensorProto(name="w", data_type=1, dims=[2**31, 2**31], raw_data=b""))),
        "outside-data.onnx": model(lambda proto: set_weights(proto, outside_data())),
    }


def main() -> None:
    """Write all files and the index."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    index = {}
    for name, (data, answered) in images().items():
        (FOLDER / name).write_bytes(data)
        index[name] = "answered" if answered else "refused"
    for name, data in models().items():
        (FOLDER / name).write_bytes(data)
        index[name] = "refused"
    (FOLDER / "many-scans.jpg").write_bytes(many_scans(200))
    (FOLDER / "index.json").write_text(json.dumps(index, indent=2) + "\n")


if __name__ == "__main__":
    main()
