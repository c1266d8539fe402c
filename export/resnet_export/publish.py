"""Publishing: a version appears in the repository whole and certified, or not at all."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from resnet_models.card import describe_recipe
from resnet_models.checkpoint import Exportable
from resnet_models.trainer import git_revision
from resnet_proto.certificate import POLICIES, POLICY_OF_PRECISION
from resnet_proto.manifest import FORMAT, LABELS_FILE, REPLAY_FILE, sha256_file, write_manifest
from resnet_proto.manifest_pb2 import Certificate, Input, Manifest, Policy

from resnet_export.certify import Verdict, certify
from resnet_export.errors import ExportError, ParityError, RepositoryError
from resnet_export.facts import fill_input, fill_network, fill_output
from resnet_export.graph import opset_of
from resnet_export.images import ImageSet, bundled, choose_images, from_folder
from resnet_export.precisions import NO_CALIBRATION, Maker
from resnet_export.reference import Logits, reference_logits
from resnet_export.sources.expected import images_of, read_expected

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
REPLAY_IMAGES = 64


def default_policies() -> dict[str, Policy]:
    """The policy of each precision."""
    return {precision: POLICIES[name] for precision, name in POLICY_OF_PRECISION.items()}


@dataclass(frozen=True)
class Request:
    """What to publish where; None lets the tool choose (the variant's name, the next version)."""

    repository: Path
    name: str | None = None
    version: int | None = None
    images: Path | None = None
    provider: str = "cpu"
    precisions: tuple[str, ...] = ("fp32",)
    calibration: Path | None = None
    reduce_range: bool = False
    policies: dict[str, Policy] = field(default_factory=default_policies)
    expect: Path | None = None


@dataclass(frozen=True)
class Publication:
    """Where the version lies, what was certified, and a text for each precision that was not."""

    folder: Path
    manifest: Manifest
    failures: list[str]


def publish(checkpoint: Exportable, file: Path, request: Request) -> Publication:
    """Export, certify and publish a checkpoint that was read from `file`.

    Raises ParityError, with the worst image and both logit vectors, if the graph does not compute what the network
    computes; RepositoryError if the version exists or cannot be written. Nothing is left behind then.
    """
    model = model_folder(request.repository, request.name or checkpoint.info.variant)
    version = choose_version(model, request.version)
    manifest = describe(checkpoint, file, model.name, version)
    expected = read_expected(request.expect, checkpoint.info, manifest.input) if request.expect else None
    images = choose_images(manifest.input, checkpoint.info.labels, request.images) if expected is None else images_of(expected)
    calibration = choose_calibration(manifest.input, images, request)
    reference = reference_logits(checkpoint, images.images) if expected is None else expected.logits
    judge = Judge(images, reference, request.policies, manifest.source.checkpoint_sha256, request.provider)
    with appearing(model, version) as folder:
        failures = add_precisions(manifest, Maker(checkpoint, folder, calibration, request.reduce_range), judge, request.precisions)
        add_labels(folder, manifest, checkpoint.info.labels)
        add_replay(folder, manifest, images, reference)
        write_manifest(folder, manifest)
    return Publication(model / str(version), manifest, failures)


def model_folder(repository: Path, name: str) -> Path:
    """Return <repository>/<name>, or raise RepositoryError for a name that is none."""
    if not NAME.fullmatch(name):
        raise RepositoryError(f"name: '{name}'; expected lower-case letters, digits, dots, dashes and underscores, at most 100")
    return repository / name


def choose_version(model: Path, wanted: int | None) -> int:
    """The wanted version if it is free, else the highest plus one."""
    folders = [entry.name for entry in model.iterdir()] if model.is_dir() else []
    taken = [int(name) for name in folders if name.isascii() and name.isdecimal()]
    if wanted is not None and wanted in taken:
        raise RepositoryError(f"version: {wanted} of {model.name} exists in {model.parent} and is never overwritten")
    return wanted or max(taken, default=0) + 1


@contextmanager
def appearing(model: Path, version: int) -> Iterator[Path]:
    """Give a temporary folder that becomes `model`/`version` in one step if the body succeeds, and vanishes if not."""
    created = not model.exists()
    try:
        model.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".publishing-", dir=model))
    except OSError as error:
        raise RepositoryError(f"repository: {model} cannot be written: {error.strerror}") from None
    try:
        yield temporary
        temporary.chmod(0o755)
        for path in (*temporary.iterdir(), temporary):
            _sync(path)
        _move(temporary, model / str(version))
        _sync(model)
        _sync(model.parent)  # the model's own entry may be new too
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if created and not any(model.iterdir()):
            model.rmdir()


