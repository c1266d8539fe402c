"""What calls return."""

from dataclasses import dataclass

from resnet_client.errors import ClientError


@dataclass(frozen=True)
class Label:
    """A class with its softmax probability, 0..1."""

    index: int
    name: str
    probability: float
    logit: float


@dataclass(frozen=True)
class Execution:
    """How the call was computed; `batch_rows` counts the rows of the batch it shared, times are in seconds.

    Of a group, `network` is the one that answered, `accuracy` its own as certified, 0..1, and `reason` why it was chosen.
    """

    provider: str
    precision: str
    certificate_id: str
    batch_rows: int
    decode_seconds: float
    queue_seconds: float
    compute_seconds: float
    network: str = ""
    accuracy: float | None = None
    reason: str = ""


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
class Outcome:
    """What became of one image of a stream: `prediction`, or `error` where there is none.

    `index` is its place in what was given, `source` its path if it has one.
    """

    index: int
    source: str | None
    prediction: Prediction | None = None
    error: ClientError | None = None

    def get(self) -> Prediction:
        """The prediction; raise the error where there is none."""
        if self.prediction is None:
            raise self.error or ClientError("neither a prediction nor an error")
        return self.prediction


@dataclass(frozen=True)
class Member:
    """A network of a group; `accuracy` is top-1 as certified, 0..1."""

    name: str
    version: str
    precision: str
    certificate_id: str
    depth: int
    accuracy: float


@dataclass(frozen=True)
class ModelInfo:
    """A published version; `reason` says why where it is not `ready`, and the other facts are empty then.

    `accuracy` is top-1 in percent on `accuracy_images`, None if unknown; `agreement` is the certificate's, 0..1. A group has neither,
    but `members`, from the cheapest to the most accurate, each with a certificate of its own.
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
    members: tuple[Member, ...] = ()
