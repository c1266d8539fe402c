"""What calls return."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Label:
    """A class with its softmax probability, 0..1."""

    index: int
    name: str
    probability: float
    logit: float


@dataclass(frozen=True)
class Execution:
    """How the call was computed; `batch_rows` counts the rows of the batch it shared, times are in seconds."""

    provider: str
    precision: str
    certificate_id: str
    batch_rows: int
    decode_seconds: float
    queue_seconds: float
    compute_seconds: float


@dataclass(frozen=True)
class Prediction:
    """The answer for one image: labels, most probable first, and the model that gave it."""

    labels: tuple[Label, ...]
    model: str
    version: str
    execution: Execution

    @property
    def best(self) -> Label:
        """The most probable label."""
        return self.labels[0]


@dataclass(frozen=True)
class ModelInfo:
    """A published version; `reason` says why where it is not `ready`, and the other facts are empty then.

    `accuracy` is top-1 in percent on `accuracy_images`, None if unknown; `agreement` is the certificate's, 0..1.
    """

    name: str
    version: str
    ready: bool
    reason: str
    variant: str
    precision: str
    provider: str
    input_size: int
    classes: int
    parameters: int
    multiply_adds: int
    accuracy: float | None
    accuracy_images: str
    certificate_id: str
    agreement: float | None
    max_batch_rows: int
