"""Parity certificates: identity, and the policies they are held to."""

import hashlib
import json
import math
from dataclasses import dataclass

import numpy as np
from google.protobuf import json_format
from numpy.typing import NDArray

from resnet_proto.manifest_pb2 import Certificate, Policy

Logits = NDArray[np.float32]

POLICIES: dict[str, Policy] = {
    "strict": Policy(name="strict", max_abs_error=1e-3, min_top1_agreement=1.0),
    "fp16": Policy(name="fp16", min_top1_agreement=0.999),
    "int8": Policy(name="int8", min_top1_agreement=0.99, max_accuracy_loss=0.5),
}
POLICY_OF_PRECISION = {"fp32": "strict", "fp16": "fp16", "int8": "int8"}


class CertificateError(Exception):
    """A certificate that says nothing that could be held to a policy."""


def certificate_id(certificate: Certificate) -> str:
    """SHA-256 over every field but `id`, in canonical JSON: stable across protobuf releases and languages."""
    fields = json_format.MessageToDict(certificate, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    del fields["id"]
    return hashlib.sha256(json.dumps(fields, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def seal(certificate: Certificate) -> Certificate:
    """Set the id, after which any change of a field shows; return the same message."""
    certificate.id = certificate_id(certificate)
    return certificate


def violations(certificate: Certificate) -> list[str]:
    """What the certificate's own policy does not allow, one phrase each; empty if it holds.

    Raise CertificateError for a certificate without images or policy, or with a figure that is not finite.
    """
    policy = certificate.policy
    if not certificate.images or not policy.name or not certificate.batch_sizes:
        raise CertificateError("the certificate names no images, batch sizes or policy")
    figures = (certificate.max_abs_error, certificate.mean_abs_error, certificate.top1_agreement)
    if not all(math.isfinite(figure) for figure in figures):
        return ["an output is not finite"]
    broken = []
    if policy.HasField("max_abs_error") and certificate.max_abs_error > policy.max_abs_error:
        broken.append(f"max absolute logit error {certificate.max_abs_error:.3g} > {policy.max_abs_error:g}")
    if certificate.top1_agreement < policy.min_top1_agreement:
        broken.append(f"top-1 agreement {certificate.top1_agreement:.4%} < {policy.min_top1_agreement:.4%}")
    if policy.HasField("max_accuracy_loss") and certificate.HasField("artifact_accuracy"):
        loss = certificate.reference_accuracy - certificate.artifact_accuracy
        if loss > policy.max_accuracy_loss:
            broken.append(f"accuracy lost {loss:.2f} points > {policy.max_accuracy_loss:g}")
    return broken


RARE = 1e-3


def allowed_disagreements(images: int, min_agreement: float) -> int:
    """How many of a sample of `images` may disagree where a certificate is checked on another machine.

    The smallest k with P(more than k) < 0.001 for a binomial of rate 1 - `min_agreement`: as many as a model that
    just meets the policy shows in all but one of a thousand samples; none where the policy asks for 100 %.
    """
    rate = 1 - min_agreement
    cumulative = 0.0
    for count in range(images + 1):
        cumulative += math.comb(images, count) * rate**count * min_agreement ** (images - count)
        if 1 - cumulative < RARE:
            return count
    return images


@dataclass(frozen=True)
class SampleCheck:
    """A comparison of a sample with its reference: top-1 agreement 0..1, largest absolute logit error, and what is broken."""

    images: int
    agreement: float
    max_abs_error: float
    broken: str


def check_sample(logits: Logits, reference: Logits, policy: Policy) -> SampleCheck:
    """Hold FP32 [n, classes] to a policy on a small sample; `broken` names the image and by how much, or is empty."""
    if logits.shape != reference.shape or not np.isfinite(logits).all():
        return SampleCheck(len(reference), 0.0, math.inf, f"outputs of shape {logits.shape} are not finite or not {reference.shape}")
    errors = np.abs(logits - reference).max(axis=1)
    wrong = np.flatnonzero(logits.argmax(1) != reference.argmax(1))
    allowed = allowed_disagreements(len(reference), policy.min_top1_agreement)
    broken = ""
    if policy.HasField("max_abs_error") and errors.max() > policy.max_abs_error:
        broken = f"image {errors.argmax()} differs by {errors.max():.3g} in a logit; policy {policy.name} allows {policy.max_abs_error:g}"
    elif len(wrong) > allowed:
        broken = (
            f"{len(wrong)} of {len(errors)} images have another top-1 (first: image {wrong[0]}, logits off by "
            f"{errors[wrong[0]]:.3g}); policy {policy.name} allows {allowed}"
        )
    return SampleCheck(len(reference), 1 - len(wrong) / len(reference), float(errors.max()), broken)
