"""Class labels: the built-in CIFAR-10 names, and label files of one name a line."""

from pathlib import Path

from resnet_models.errors import DataError

CIFAR10_LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def read_labels(path: Path) -> tuple[str, ...]:
    """Read a UTF-8 file with one label a line, in class order; raise DataError if it holds none."""
    try:
        labels = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"labels: {path} cannot be read: {error}") from None
    if not labels:
        raise DataError(f"labels: {path} holds no label; expected one name a line")
    return labels
