"""What a photograph costs before it is an image of the network, by Pillow's JPEG decoder and by simplejpeg's, and whether pixels agree.

`pip install simplejpeg; python docs/decisions/0012-jpeg.py FOLDER`, with a folder of JPEGs. Prints milliseconds of processor a photograph,
median [range], and how many pictures agree: the photographs, and all of them again in other qualities and subsamplings, progressive, odd
in size, grey, and with bytes that were changed, where both decode them.
"""

import io
import itertools
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import simplejpeg  # type: ignore[import-not-found, unused-ignore]  # only for this comparison
from PIL import Image
from resnet_bench.report.tables import shown
from resnet_bench.stats import Summary

SIZE, REPEATS, DAMAGED = 256, 7, 10
FORMS = (30, 75, 95, 100), ("4:4:4", "4:2:2", "4:2:0", "4:1:1"), (0, 1), (0, 1)


def by_pillow(data: bytes) -> Image.Image:
    """Decoded as the server does."""
    return Image.open(io.BytesIO(data)).convert("RGB")


def by_simplejpeg(data: bytes) -> Image.Image:
    """Decoded by libjpeg-turbo's own interface; raises ValueError for whatever libjpeg has something to say of."""
    return Image.fromarray(simplejpeg.decode_jpeg(data, "RGB", strict=True))


def variants(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The photograph in other forms."""
    picture = by_pillow(data)
    yield "as it is", data
    for quality, subsampling, progressive, odd in itertools.product(*FORMS):
        file = io.BytesIO()
        cut = picture.crop((0, 0, picture.width - odd, picture.height - odd))
        cut.save(file, "JPEG", quality=quality, subsampling=subsampling, progressive=bool(progressive))
        yield "other forms", file.getvalue()
    for mode in ("L", "CMYK"):
        file = io.BytesIO()
        picture.convert(mode).save(file, "JPEG")
        yield mode, file.getvalue()
    random = np.random.default_rng(len(data))
    for _ in range(DAMAGED):
        damaged = bytearray(data)
        for place in random.integers(200, len(data), 3):
            damaged[place] = random.integers(256)
        yield "damaged", bytes(damaged)


def verdict(data: bytes) -> str:
    """What the two make of it."""
    try:
        other = np.asarray(by_simplejpeg(data))
    except ValueError:
        return "left to Pillow"
    try:
        mine = np.asarray(by_pillow(data))
    except OSError:
        return "decoded by simplejpeg only"
    return "same pixels" if mine.shape == other.shape and (mine == other).all() else "other pixels"


def milliseconds(decode: Callable[[bytes], Image.Image], files: list[bytes]) -> float:
    """Of processor for a photograph, decoded and resized."""
    began = time.process_time()
    for data in files:
        decode(data).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    return 1e3 * (time.process_time() - began) / len(files)


def main() -> None:
    """Compare them on the folder that is named."""
    files = [path.read_bytes() for path in sorted(Path(sys.argv[1]).iterdir()) if path.suffix.lower() in (".jpg", ".jpeg")]
    found = Counter((kind, verdict(form)) for data in files for kind, form in variants(data))
    for (kind, what), count in sorted(found.items()):
        print(f"{kind}: {count:,} {what}")
    times: dict[str, list[float]] = {"Pillow": [], "simplejpeg": []}
    for _ in range(REPEATS):
        times["Pillow"].append(milliseconds(by_pillow, files))
        times["simplejpeg"].append(milliseconds(by_simplejpeg, files))
    for name, values in times.items():
        cost = shown(Summary.of(values), 3)
        print(f"{name}, decoded and resized to {SIZE}x{SIZE}: {cost} ms of processor for each of {len(files)} photographs")


if __name__ == "__main__":
    main()
