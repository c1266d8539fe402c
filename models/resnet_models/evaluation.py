"""What trained networks get wrong, image by image: the record that paired tests are made from."""

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from resnet_models.checkpoint import load_checkpoint
from resnet_models.data import Images
from resnet_models.errors import DataError
from resnet_models.evaluate import mirrored_mean, predict
from resnet_models.files import write_text_atomically

FORMAT = 1


@dataclass(frozen=True)
class Evaluation:
    """One network on one set of images, un-augmented, in eval mode and fp32; `wrong_bits` is base64 of one bit an image, in order.

    `recipe` and `seed` are those it was trained with; with `flip` the answers are of the mean logits of each image and its mirror image.
    """

    network: str
    seed: int | None
    checkpoint_sha256: str
    images: int
    wrong: int
    wrong_bits: str
    recipe: str = ""
    flip: bool = False

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

    def of(self, network: str, *, flip: bool = False) -> Evaluation:
        """The network's first evaluation; raise DataError if there is none."""
        for evaluation in self.evaluations:
            if evaluation.network == network and evaluation.flip == flip:
                return evaluation
        known = ", ".join(e.network for e in self.evaluations)
        raise DataError(f"network: '{network}' was not evaluated{' with --flip' * flip}; expected one of {known}")

    def of_file(self, sha256: str) -> Evaluation | None:
        """The evaluation of the checkpoint file with that digest, if there is one."""
        return next((one for one in self.evaluations if one.checkpoint_sha256 == sha256 and not one.flip), None)


def evaluate_checkpoints(
    paths: Sequence[Path],
    images: Images,
    out: Path,
    on_network: Callable[[Evaluation], None],
    *,
    flip: bool = False,
    command: str = "",
) -> EvaluationSet:
    """Evaluate each checkpoint on the same images into `out`; with `flip` twice, without and with.

    What `out` has of the same images and files is kept, so that an interrupted command continues. Raises CheckpointError for a file that
    is none, DataError where `out` is of other images.
    """
    digest = images.digest()
    found = EvaluationSet(images.rows, digest, torch.__version__, torch.get_num_threads(), ())
    if out.exists():
        found = read_evaluations(out)
        if found.rows_sha256 != digest:
            raise DataError(f"out: {out} is of {found.rows}; expected {images.rows}, or another --out")
    known = {(one.checkpoint_sha256, one.flip) for one in found.evaluations}
    for path in paths:
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        if all((sha256, mirrored) in known for mirrored in {False, flip}):
            continue
        rows = [row for row in _evaluate(path, sha256, images, flip=flip) if (sha256, row.flip) not in known]
        found = replace(found, evaluations=(*found.evaluations, *rows))
        write_evaluations(found, command, out)
        for row in rows:
            on_network(row)
    return found


def _evaluate(path: Path, sha256: str, images: Images, *, flip: bool) -> list[Evaluation]:
    checkpoint = load_checkpoint(path)
    network, info = checkpoint.network, checkpoint.info
    logits = predict(network, images.x, info.normalisation)
    answers = [logits, mirrored_mean(network, images.x, logits, info.normalisation)] if flip else [logits]
    rows = []
    for mirrored, logits in enumerate(answers):
        wrong = (logits.argmax(1) != images.y).numpy()
        bits = base64.b64encode(np.packbits(wrong).tobytes()).decode("ascii")
        rows.append(Evaluation(info.variant, info.seed, sha256, len(wrong), int(wrong.sum()), bits, info.recipe, bool(mirrored)))
    return rows


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
