"""What trained networks get wrong, image by image: the record that paired tests are made from."""

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from resnet_models.checkpoint import load_checkpoint
from resnet_models.data import Images
from resnet_models.errors import DataError
from resnet_models.evaluate import predict
from resnet_models.files import write_text_atomically

FORMAT = 1


@dataclass(frozen=True)
class Evaluation:
    """One network on one set of images, un-augmented, in eval mode and fp32; `wrong_bits` is base64 of one bit an image, in order."""

    network: str
    seed: int | None
    checkpoint_sha256: str
    images: int
    wrong: int
    wrong_bits: str

    @property
    def error(self) -> float:
        """Top-1 error in percent."""
        return 100 * self.wrong / self.images

    def wrong_images(self) -> NDArray[np.bool_]:
        """BOOL [images], True where the answer was wrong."""
        return np.unpackbits(np.frombuffer(base64.b64decode(self.wrong_bits), np.uint8), count=self.images).astype(bool)


@dataclass(frozen=True)
class EvaluationSet:
    """Evaluations on the same images; `rows` and `rows_sha256` say which."""

    rows: str
    rows_sha256: str
    torch_version: str
    threads: int
    evaluations: tuple[Evaluation, ...]

    def of(self, network: str) -> Evaluation:
        """The network's evaluation; raise DataError if there is none."""
        for evaluation in self.evaluations:
            if evaluation.network == network:
                return evaluation
        raise DataError(f"network: '{network}' was not evaluated; expected one of {', '.join(e.network for e in self.evaluations)}")


def evaluate_checkpoints(paths: Sequence[Path], images: Images, on_network: Callable[[Evaluation], None]) -> EvaluationSet:
    """Evaluate each checkpoint on the same images; raise CheckpointError for a file that is none."""
    done = []
    for path in paths:
        checkpoint = load_checkpoint(path)
        wrong = (predict(checkpoint.network, images.x, checkpoint.info.normalisation).argmax(1) != images.y).numpy()
        bits = base64.b64encode(np.packbits(wrong).tobytes()).decode("ascii")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        done.append(Evaluation(checkpoint.info.variant, checkpoint.info.seed, digest, len(wrong), int(wrong.sum()), bits))
        on_network(done[-1])
    return EvaluationSet(images.rows, images.digest(), torch.__version__, torch.get_num_threads(), tuple(done))


def write_evaluations(found: EvaluationSet, command: str, path: Path) -> None:
    """Write JSON, with the command that made it."""
    write_text_atomically(path, json.dumps({"format": FORMAT, "command": command, **asdict(found)}, indent=1) + "\n")


def read_evaluations(path: Path) -> EvaluationSet:
    """Read what `write_evaluations` wrote; raise DataError saying what is wrong with it."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("format") != FORMAT:
            raise DataError(f"evaluations: {path} has another format than {FORMAT}")
        content.pop("command")
        rows = tuple(Evaluation(**row) for row in content.pop("evaluations"))
        return EvaluationSet(**content, evaluations=rows)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"evaluations: {path} cannot be read: {error!r}") from None
