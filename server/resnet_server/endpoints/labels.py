"""The likeliest classes of an answer, and how many labels one answer may hold."""

import numpy as np
from numpy.typing import NDArray

from resnet_server.errors import InvalidRequestError

MOST_LABELS = 8192
"""Of one answer, images times labels an image: as many take some 20 ms to write, in which the thread does nothing else."""


def check_labels(field: str, top_k: int, classes: int, images: int) -> None:
    """Raise InvalidRequestError, naming `field`, for more labels an image than classes, or more in all than an answer may hold."""
    if top_k > classes:
        raise InvalidRequestError(f"{field}: {top_k}; expected at most {classes}, the number of classes")
    if top_k * images > MOST_LABELS:
        raise InvalidRequestError(f"{field}: {top_k} for {images} images; expected at most {MOST_LABELS} labels in one answer")


def first_classes(logits: NDArray[np.float32], top_k: int) -> NDArray[np.intp]:
    """Indices of the `top_k` largest of FP32 [classes], largest first, and of equal ones the lowest index first."""
    least = np.partition(logits, len(logits) - top_k)[len(logits) - top_k]
    candidates = np.flatnonzero(logits >= least)
    return candidates[np.argsort(-logits[candidates], kind="stable")[:top_k]]
