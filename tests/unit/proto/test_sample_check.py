"""A sample held to its certificate: what passes, what is refused, and by which words."""

from dataclasses import replace

import numpy as np
import pytest
from resnet_proto.answers import Logits, can_flip, same_answers, spread
from resnet_proto.certificate import POLICIES
from resnet_proto.manifest_pb2 import Certificate
from resnet_proto.sample_check import Expected, allowed_disagreements, check_sample

CLASSES = 10


@pytest.fixture(scope="module")
def reference() -> Logits:
    return np.random.default_rng(0).normal(0, 4, (128, CLASSES)).astype(np.float32)


def expected(reference: Logits, precision: str, **facts: float) -> Expected:
    """Certified with a mean error of 0.08 and at most 1.5, as INT8 is."""
    own = reference + np.random.default_rng(1).normal(0, 0.1, reference.shape).astype(np.float32)
    policy = POLICIES[precision]
    certificate = Certificate(policy=policy, logit_scale=4.0, mean_abs_error=0.08, max_abs_error=1.5)
    return Expected(reference, own if precision == "int8" else reference, certificate)


def test_what_it_computed_when_certified_holds(reference: Logits) -> None:
    held = expected(reference, "int8")
    assert held.own is not None
    check = check_sample(held.own, held)
    assert (check.broken, check.images) == ("", 128)
    assert check.agreement > 0.95


def test_rounding_of_other_kernels_holds(reference: Logits) -> None:
    held = expected(reference, "int8")
    assert held.own is not None
    other = held.own + np.random.default_rng(2).normal(0, 0.008, reference.shape).astype(np.float32)
    assert check_sample(other, held).broken == ""


def test_a_general_deviation_is_refused_though_answers_agree(reference: Logits) -> None:
    held = expected(reference, "int8")
    assert held.own is not None
    check = check_sample(held.own + np.float32(0.03), held)  # the same for every class: no answer changes
    assert "logits differ by 0.03 in the mean from what they were when certified; allowed 0.02" in check.broken


def noise(reference: Logits, scale: float, seed: int) -> Logits:
    return np.random.default_rng(seed).normal(0, scale, reference.shape).astype(np.float32)


def test_another_runtime_is_held_to_how_near_the_file_came_to_the_reference(reference: Logits) -> None:
    """Its rounding is another, so that it lies farther from what was computed then than another processor's kernels may."""
    held = replace(expected(reference, "int8"), elsewhere=True)
    near = reference + noise(reference, 0.1, 3)
    assert check_sample(near, held).broken == ""
    assert "from what they were when certified" in check_sample(near, replace(held, elsewhere=False)).broken
    assert "in the mean; allowed 0.0827" in check_sample(reference + noise(reference, 0.12, 3), held).broken
    near[17, 3] += 1.6
    assert "off by up to 1." in check_sample(near, held).broken
    assert "no logits of its own" in check_sample(near, replace(held, own=None)).broken
    assert held.rows(5).elsewhere


def test_another_runtime_is_held_to_a_bound_as_any(reference: Logits) -> None:
    held = replace(expected(reference, "strict"), elsewhere=True)
    assert check_sample(reference + np.float32(3e-4), held).broken == ""
    assert "policy strict allows 0.0004" in check_sample(reference + np.float32(5e-4), held).broken
    assert check_sample(reference, replace(held, own=None)).broken == ""


def test_one_image_that_is_far_off_is_refused(reference: Logits) -> None:
    held = expected(reference, "int8")
    assert held.own is not None
    broken = held.own.copy()
    broken[17] = broken[17, ::-1]
    assert "image 17 differs by" in check_sample(broken, held).broken


def test_an_error_bound_holds_for_reference_and_for_what_was_certified(reference: Logits) -> None:
    held = expected(reference, "strict")
    assert check_sample(reference + np.float32(3e-4), held).broken == ""
    assert "policy strict allows 0.0004" in check_sample(reference + np.float32(5e-4), held).broken


def test_generated_images_have_no_answers_to_agree_on(reference: Logits) -> None:
    flat = np.tile(np.float32(0), (128, CLASSES))
    own = flat + np.random.default_rng(1).normal(0, 0.1, flat.shape).astype(np.float32)
    certificate = Certificate(policy=POLICIES["int8"], mean_abs_error=0.08, max_abs_error=1.5)
    assert "have another top-1" in check_sample(own, Expected(flat, own, certificate)).broken
    assert check_sample(own, Expected(flat, own, certificate, generated=True)).broken == ""


def test_what_is_not_finite_or_of_another_shape_is_refused(reference: Logits) -> None:
    held = expected(reference, "int8")
    assert "not finite" in check_sample(np.full_like(reference, np.nan), held).broken
    assert "of shape (1, 10)" in check_sample(reference[:1], held).broken


def test_fewer_rows_are_held_to_their_own(reference: Logits) -> None:
    held = expected(reference, "int8")
    assert held.own is not None
    check = check_sample(held.own[:16], held.rows(16))
    assert (check.images, check.broken) == (16, "")


def test_a_version_of_format_1_is_held_to_its_reference_only(reference: Logits) -> None:
    certificate = Certificate(policy=POLICIES["int8"], mean_abs_error=0.08, max_abs_error=1.5)
    assert check_sample(reference + np.float32(0.5), Expected(reference, None, certificate)).broken == ""
    assert allowed_disagreements(64, 0.99) == 4
    assert allowed_disagreements(64, 1.0) == 0


def test_near_ties_are_those_that_the_error_could_turn() -> None:
    logits = np.array([[0, 1.0], [0, 0.2], [5, 4.81]], np.float32)
    assert can_flip(logits, 0.1).tolist() == [False, True, True]
    assert can_flip(logits, None).tolist() == [False] * 3
    assert can_flip(logits, 0.1, multi_label=True).tolist() == [True, True, False]
    assert can_flip(logits[:, :1], 0.1).tolist() == [False] * 3


def test_labels_on_their_own_answer_by_their_sign() -> None:
    left, right = np.array([[1, 2], [1, -2]], np.float32), np.array([[2, 1], [1, 2]], np.float32)
    assert same_answers(left, right).tolist() == [False, False]
    assert same_answers(left, right, multi_label=True).tolist() == [True, False]


def test_the_spread_ignores_what_no_answer_depends_on() -> None:
    logits = np.array([[1, 3], [101, 103]], np.float32)
    assert spread(logits) == pytest.approx(1)
    assert spread(logits[:, :1]) == pytest.approx(50)
