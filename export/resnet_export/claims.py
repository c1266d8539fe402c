"""Compares a certificate's claims with a new measurement: it is not enough that the policy still holds."""

import numpy as np
from resnet_proto.answers import same_answers
from resnet_proto.certificate import error_bound
from resnet_proto.manifest_pb2 import Certificate
from resnet_proto.sample_check import OWN_SHARE, Expected

from resnet_export.runtime import Logits

# Another processor rounds differently: by a tenth of what a policy that bounds the error allows, or as a replay allows.
ROUNDING = 0.1


def allowance(certificate: Certificate, claimed: float) -> float:
    """How far a figure of error may be above the claim on another machine."""
    bound = error_bound(certificate.policy, certificate.logit_scale)
    return ROUNDING * bound if bound is not None else OWN_SHARE * claimed


def contradictions(claimed: Certificate, measured: Certificate) -> list[str]:
    """Where a comparison on the same images says otherwise than the certificate; empty if nowhere."""
    found = []
    for name in ("max_abs_error", "mean_abs_error"):
        said, seen = getattr(claimed, name), getattr(measured, name)
        if not abs(seen - said) <= allowance(claimed, said):
            found.append(f"claims {name} {said:.3g}, here {seen:.3g}")
    difference = max(1, round(OWN_SHARE * max(claimed.flips, measured.flips)))
    if claimed.HasField("flips") and abs(claimed.flips - measured.flips) > difference:
        found.append(f"claims {claimed.flips} of {claimed.images} images with another top-1, here {measured.flips}")
    if claimed.HasField("reference_accuracy") and measured.HasField("reference_accuracy"):
        points = 100 * difference / claimed.images
        if abs(claimed.reference_accuracy - measured.reference_accuracy) > 100.5 / claimed.images:
            found.append(f"claims that the network gets {claimed.reference_accuracy:.2f} % right, here {measured.reference_accuracy:.2f} %")
        if abs(claimed.artifact_accuracy - measured.artifact_accuracy) > points + 1e-9:
            found.append(f"claims that the file gets {claimed.artifact_accuracy:.2f} % right, here {measured.artifact_accuracy:.2f} %")
    return found


def contradictions_of_sample(logits: Logits, expected: Expected) -> list[str]:
    """The same for a stored sample: certification images cannot show more than all of them together did."""
    claimed = expected.certificate
    if expected.generated or expected.own is None:
        return []
    found = []
    largest = float(np.abs(logits - expected.reference).max())
    if not largest <= claimed.max_abs_error + allowance(claimed, claimed.max_abs_error):
        found.append(f"claims max_abs_error {claimed.max_abs_error:.3g}, the stored images alone show {largest:.3g}")
    flips = int((~same_answers(logits, expected.reference, multi_label=expected.multi_label)).sum())
    if flips > claimed.flips:
        found.append(f"claims {claimed.flips} images with another top-1, the stored ones alone show {flips}")
    return found
