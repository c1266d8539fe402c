"""How often a network that computes worse than it should passes a certificate's decision or its replay: drawn from a real network."""

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from resnet_proto.answers import same_answers
from resnet_proto.certificate import POLICIES, violations
from resnet_proto.manifest import read_manifest
from resnet_proto.manifest_pb2 import Certificate
from resnet_proto.sample_check import Expected, check_sample
from rich.table import Table

from resnet_export.errors import ExportError
from resnet_export.images import bundled
from resnet_export.replay import REPLAY_IMAGES
from resnet_export.runtime import Logits, open_session, run_in_batches

WORSE = (0.99, 0.97, 0.95, 0.90)
DRAWS = 2_000
OLD_REPLAY = 64
CERTIFIED_ON = 368
BATCH = 64
STEPS = 30
STEPS_OF_WEIGHTS = 10
MOST_WEIGHTS = 0.5
Spoil = Callable[["Network", float, np.random.Generator], Logits]


@dataclass(frozen=True)
class Network:
    """Logits FP32 [n, classes] of a version's fp32 and INT8 files on the bundled images, the latter's file and certificate."""

    reference: Logits
    own: Logits
    file: Path
    certificate: Certificate


@dataclass(frozen=True)
class Row:
    """How often each of WORSE passes: what is wrong, on how many images, and what decides."""

    wrong: str
    images: int
    decided_by: str
    passes: tuple[float, ...]


@dataclass(frozen=True)
class ReplayPower:
    """Of one published version, with the agreement that was reached for each of WORSE."""

    network: str
    draws: int
    agreements: tuple[float, ...]
    rows: tuple[Row, ...]

    def as_object(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def measure_network(version: Path) -> Network:
    """Run both files of a version; raise ExportError if it lacks one or takes other images than the bundled ones."""
    manifest = read_manifest(version)
    artifacts = {artifact.precision: artifact for artifact in manifest.artifacts}
    images = bundled("certification").images
    if not {"fp32", "int8"} <= artifacts.keys() or images.shape[1:3] != (manifest.input.height, manifest.input.width):
        raise ExportError(f"version: {version}; expected fp32 and int8 of a network of 32x32 pixels")
    reference, own = (run_in_batches(open_session(version / artifacts[name].file), images, BATCH) for name in ("fp32", "int8"))
    return Network(reference, own, version / artifacts["int8"].file, artifacts["int8"].certificate)


def agreement_of(network: Network, logits: Logits) -> float:
    """Share of images with the reference's answer."""
    return float(same_answers(logits, network.reference).mean())


def lowered(network: Network, agreement: float, spoiled: Callable[[float], Logits], most: float, steps: int) -> Logits:
    """What `spoiled` gives for the least amount, up to `most`, that brings the agreement down to the one given."""
    low, high = 0.0, most
    for _ in range(steps):
        middle = (low + high) / 2
        above = agreement_of(network, spoiled(middle)) > agreement
        low, high = (middle, high) if above else (low, middle)
    return spoiled(high)


def noisy_logits(network: Network, agreement: float, dice: np.random.Generator) -> Logits:
    """INT8's logits with noise on all images."""
    noise = dice.standard_normal(network.own.shape).astype(np.float32)
    return lowered(network, agreement, lambda amount: network.own + np.float32(amount) * noise, 100.0, STEPS)


def some_images(network: Network, agreement: float, dice: np.random.Generator) -> Logits:
    """INT8's logits, but for as many images answered by another's logits as bring the agreement down."""
    logits, order = network.own.copy(), dice.permutation(len(network.own))
    for image in order:
        if agreement_of(network, logits) <= agreement:
            break
        logits[image] = np.roll(network.own[image], 1)
    return logits


def other_weights(network: Network, agreement: float, dice: np.random.Generator) -> Logits:
    """What the file computes when a share of its INT8 weights is off by up to 16 of 127, and the logits of the images it then gives."""
    images = bundled("certification").images
    model = onnx.load(network.file)
    weights = [tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) == 4]
    kept = [numpy_helper.to_array(tensor).copy() for tensor in weights]
    rolls = [(dice.random(one.shape), dice.integers(-16, 17, one.shape) * (one != 0)) for one in kept]  # zeros stand for channels not there

    def spoiled(share: float) -> Logits:
        for tensor, one, (chance, off) in zip(weights, kept, rolls, strict=True):
            moved = np.clip(one.astype(np.int64) + off * (chance < share), -127, 127).astype(np.int8)
            tensor.CopyFrom(numpy_helper.from_array(moved, tensor.name))
        with tempfile.TemporaryDirectory() as folder:
            onnx.save(model, Path(folder) / "spoiled.onnx")
            return run_in_batches(open_session(Path(folder) / "spoiled.onnx"), images, BATCH)

    return lowered(network, agreement, spoiled, MOST_WEIGHTS, STEPS_OF_WEIGHTS)


