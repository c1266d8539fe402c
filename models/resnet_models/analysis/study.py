"""All measurements of one residual network beside its plain twin and its family, as they are kept in a JSON file."""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resnet_models.analysis.gradients import GradientProfile, gradient_correlation, gradient_profile
from resnet_models.analysis.lesions import LesionPlan, Lesions, lesions, read_lesions, read_plan
from resnet_models.analysis.material import material
from resnet_models.analysis.paths import PathSamples, PathSums, path_samples, path_sums
from resnet_models.analysis.responses import Responses, layer_responses
from resnet_models.analysis.walk import settled, without_normalisation
from resnet_models.checkpoint import Checkpoint
from resnet_models.errors import DataError, ResnetModelsError
from resnet_models.files import write_text_atomically
from resnet_models.labels import CIFAR10_LABELS
from resnet_models.network import build
from resnet_models.sample import load_sample

INITIAL_SEEDS = 3
GRADIENT_IMAGES = 64
PATH_IMAGES = 8
PATH_DRAWS = 6
LINE_PAIRS, LINE_STEPS = 4, 24
LESION_DRAWS = 5
SHALLOW = "20"


@dataclass(frozen=True)
class Study:
    """What was measured.

    `initial`: by network and kind (`batch norm`, `no norm`), a profile for each seed at initialisation; `trained`: by network, after
    training, statistics as in training; `correlations`: by network, for each seed the correlation by distance at initialisation.
    """

    command: str
    name: str
    twin: str
    images: int
    source: str
    initial: dict[str, list[GradientProfile]]
    trained: dict[str, GradientProfile]
    correlations: dict[str, list[list[float]]]
    sums: PathSums
    samples: PathSamples
    lesions: dict[str, Lesions]
    responses: dict[str, Responses]


def run_study(
    checkpoint: Checkpoint, twin: Checkpoint | None, family: Sequence[Checkpoint], count: int, seed: int, on_step: Callable[[str], None]
) -> Study:
    """Measure on `count` bundled test images; a quarter of an hour for ResNet-56 with its twin on one core, a minute for ResNet-20.

    `family`: further networks whose layer responses are compared. Raises ResnetModelsError for networks this does not fit.
    """
    name = checkpoint.network.variant.name
    twin_name = name.replace("resnet", "plain")
    check(checkpoint, twin, twin_name)
    found = material(count, seed, checkpoint.info.normalisation)
    few, few_labels = found.images[:GRADIENT_IMAGES], found.labels[:GRADIENT_IMAGES]
    trained = {name: checkpoint, **({twin_name: twin} if twin else {})}
    on_step("gradients at initialisation")
    initial, correlations = at_initialisation(name, twin_name, few, few_labels, seed)
    on_step("gradients after training")
    profiles = {key: gradient_profile(one.network, few, few_labels, batch_statistics=True) for key, one in trained.items()}
    on_step("paths")
    sums = path_sums(checkpoint.network, few[:PATH_IMAGES], few_labels[:PATH_IMAGES])
    rng = random.Random(seed)  # noqa: S311  # sampling
    samples = path_samples(checkpoint.network, few[:PATH_IMAGES], few_labels[:PATH_IMAGES], rng, PATH_DRAWS)
    on_step("lesions")
    plan = LesionPlan(LESION_DRAWS, seed)
    hurt = {key: lesions(one.network, found.images, found.labels, plan) for key, one in trained.items()}
    on_step("responses")
    everyone = {one.network.variant.name: one for one in (*family, *trained.values())}
    responses = {key: layer_responses(one.network, few) for key, one in everyone.items()}
    source = f"{len(found.labels)} of the {load_sample().source}"
    return Study("", name, twin_name, len(found.labels), source, initial, profiles, correlations, sums, samples, hurt, responses)


def with_lesions(study: Study, path: Path) -> Study:
    """The study with what `lesions` measured, which may be of more images and networks, in place of its own."""
    return replace(study, lesions=read_lesions(path), images=read_plan(path).images)


def at_initialisation(
    name: str, twin: str, images: Tensor, labels: Tensor, seed: int
) -> tuple[dict[str, list[GradientProfile]], dict[str, list[list[float]]]]:
    """Profiles with and without batch normalisation of the pair, and gradient correlations of the pair and of the shallow pair."""
    profiles: dict[str, list[GradientProfile]] = {}
    correlations: dict[str, list[list[float]]] = {}
    for drawn in range(INITIAL_SEEDS):
        for one in dict.fromkeys((name, twin, f"resnet{SHALLOW}", f"plain{SHALLOW}")):
            torch.manual_seed(seed + drawn)
            network = build(one)
            if one in (name, twin):
                normed = gradient_profile(network, images, labels, batch_statistics=True)
                profiles.setdefault(f"{one}, batch norm", []).append(normed)
                profiles.setdefault(f"{one}, no norm", []).append(gradient_profile(without_normalisation(network), images, labels))
            line = gradient_correlation(settled(network, images), images[: 2 * LINE_PAIRS], LINE_STEPS, seed)
            correlations.setdefault(one, []).append(line)
    return profiles, correlations


def check(checkpoint: Checkpoint, twin: Checkpoint | None, twin_name: str) -> None:
    """Raise ResnetModelsError for networks this analysis does not fit."""
    variant = checkpoint.network.variant
    if variant.block != "basic" or variant.stem != "cifar" or variant.shortcut != "A":
        raise ResnetModelsError(f"checkpoint: is a {variant.name}; expected a residual CIFAR network with a plain twin, such as resnet20")
    if checkpoint.info.labels != CIFAR10_LABELS:
        raise ResnetModelsError(f"checkpoint: has {len(checkpoint.info.labels)} labels; expected CIFAR-10's, since its images are used")
    if twin is not None and twin.network.variant.name != twin_name:
        raise ResnetModelsError(f"twin: is a {twin.network.variant.name}; expected {twin_name}")


def write_study(study: Study, path: Path) -> None:
    """Write JSON; numbers with six significant digits."""
    write_text_atomically(path, json.dumps(_rounded(asdict(study)), indent=1) + "\n")


def read_study(path: Path) -> Study:
    """Read what `write_study` wrote; raise DataError for anything else."""
    try:
        c: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Study(
            **{key: c[key] for key in ("command", "name", "twin", "images", "source", "correlations")},
            initial={key: [GradientProfile(**one) for one in rows] for key, rows in c["initial"].items()},
            trained={key: GradientProfile(**one) for key, one in c["trained"].items()},
            sums=PathSums(**c["sums"]),
            samples=PathSamples(**c["samples"]),
            lesions={key: Lesions(**one) for key, one in c["lesions"].items()},
            responses={key: Responses(**one) for key, one in c["responses"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"study: {path} cannot be read: {error!r}") from None


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list | tuple) else value
