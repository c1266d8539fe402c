"""Parity certificates: identity, and the policies they are held to."""

import hashlib
import json
import math

from google.protobuf import json_format

from resnet_proto.intervals import binomial_cdf, paired_interval, share_interval
from resnet_proto.manifest_pb2 import Certificate, Policy

POLICIES: dict[str, Policy] = {
    "strict": Policy(name="strict", max_relative_error=1e-4, min_top1_agreement=1.0, min_images=16, hold_stated_accuracy=True),
    "fp16": Policy(
        name="fp16", max_relative_error=0.02, min_top1_agreement=1.0, min_images=64, real_images=True, hold_stated_accuracy=True
    ),
    "int8": Policy(
        name="int8",
        min_top1_agreement=0.99,
        max_accuracy_loss=0.5,
        min_images=368,  # the least with which 99 % can be shown: no flip among 367 leaves 98.999 % possible
        real_images=True,
        confidence=0.95,
        hold_stated_accuracy=True,
    ),
}
POLICY_OF_PRECISION = {"fp32": "strict", "fp16": "fp16", "int8": "int8"}
OVERRIDDEN = ", overridden"
RARE = 1e-3


class CertificateError(Exception):
    """A certificate that says nothing that could be held to a policy."""


def certificate_id(certificate: Certificate, manifest_format: int = 2) -> str:
    """SHA-256 over every field that is present but `id`.

    Of the binary form (fields in order of their numbers, maps sorted by key): fields that later releases add leave it as it
    is, and a number has one spelling in every language. Manifests of format 1 hashed JSON of a fixed set of fields.
    """
    if manifest_format == 1:
        return _id_of_format_1(certificate)
    bare = Certificate()
    bare.CopyFrom(certificate)
    bare.ClearField("id")
    return hashlib.sha256(bare.SerializeToString(deterministic=True)).hexdigest()


FIELDS_OF_FORMAT_1 = {"Certificate": 23, "Policy": 4}  # the highest field number of each message then


