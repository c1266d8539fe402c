"""Policies with single numbers replaced from the command line."""

from collections.abc import Mapping

from resnet_proto.certificate import OVERRIDDEN, POLICIES, POLICY_OF_PRECISION
from resnet_proto.manifest_pb2 import Policy

from resnet_export.errors import ExportError

FIELDS = {
    "--min-agreement": "min_top1_agreement",
    "--max-error": "max_abs_error",
    "--max-accuracy-loss": "max_accuracy_loss",
    "--min-images": "min_images",
}
LARGEST = {"--min-agreement": 1.0, "--max-error": 1e6, "--max-accuracy-loss": 100.0, "--min-images": 1e6}


def policies_with(
    bounds: Mapping[str, tuple[str, ...]], wanted: tuple[str, ...], *, any_accuracy: bool = False, untrained: bool = False
) -> dict[str, Policy]:
    """The policy of each precision, after bounds such as `--min-agreement int8=0.985`; an overridden one says so in its name.

    A bare number is enough where one precision is `wanted`: with several it would loosen fp32 unnoticed. Raises
    ExportError naming the option and value that are malformed.
    """
    policies = {precision: Policy() for precision in POLICY_OF_PRECISION}
    for precision, name in POLICY_OF_PRECISION.items():
        policies[precision].CopyFrom(POLICIES[name])
    for option, values in bounds.items():
        for value in values:
            precision, number = _parse(option, value, wanted)
            _override(policies[precision], FIELDS[option], number)
    if untrained and "fp16" in wanted:  # nothing to agree on, but its error can be bounded on any image
        _override(policies["fp16"], "real_images", 0)
    if any_accuracy:
        for policy in policies.values():
            _override(policy, "hold_stated_accuracy", 0)
    return policies


def _override(policy: Policy, field: str, number: float) -> None:
    setattr(policy, field, type(getattr(policy, field))(number))
    if field == "max_abs_error":
        policy.ClearField("max_relative_error")
    policy.name = policy.name.removesuffix(OVERRIDDEN) + OVERRIDDEN


def _parse(option: str, text: str, wanted: tuple[str, ...]) -> tuple[str, float]:
    name, equals, number = text.rpartition("=")
    precision = name if equals or len(wanted) > 1 else wanted[0]
    try:
        value = float(number)
    except ValueError:
        value = float("nan")
    if precision not in wanted or not 0 <= value <= LARGEST[option]:
        raise ExportError(
            f"{option}: '{text}'; expected PRECISION=NUMBER with precision {' or '.join(wanted)} and a number 0..{LARGEST[option]:g}"
        )
    return precision, value
