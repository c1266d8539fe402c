"""A certificate held to a small sample where the model is served: the same file must compute what it computed when certified."""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from resnet_proto.answers import Logits, can_flip, same_answers
from resnet_proto.certificate import RARE, error_bound
from resnet_proto.manifest_pb2 import Certificate, Policy

Errors = NDArray[np.float64]

# Kernels of other processors round differently; more than this share of the certified error is no rounding. Without VNNI, integer
# kernels were seen to differ by up to 0.08 of it, and by 0.38 to 0.49 where pairs saturate (tests/unit/export/test_saturation.py).
OWN_SHARE = 0.25
# Another runtime rounds at other places: INT8 by OpenVINO was seen 0.4 to 0.8 of the certified error away from INT8 by ONNX Runtime, and
# 5 to 14 % nearer to the reference than that. It must come as near, but for what a mean over a sample varies by.
NEARNESS = 1.05


@dataclass(frozen=True)
class SampleCheck:
    """A comparison of a sample with its reference: top-1 agreement 0..1, largest absolute logit error, and what is broken."""

    images: int
    agreement: float
    max_abs_error: float
    broken: str


@dataclass(frozen=True)
class Expected:
    """What a sample is held to: the reference's logits FP32 [n, classes], and the artifact's `own` where it was certified.

    `own` is None in versions of format 1; `generated` images have no answers that agreement could mean. `elsewhere`: another runtime
    computes than the one that the certificate was made on.
    """

    reference: Logits
    own: Logits | None
    certificate: Certificate
    multi_label: bool = False
    generated: bool = False
    elsewhere: bool = False

    def rows(self, count: int) -> "Expected":
        """Of the first `count` images only."""
        own = None if self.own is None else self.own[:count]
        return replace(self, reference=self.reference[:count], own=own)


def check_sample(logits: Logits, expected: Expected) -> SampleCheck:
    """Hold FP32 [n, classes] to what is expected; `broken` names the image and by how much, or is empty."""
    reference, policy = expected.reference, expected.certificate.policy
    if logits.shape != reference.shape or not np.isfinite(logits).all():
        return SampleCheck(len(reference), 0.0, math.inf, f"outputs of shape {logits.shape} are not finite or not {reference.shape}")
    errors = np.abs(logits.astype(np.float64) - reference).max(axis=1)
    same = same_answers(logits, reference, multi_label=expected.multi_label)
    bound = error_bound(policy, expected.certificate.logit_scale)
    broken = _against_bound(errors, bound, policy) or _against_own(logits, expected, bound)
    if not broken and not expected.generated:
        broken = _agreement(errors, same | can_flip(reference, bound, multi_label=expected.multi_label), policy)
    return SampleCheck(len(reference), float(same.mean()), float(errors.max()), broken)


def _against_bound(errors: Errors, bound: float | None, policy: Policy) -> str:
    if bound is None or errors.max() <= bound:
        return ""
    return f"image {errors.argmax()} differs by {errors.max():.3g} in a logit; policy {policy.name} allows {bound:.3g}"


def _against_own(logits: Logits, expected: Expected, bound: float | None) -> str:
    """The largest distance is bounded as the certified error was; the mean, where rounding differs, by a share of the mean error."""
    if expected.own is None:
        unknown = expected.elsewhere and bound is None
        return "the version holds no logits of its own that another runtime could be held to" if unknown else ""
    if expected.elsewhere and bound is None:
        return _as_near(logits, expected, expected.own)
    distance = np.abs(logits.astype(np.float64) - expected.own)
    made = expected.certificate
    worst = distance.max(axis=1)
    most = bound if bound is not None else made.max_abs_error
    if worst.max() > most:
        return f"image {worst.argmax()} differs by {worst.max():.3g} in a logit from what it was when certified; allowed {most:.3g}"
    if bound is None and distance.mean() > OWN_SHARE * made.mean_abs_error:
        return (
            f"logits differ by {distance.mean():.3g} in the mean from what they were when certified; allowed "
            f"{OWN_SHARE * made.mean_abs_error:.3g}, a quarter of the certified error"
        )
    return ""


def _as_near(logits: Logits, expected: Expected, own: Logits) -> str:
    """Where rounding decides, another runtime is held to how near the file came to the reference when it was certified."""
    reference, made = expected.reference, expected.certificate
    errors, certified = np.abs(logits.astype(np.float64) - reference), np.abs(own.astype(np.float64) - reference)
    if errors.max() > made.max_abs_error:
        return f"logits are off by up to {errors.max():.3g}; the certified error is {made.max_abs_error:.3g} at most"
    most = NEARNESS * certified.mean()
    return f"logits are off by {errors.mean():.3g} in the mean; allowed {most:.3g}, as when certified" if errors.mean() > most else ""


def _agreement(errors: Errors, same: NDArray[np.bool_], policy: Policy) -> str:
    wrong = np.flatnonzero(~same)
    allowed = allowed_disagreements(len(same), policy.min_top1_agreement)
    if len(wrong) <= allowed:
        return ""
    return (
        f"{len(wrong)} of {len(errors)} images have another top-1 (first: image {wrong[0]}, logits off by "
        f"{errors[wrong[0]]:.3g}); policy {policy.name} allows {allowed}"
    )


def allowed_disagreements(images: int, min_agreement: float) -> int:
    """How many of a sample of `images` may disagree with the reference where a certificate is checked on another machine.

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
