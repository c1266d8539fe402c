"""Publishing: a version appears in the repository whole and certified, or not at all."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from resnet_models.checkpoint import Exportable
from resnet_models.trainer import git_revision
from resnet_proto.certificate import POLICIES, POLICY_OF_PRECISION, lacking_evidence
from resnet_proto.manifest import LABELS_FILE, input_sha256, sha256_file, write_manifest
from resnet_proto.manifest_pb2 import Certificate, Input, Manifest, Policy
from resnet_proto.signature import check_signer, sign

from resnet_export.certify import Subject, Verdict, certify, describe_images
from resnet_export.describe import describe
from resnet_export.errors import ExportError, ParityError
from resnet_export.graph import opset_of
from resnet_export.images import ImageSet, bundled, choose_images, from_folder
from resnet_export.precisions import NO_CALIBRATION, Maker
from resnet_export.progress import SILENT, Steps
from resnet_export.quantise import CALIBRATION_IMAGES
from resnet_export.reference import reference_logits
from resnet_export.replay import replay_images, write_replay
from resnet_export.repository import check_free, model_folder, staging
from resnet_export.runtime import BATCH_SIZES, rows_of_full_batches
from resnet_export.sources.expected import Expected, images_of, read_expected


def default_policies() -> dict[str, Policy]:
    """The policy of each precision."""
    return {precision: POLICIES[name] for precision, name in POLICY_OF_PRECISION.items()}


@dataclass(frozen=True)
class Request:
    """What to publish where; None lets the tool choose (the variant's name, the next version).

    `images` and `calibration` are folders; of the former at most `most_images` are used, and none is copied into the version unless
    `copy_images` says so. `sign` is a private key's file, or `sigstore`.
    """

    repository: Path
    name: str | None = None
    version: int | None = None
    images: Path | None = None
    provider: str = "cpu"
    precisions: tuple[str, ...] = ("fp32",)
    calibration: Path | None = None
    target: str = "portable"
    policies: dict[str, Policy] = field(default_factory=default_policies)
    most_images: int | None = None
    copy_images: bool = False
    sign: str | None = None
    expect: Path | None = None


@dataclass(frozen=True)
class Publication:
    """Where the version lies, what was certified, and for each precision that was not, the reason."""

    folder: Path
    manifest: Manifest
    failures: dict[str, str]


def publish(checkpoint: Exportable, file: Path, request: Request, steps: Steps = SILENT) -> Publication:
    """Export, certify and publish a checkpoint that was read from `file`.

    Raises ParityError, with the worst image and both logit vectors, if the graph does not compute what the network
    computes; RepositoryError if the version exists or cannot be written. Nothing is left behind then.
    """
    model = model_folder(request.repository, request.name or checkpoint.info.variant)
    check_free(model, request.version)
    if request.sign is not None:
        check_signer(request.sign)
    manifest = describe(checkpoint, file, model.name)
    expected = read_expected(request.expect, checkpoint.info, manifest.input) if request.expect else None
    if expected is None:
        images = choose_images(manifest.input, checkpoint.info.labels, request.images, request.most_images)
    else:
        images = images_of(expected)
    calibration = choose_calibration(manifest.input, images, request)
    with staging(model) as staged:
        add_labels(staged.folder, manifest, checkpoint.info.labels)
        subject = compare_with(checkpoint, manifest, images, expected, steps, len(request.precisions))
        maker = Maker(checkpoint, staged.folder, calibration, request.target, steps)
        failures = add_precisions(manifest, maker, Judge(subject, request.policies, request.provider, steps), request.precisions)
        steps.step("writing")
        sample = replay_images(manifest.input, images, copied=request.copy_images or (request.images is None and expected is None))
        write_replay(staged.folder, manifest, sample, reference_logits(checkpoint, sample.images), request.provider)

        def finish(version: int) -> None:
            manifest.version = str(version)
            write_manifest(staged.folder, manifest)
            if request.sign is not None:
                sign(staged.folder, request.sign)

        return Publication(staged.appear(request.version, finish), manifest, failures)


def compare_with(
    checkpoint: Exportable, manifest: Manifest, images: ImageSet, expected: Expected | None, steps: Steps, precisions: int
) -> Subject:
    """The reference on the images, and the facts that every certificate of this version states."""
    steps.expect(len(images) + precisions * sum(rows_of_full_batches(len(images), batch) for batch in BATCH_SIZES))
    steps.step("reference")
    reference = reference_logits(checkpoint, images.images) if expected is None else expected.logits
    steps.advance(len(images))
    facts = Certificate(
        checkpoint_sha256=manifest.source.checkpoint_sha256,
        git_revision=git_revision(),
        labels_sha256=manifest.output.labels_sha256,
        input_sha256=input_sha256(manifest.input),
        reference=reference_text(checkpoint) if expected is None else "logits of the owner's code",
    )
    if manifest.source.HasField("accuracy"):
        facts.stated_accuracy = manifest.source.accuracy
    return Subject(images, reference, facts, manifest.output.activation == "sigmoid")


def reference_text(checkpoint: Exportable) -> str:
    """What computed the right answers; our own definition says nothing of what the weights were trained in."""
    return checkpoint.info.reference or f"our definition of {checkpoint.info.variant} in PyTorch"


def choose_calibration(spec: Input, images: ImageSet, request: Request) -> ImageSet | None:
    """Images to calibrate INT8 on; None where INT8 is not wanted or there are none. Raise ExportError if one also certifies."""
    if "int8" not in request.precisions:
        return None
    if request.calibration is not None:
        chosen = from_folder(request.calibration, spec, (), CALIBRATION_IMAGES)
    elif images.images.shape[1:] == bundled("calibration").images.shape[1:]:
        chosen = bundled("calibration")
    elif len(request.precisions) == 1:
        raise ExportError(NO_CALIBRATION)
    else:
        return None
    certifying = {image.tobytes() for image in images.images}
    if shared := [name for name, image in zip(chosen.names, chosen.images, strict=True) if image.tobytes() in certifying]:
        raise ExportError(f"calibration: {shared[0]} is also a certification image ({len(shared)} in all); they must be disjoint")
    return chosen


def add_precisions(manifest: Manifest, maker: Maker, judge: "Judge", precisions: Sequence[str]) -> dict[str, str]:
    """Make and certify each precision; return why others failed. Raise ParityError if fp32 fails: then nothing holds."""
    failures = {}
    for precision in precisions:
        try:
            verdict, recipe = judge.make_and_certify(maker, precision)
        except ExportError as error:
            if precision == "fp32":
                raise
            failures[precision] = f"{manifest.name} {precision}: {error}"
            maker.path(precision).unlink(missing_ok=True)
            continue
        if not verdict.broken:
            add_artifact(manifest, precision, maker.path(precision), recipe, verdict.certificate)
            continue
        failures[precision] = failure_text(manifest.name, precision, verdict)
        maker.path(precision).unlink()
        if precision == "fp32":
            raise ParityError(f"{failures[precision]}; nothing is published\n{verdict.worst}")
    if not manifest.artifacts:
        raise ParityError(f"{'; '.join(failures.values())}; nothing is published")
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

    subject: Subject
    policies: dict[str, Policy]
    provider: str
    steps: Steps = SILENT

    def make_and_certify(self, maker: Maker, precision: str) -> tuple[Verdict, dict[str, str]]:
        """Make the file and compare it with the reference under its policy; also return its recipe.

        Raises ExportError, before anything is made, where the images could not show what the policy asks.
        """
        policy = self.policies[precision]
        known = Certificate()
        describe_images(known, self.subject)
        if lacking := lacking_evidence(known, policy):
            raise ExportError(f"cannot be certified: {lacking}")
        recipe = maker.make(precision)
        calibration = maker.calibration if precision == "int8" else None
        path = maker.path(precision)
        return certify(path, self.subject, policy, provider=self.provider, calibration=calibration, steps=self.steps), recipe


def add_labels(folder: Path, manifest: Manifest, labels: tuple[str, ...]) -> None:
    """Write labels.txt, one label a line in class order."""
    path = folder / LABELS_FILE
    path.write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
    manifest.output.labels_sha256 = sha256_file(path)
