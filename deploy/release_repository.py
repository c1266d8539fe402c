"""`make release-repository DATA=DIR`: publish the bundled networks, certified on all CIFAR-10 test images, as the released repository.

The bundled sample of 1,000 images is too small to show that INT8 loses at most half a point: its interval is wider than that. DIR is
what `resnet-train fit --data` takes. What is published already, whole and of the same checkpoint, is left as it is.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from resnet_models.data import load_cifar10
from resnet_models.labels import CIFAR10_LABELS
from resnet_networks import REPOSITORY

NETWORKS = "resnet20,resnet32,resnet44,resnet56,smallresnet"  # the plain ones are for teaching


def main() -> None:
    """Write the test images as files, which is what `resnet-export publish` takes, and publish on them."""
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "cifar10-test"
        write_images(Path(sys.argv[1]), images)
        environment = {"RESNET_NETWORKS": NETWORKS, "RESNET_PRECISIONS": "fp32,int8"} | os.environ | {"RESNET_IMAGES": str(images)}
        job = Path(__file__).parent / "image" / "publish_bundled.py"
        sys.exit(subprocess.run([sys.executable, str(job), str(REPOSITORY)], env=environment, check=False).returncode)


def write_images(data: Path, folder: Path) -> None:
    """The test split as CLASS/NUMBER.png, without loss."""
    test = load_cifar10(data).test
    for name in CIFAR10_LABELS:
        (folder / name).mkdir(parents=True)
    for number, (pixels, label) in enumerate(zip(test.x, test.y, strict=True)):
        image = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
        image.save(folder / CIFAR10_LABELS[int(label)] / f"{number:05d}.png")


if __name__ == "__main__":
    main()
