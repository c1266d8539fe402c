"""Policies with single numbers replaced from the command line."""

from resnet_proto.certificate import POLICIES, POLICY_OF_PRECISION
from resnet_proto.manifest_pb2 import Policy

from resnet_export.errors import ExportError

FIELDS = {"agreement": "min_top1_agreement", "error": "max_abs_error", "loss": "max_accuracy_loss"}


def policies_with(bounds: tuple[str, ...]) -> dict[str, Policy]:
    """The policy of each precision, after bounds such as `int8.agreement=0.985`; an overridden one says so in its name.

    Raises ExportError naming a bound that is malformed.
    """
    policies = {precision: Policy() for precision in POLICY_OF_PRECISION}
    for precision, name in POLICY_OF_PRECISION.items():
        policies[precision].CopyFrom(POLICIES[name])
    for bound in bounds:
        precision, field, value = _parse(bound)
        policy = policies[precision]
        setattr(policy, FIELDS[field], value)
        policy.name = f"{POLICY_OF_PRECISION[precision]}, overridden"
    return policies


def _parse(bound: str) -> tuple[str, str, float]:
    expected = f"expected PRECISION.NAME=NUMBER with precision {', '.join(POLICY_OF_PRECISION)} and name {', '.join(FIELDS)}"
    name, _, number = bound.partition("=")
    precision, _, field = name.partition(".")
    try:
        value = float(number)
    except ValueError:
        value = float("nan")
    if precision not in POLICY_OF_PRECISION or field not in FIELDS or not 0 <= value < 1e6:
        raise ExportError(f"bound: '{bound}'; {expected}")
    return precision, field, value