WRONG: dict[str, Spoil] = {
    "weights: a share is off by up to an eighth of the range": other_weights,
    "all logits, a little": noisy_logits,
    "some images, wholly": some_images,
}


def certified(network: Network, logits: Logits, rows: NDArray[np.int64]) -> bool:
    """Whether policy int8 would let these images certify these logits; they count as unlabelled."""
    flips = int((~same_answers(logits[rows], network.reference[rows])).sum())
    made = Certificate(policy=POLICIES["int8"], images=len(rows), batch_sizes=[BATCH], flips=flips, decided_flips=flips)
    made.top1_agreement = 1 - flips / len(rows)
    return not violations(made)


def replayed(network: Network, logits: Logits, rows: NDArray[np.int64], own: bool) -> bool:
    """Whether a replay of these images lets these logits pass, held to the artifact's own logits too or to the reference only."""
    expected = Expected(network.reference[rows], network.own[rows] if own else None, network.certificate)
    return not check_sample(logits[rows], expected).broken


DECIDED_BY: dict[str, tuple[int, Callable[[Network, Logits, NDArray[np.int64]], bool]]] = {
    "certificate": (CERTIFIED_ON, certified),
    "replay, the reference's logits only": (OLD_REPLAY, lambda network, logits, rows: replayed(network, logits, rows, own=False)),
    "replay, its own logits too": (REPLAY_IMAGES, lambda network, logits, rows: replayed(network, logits, rows, own=True)),
}


def measure_replay(version: Path, draws: int = DRAWS) -> ReplayPower:
    """Draw samples of the bundled images without replacement, and let each decide; raise ExportError as `measure_network` does."""
    network, dice = measure_network(version), np.random.default_rng(0)
    rows = []
    for wrong, spoil in WRONG.items():
        spoiled = [spoil(network, agreement, dice) for agreement in WORSE]
        for name, (images, decide) in DECIDED_BY.items():
            shares = tuple(
                sum(decide(network, logits, dice.choice(len(logits), images, replace=False)) for _ in range(draws)) / draws
                for logits in spoiled
            )
            rows.append(Row(wrong, images, name, shares))
    return ReplayPower(f"{version.parent.name} int8", draws, WORSE, tuple(rows))


def header(power: ReplayPower) -> list[str]:
    """Titles of the table's columns."""
    return ["what is wrong", "decided by", "images", *(f"{agreement:.0%}" for agreement in power.agreements)]


def cells(power: ReplayPower) -> list[list[str]]:
    """The table's rows."""
    return [[row.wrong, row.decided_by, f"{row.images:,}", *(f"{share:.2%}" for share in row.passes)] for row in power.rows]


def replay_table(power: ReplayPower) -> Table:
    """For people."""
    table = Table(title=f"{power.network}: passes, of {power.draws:,} samples, when its agreement has fallen to", title_justify="left")
    for index, column in enumerate(header(power)):
        table.add_column(column, justify="left" if index < 2 else "right")
    for row in cells(power):
        table.add_row(*row)
    return table
