"""How often a network that is worse than a policy asks would pass: when it is certified, and when its certificate is replayed."""

import bisect
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from resnet_proto.answers import same_answers
from resnet_proto.certificate import POLICIES
from resnet_proto.intervals import binomial_cdf, share_interval
from resnet_proto.manifest import read_manifest
from resnet_proto.manifest_pb2 import Certificate
from resnet_proto.sample_check import Expected, check_sample
from rich.table import Table

from resnet_export.errors import ExportError
from resnet_export.images import bundled
from resnet_export.replay import REPLAY_IMAGES
from resnet_export.runtime import Logits, open_session, run_in_batches

IMAGES = (100, 368, 1_000, 5_000, 10_000, 50_000)
AGREEMENTS = (0.999, 0.995, 0.99, 0.988, 0.98, 0.95)
WORSE = (0.99, 0.97, 0.95, 0.90)
DRAWS = 2_000
OLD_REPLAY = 64
BATCH = 64


def most_flips(images: int, agreement: float, confidence: float) -> int:
    """The most images with another answer that still show the agreement; -1 where none would."""
    return bisect.bisect(range(images + 1), False, key=lambda flips: share_interval(images - flips, images, confidence)[0] < agreement) - 1


def certification_table() -> Table:
    """Probability that a network of a true agreement gets an INT8 certificate, exactly, by the number of images."""
    policy = POLICIES["int8"]
    table = Table(title=f"passes policy int8 ({policy.min_top1_agreement:.0%}) at a true agreement of", title_justify="left")
    for column in ("images", "flips allowed", *(f"{agreement:.1%}" for agreement in AGREEMENTS)):
        table.add_column(column, justify="right")
    for images in IMAGES:
        flips = most_flips(images, policy.min_top1_agreement, policy.confidence) if images >= policy.min_images else -1
        chances = [f"{binomial_cdf(flips, images, 1 - agreement):.2%}" if flips >= 0 else "0" for agreement in AGREEMENTS]
        table.add_row(f"{images:,}", str(flips) if flips >= 0 else "refused", *chances)
    return table


@dataclass(frozen=True)
class Network:
    """Logits FP32 [n, classes] of a version's fp32 and INT8 files on the bundled images, and the latter's certificate."""

    reference: Logits
    own: Logits
    certificate: Certificate


def measure_network(version: Path) -> Network:
    """Run both files of a version; raise ExportError if it lacks one or takes other images than the bundled ones."""
    manifest = read_manifest(version)
    artifacts = {artifact.precision: artifact for artifact in manifest.artifacts}
    images = bundled("certification").images
    if not {"fp32", "int8"} <= artifacts.keys() or images.shape[1:3] != (manifest.input.height, manifest.input.width):
        raise ExportError(f"version: {version}; expected fp32 and int8 of a network of 32x32 pixels")
    reference, own = (run_in_batches(open_session(version / artifacts[name].file), images, BATCH) for name in ("fp32", "int8"))
    return Network(reference, own, artifacts["int8"].certificate)


def general(network: Network, agreement: float, dice: np.random.Generator) -> Logits:
    """INT8's logits with noise on all images, as much as brings the agreement with fp32 down to the one given."""
    noise = dice.standard_normal(network.own.shape).astype(np.float32)
    low, high = 0.0, 100.0
    for _ in range(30):
        middle = (low + high) / 2
        above = same_answers(network.own + np.float32(middle) * noise, network.reference).mean() > agreement
        low, high = (middle, high) if above else (low, middle)
    return network.own + np.float32(high) * noise


def sparse(network: Network, agreement: float, dice: np.random.Generator) -> Logits:
    """INT8's logits, but for as many images answered by another's logits as bring the agreement down to the one given."""
    logits, order = network.own.copy(), dice.permutation(len(network.own))
    for image in order:
        if same_answers(logits, network.reference).mean() <= agreement:
            break
        logits[image] = np.roll(network.own[image], 1)
    return logits


def passing(network: Network, logits: Logits, images: int, own: bool, dice: np.random.Generator) -> float:
    """Share of random samples of `images` that pass a replay, with the artifact's own logits or against the reference only."""
    passed = 0
    for _ in range(DRAWS):
        rows: NDArray[np.int64] = dice.choice(len(logits), images, replace=False)
        expected = Expected(network.reference[rows], network.own[rows] if own else None, network.certificate)
        passed += not check_sample(logits[rows], expected).broken
    return passed / DRAWS


def replay_table(network: Network) -> Table:
    """Probability that a file which computes worse where it is served passes the replay, by simulation."""
    dice = np.random.default_rng(0)
    table = Table(title=f"passes the replay, of {DRAWS:,} samples", title_justify="left")
    for column in ("images", "compared with", "what is wrong", *(f"{agreement:.0%}" for agreement in WORSE)):
        table.add_column(column, justify="left" if column.startswith(("comp", "what")) else "right")
    for name, spoil in (("all logits, a little", general), ("some images, wholly", sparse)):
        spoiled = [spoil(network, agreement, dice) for agreement in WORSE]
        for images, own in ((OLD_REPLAY, False), (REPLAY_IMAGES, True)):
            chances = [f"{passing(network, logits, images, own, dice):.2%}" for logits in spoiled]
            table.add_row(str(images), "its own logits" if own else "the reference", name, *chances)
    return table