def _id_of_format_1(certificate: Certificate) -> str:
    fields: dict[str, object] = {}
    messages: list[tuple[Certificate | Policy, dict[str, object]]] = [(certificate, fields), (certificate.policy, {})]
    for message, place in messages:
        last = FIELDS_OF_FORMAT_1[message.DESCRIPTOR.name]
        if any(field.number > last for field, _ in message.ListFields()):
            return ""  # what this id does not cover must not be there
        known = {field.name for field in message.DESCRIPTOR.fields if field.number <= last}
        every = json_format.MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
        place.update((name, value) for name, value in every.items() if name in known)
        if message is not certificate and certificate.HasField("policy"):
            fields["policy"] = place
    del fields["id"]
    return hashlib.sha256(json.dumps(fields, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def seal(certificate: Certificate) -> Certificate:
    """Set the id, after which any change of a field shows; return the same message."""
    certificate.id = certificate_id(certificate)
    return certificate


def error_bound(policy: Policy, scale: float) -> float | None:
    """The largest error of a logit that the policy allows where logits spread by `scale`; None if it bounds none."""
    bounds = [policy.max_abs_error] if policy.HasField("max_abs_error") else []
    if policy.HasField("max_relative_error"):
        bounds.append(policy.max_relative_error * scale)
    return min(bounds, default=None)


def violations(certificate: Certificate, policy: Policy | None = None) -> list[str]:
    """What the policy (its own, if none is given) does not allow, one phrase each; empty if the certificate holds.

    Raise CertificateError for a certificate without images or policy, or with counts that cannot be.
    """
    policy = policy or certificate.policy
    if not certificate.images or not policy.name or not certificate.batch_sizes:
        raise CertificateError("the certificate names no images, batch sizes or policy")
    if max(certificate.flips, certificate.decided_flips, certificate.gained + certificate.lost) > certificate.images:
        raise CertificateError("the certificate counts more images than it was made on")
    figures = (certificate.max_abs_error, certificate.mean_abs_error, certificate.top1_agreement)
    if not all(math.isfinite(figure) for figure in figures):
        return ["an output is not finite"]
    lacking, agreement = lacking_evidence(certificate, policy), _agreement(certificate, policy)
    found = [lacking, *_error(certificate, policy), agreement, _accuracy(certificate, policy), _stated(certificate, policy)]
    return [phrase for phrase in found if phrase]


def lacking_evidence(certificate: Certificate, policy: Policy) -> str:
    """Why these images cannot show what the policy asks, or nothing."""
    if policy.real_images and certificate.generated_images:
        return f"made on generated images; policy {policy.name} asks for photographs"
    if certificate.images < policy.min_images:
        return f"made on {certificate.images} images; policy {policy.name} asks for at least {policy.min_images}"
    return ""


def _error(certificate: Certificate, policy: Policy) -> list[str]:
    worst, scale, broken = certificate.max_abs_error, certificate.logit_scale, []
    if policy.HasField("max_abs_error") and worst > policy.max_abs_error:
        broken.append(f"max absolute logit error {worst:.3g} > {policy.max_abs_error:g}")
    if policy.HasField("max_relative_error") and not worst <= policy.max_relative_error * scale:
        broken.append(
            f"max absolute logit error {worst:.3g} > {policy.max_relative_error * scale:.3g}, "
            f"{policy.max_relative_error:g} of the logits' spread of {scale:.3g}"
        )
    return broken


def counted_flips(certificate: Certificate, policy: Policy) -> int:
    """The flips that count under `policy`: near-ties are left out where it bounds the error as tightly as the certificate's own."""
    if not certificate.HasField("flips"):  # format 1
        return round((1 - certificate.top1_agreement) * certificate.images)
    bound, own = error_bound(policy, certificate.logit_scale), error_bound(certificate.policy, certificate.logit_scale)
    return certificate.flips if bound is None or own is None or own > bound else certificate.decided_flips


def agreement_interval(certificate: Certificate, policy: Policy) -> tuple[float, float]:
    """Clopper and Pearson's interval of the agreement that counts; the figure itself where the policy states no confidence."""
    agreeing = certificate.images - counted_flips(certificate, policy)
    if not policy.confidence:
        return agreeing / certificate.images, agreeing / certificate.images
    return share_interval(agreeing, certificate.images, policy.confidence)


def _agreement(certificate: Certificate, policy: Policy) -> str:
    low, _ = agreement_interval(certificate, policy)
    if low >= policy.min_top1_agreement:
        return ""
    if not policy.confidence:
        return f"top-1 agreement {low:.4%} < {policy.min_top1_agreement:.4%}"
    flips = counted_flips(certificate, policy)
    return (
        f"{flips} of {certificate.images} images have another top-1: the agreement may be as low as {low:.2%} "
        f"({policy.confidence:.0%} interval) < {policy.min_top1_agreement:.2%}"
    )


def _accuracy(certificate: Certificate, policy: Policy) -> str:
    if not policy.HasField("max_accuracy_loss") or not certificate.HasField("artifact_accuracy"):
        return ""
    if not policy.confidence:
        loss = certificate.reference_accuracy - certificate.artifact_accuracy
        return f"accuracy lost {loss:.2f} points > {policy.max_accuracy_loss:g}" if loss > policy.max_accuracy_loss else ""
    if not certificate.HasField("lost"):
        return "states no counts to bound the accuracy lost; made by an older release"
    low, _ = paired_interval(certificate.gained, certificate.lost, certificate.images, policy.confidence)
    if 100 * low >= -policy.max_accuracy_loss:
        return ""
    return (
        f"{certificate.lost} images lost and {certificate.gained} gained of {certificate.images}: as many as {-100 * low:.2f} points of "
        f"accuracy may be lost ({policy.confidence:.0%} interval) > {policy.max_accuracy_loss:g}"
    )


def _stated(certificate: Certificate, policy: Policy) -> str:
    stated, measured = certificate.stated_accuracy, certificate.reference_accuracy
    if not (policy.hold_stated_accuracy and certificate.HasField("stated_accuracy") and certificate.HasField("reference_accuracy")):
        return ""
    right = round(measured / 100 * certificate.images)
    if binomial_cdf(right, certificate.images, stated / 100) >= RARE:
        return ""
    return (
        f"the network itself gets {measured:.2f} % of the images right, its checkpoint states {stated:.2f} %: "
        "are variant, preprocessing and labels those it was trained with?"
    )
