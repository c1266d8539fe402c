"""Pictures that resizing changes as it changes photographs: large forms, edges and fine grain, in sizes people have."""

import io

import numpy as np
from PIL import Image

SIZES = [(320, 240), (240, 320), (500, 333), (300, 200), (225, 225), (640, 200), (257, 256), (199, 301), (96, 96), (180, 260)]


def photograph(index: int) -> Image.Image:
    """The same picture for the same index."""
    random = np.random.default_rng(index)
    width, height = SIZES[index % len(SIZES)]
    coarse = Image.fromarray(random.integers(0, 256, (5, 6, 3), dtype=np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(coarse, np.float32)
    rows, columns = np.mgrid[:height, :width]
    stripes = 40 * np.sign(np.sin(columns / random.uniform(2, 9) + rows / random.uniform(2, 9)))
    grain = random.normal(0, 20, pixels.shape)
    return Image.fromarray(np.clip(pixels + stripes[..., None] + grain, 0, 255).astype(np.uint8))


def encoded(index: int) -> bytes:
    """JPEG, PNG and WebP in turns."""
    buffer = io.BytesIO()
    photograph(index).save(buffer, ("JPEG", "PNG", "WEBP")[index % 3], quality=95)
    return buffer.getvalue()