def _move(temporary: Path, target: Path) -> None:
    try:
        temporary.rename(target)  # fails if another publisher was faster, since the target is not empty
    except OSError as error:
        raise RepositoryError(f"version: {target.name} of {target.parent.name} cannot appear: {error.strerror}") from None


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def describe(checkpoint: Exportable, file: Path, name: str, version: int) -> Manifest:
    """The manifest's facts about network, input, output and source."""
    info = checkpoint.info
    manifest = Manifest(format=FORMAT, name=name, version=str(version), created_at=datetime.now(UTC).isoformat(timespec="seconds"))
    fill_network(manifest.network, checkpoint)
    fill_input(manifest.input, info)
    fill_output(manifest.output, info)
    source = manifest.source
    source.checkpoint_sha256, source.checkpoint_file, source.git_revision = sha256_file(file), file.name, info.git_revision
    source.recipe, source.accuracy_images = describe_recipe(info) if info.recipe else "", info.accuracy_images
    if info.seed is not None:
        source.seed = info.seed
    if info.accuracy is not None:
        source.accuracy = info.accuracy
    return manifest


def choose_calibration(spec: Input, images: ImageSet, request: Request) -> ImageSet | None:
    """Images to calibrate INT8 on; None where INT8 is not wanted. Raise ExportError if there are none or one also certifies."""
    if "int8" not in request.precisions:
        return None
    if request.calibration is None:
        if (spec.height, spec.width) != (32, 32):
            raise ExportError(NO_CALIBRATION)
        return bundled("calibration")
    chosen = from_folder(request.calibration, spec, ())
    certifying = {image.tobytes() for image in images.images}
    if shared := [name for name, image in zip(chosen.names, chosen.images, strict=True) if image.tobytes() in certifying]:
        raise ExportError(f"calibration: {shared[0]} is also a certification image ({len(shared)} in all); they must be disjoint")
    return chosen


def add_precisions(manifest: Manifest, maker: Maker, judge: "Judge", precisions: tuple[str, ...]) -> list[str]:
    """Make and certify each precision; return what failed. Raise ParityError if fp32 fails: then nothing holds."""
    failures = []
    for precision in precisions:
        path = maker.path(precision)
        recipe = maker.make(precision)
        verdict = judge.certify(path, precision, maker.calibration if precision == "int8" else None)
        if not verdict.broken:
            add_artifact(manifest, precision, path, recipe, verdict.certificate)
            continue
        failures.append(failure_text(manifest.name, precision, verdict))
        path.unlink()
        if precision == "fp32":
            raise ParityError(f"{failures[0]}; nothing is published\n{verdict.worst}")
    if not manifest.artifacts:
        raise ParityError(f"{'; '.join(failures)}; nothing is published")
    return failures


def failure_text(name: str, precision: str, verdict: Verdict) -> str:
    """Which policy broke, and the images that differ most."""
    policy = verdict.certificate.policy.name
    return f"{name} {precision} fails policy {policy}: {'; '.join(verdict.broken)} (differing most: {', '.join(verdict.most_different)})"


def add_artifact(manifest: Manifest, precision: str, path: Path, recipe: dict[str, str], certificate: Certificate) -> None:
    """Enter a certified file into the manifest."""
    sha256, size = certificate.artifact_sha256, path.stat().st_size
    artifact = manifest.artifacts.add(precision=precision, file=path.name, sha256=sha256, bytes=size, opset=opset_of(path))
    artifact.certificate.CopyFrom(certificate)
    artifact.recipe.update(recipe)


@dataclass(frozen=True)
class Judge:
    """Certifies files of one checkpoint on one set of images."""

    images: ImageSet
    reference: Logits
    policies: dict[str, Policy]
    checkpoint_sha256: str
    provider: str

    def certify(self, path: Path, precision: str, calibration: ImageSet | None) -> Verdict:
        """Compare the file with the reference under the precision's policy."""
        return certify(
            path,
            self.reference,
            self.images,
            self.policies[precision],
            checkpoint_sha256=self.checkpoint_sha256,
            git_revision=git_revision(),
            provider=self.provider,
            calibration_sha256=calibration.sha256 if calibration else "",
        )


def add_labels(folder: Path, manifest: Manifest, labels: tuple[str, ...]) -> None:
    """Write labels.txt, one label a line in class order."""
    path = folder / LABELS_FILE
    path.write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
    manifest.output.labels_sha256 = sha256_file(path)


def add_replay(folder: Path, manifest: Manifest, images: ImageSet, reference: Logits) -> None:
    """Write certification images, evenly spread over the set, with the reference's logits."""
    rows = np.unique(np.linspace(0, len(images) - 1, REPLAY_IMAGES).astype(int))
    path = folder / REPLAY_FILE
    np.savez_compressed(path, images=images.images[rows], logits=reference[rows])
    manifest.replay.file, manifest.replay.sha256, manifest.replay.images = path.name, sha256_file(path), len(rows)
