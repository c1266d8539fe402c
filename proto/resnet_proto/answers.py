"""What a row of logits answers, and by how much: shared by certificates, their replay and the exporter."""

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]


def same_answers(left: Logits, right: Logits, *, multi_label: bool = False) -> NDArray[np.bool_]:
    """BOOL [n]: whether two FP32 [n, classes] have the same best class, or with `multi_label` the same labels above 0."""
    if multi_label:
        return np.asarray(((left > 0) == (right > 0)).all(axis=1))
    return np.asarray(left.argmax(axis=1) == right.argmax(axis=1))


def can_flip(reference: Logits, bound: float | None, *, multi_label: bool = False) -> NDArray[np.bool_]:
    """BOOL [n]: near-ties, which an error of at most `bound` in every logit may turn; none where no bound is given.

    Two classes must be closer than twice the bound, since both may move; a label on its own must be closer than the bound to 0.
    """
    if bound is None:
        return np.zeros(len(reference), bool)
    if multi_label:
        return np.asarray(np.abs(reference).min(axis=1) <= bound)
    if reference.shape[1] < 2:
        return np.zeros(len(reference), bool)
    best = np.partition(reference, -2, axis=1)[:, -2:]
    return np.asarray(best[:, 1] - best[:, 0] <= 2 * bound)


def spread(reference: Logits) -> float:
    """Standard deviation of an image's logits over its classes, root mean square over images; of one class, over images."""
    values = reference.astype(np.float64)
    axis = 1 if values.shape[1] > 1 else 0
    return float(np.sqrt(np.square(values - values.mean(axis=axis, keepdims=True)).mean()))
