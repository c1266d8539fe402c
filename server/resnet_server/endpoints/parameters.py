"""The request parameters that the server knows; others are ignored, as the protocol asks."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite

from resnet_proto.open_inference_pb2 import InferParameter, ModelInferRequest

from resnet_server.batching.chooser import ANY, Demand
from resnet_server.batching.row_queue import NORMAL, PRIORITIES
from resnet_server.errors import InvalidRequestError, shown


@dataclass(frozen=True)
class Parameters:
    """As given, or their defaults; `timeout_us` in microseconds, None without one."""

    precision: str = ""
    timeout_us: int | None = None
    priority: int = NORMAL
    demand: Demand = ANY


NONE_GIVEN = Parameters()


def read_parameters(request: ModelInferRequest) -> Parameters:
    """`precision` (a string), `timeout` (microseconds; 0: none, as in Triton) and `priority` (1 first, 3 last, 0 the default).

    Of the network that answers: `min_accuracy`, 0 to 1 (a number, or a string for clients that send no fractions), and `max_depth`.
    Raises InvalidRequestError naming the parameter, its value and what was expected.
    """
    given = request.parameters
    if not given:
        return NONE_GIVEN
    timeout = _whole_number(given, "timeout", "a positive int64_param in microseconds, or 0 for none")
    if timeout is not None and timeout < 0:
        raise InvalidRequestError(f"parameters.timeout: {timeout}; expected a positive int64_param in microseconds, or 0 for none")
    expected = f"0 to {max(PRIORITIES)} as int64_param: 1 goes first, 0 is the default"
    priority = _whole_number(given, "priority", expected) or NORMAL
    if priority not in PRIORITIES:
        raise InvalidRequestError(f"parameters.priority: {priority}; expected {expected}")
    return Parameters(_precision(given), timeout or None, priority, _demand(given))


def check_accuracy(value: float, field: str = "min_accuracy") -> float:
    """A share; raises InvalidRequestError naming `field`."""
    if not (isfinite(value) and 0 <= value <= 1):
        raise InvalidRequestError(f"{field}: {value:g}; expected 0 to 1, a share of the images")
    return value


def _demand(given: Mapping[str, InferParameter]) -> Demand:
    if "min_accuracy" not in given and "max_depth" not in given:
        return ANY
    expected = "a positive int64_param, or 0 for any"
    depth = _whole_number(given, "max_depth", expected) or 0
    if depth < 0:
        raise InvalidRequestError(f"parameters.max_depth: {depth}; expected {expected}")
    accuracy = _share(given, "min_accuracy")
    return Demand(accuracy, depth) if accuracy or depth else ANY


def _share(given: Mapping[str, InferParameter], name: str) -> float:
    if name not in given:
        return 0.0
    kind = given[name].WhichOneof("parameter_choice")
    value = getattr(given[name], kind) if kind else None
    try:
        number = float(value) if kind != "bool_param" and value is not None else None
    except ValueError:
        number = None
    if number is None:
        raise InvalidRequestError(f"parameters.{name}: {shown(repr(value))} as {kind}; expected 0 to 1 as double_param")
    return check_accuracy(number, f"parameters.{name}")


def _whole_number(given: Mapping[str, InferParameter], name: str, expected: str) -> int | None:
    if name not in given:
        return None
    parameter = given[name]
    kind = parameter.WhichOneof("parameter_choice")
    if kind == "int64_param":
        return parameter.int64_param
    if kind == "uint64_param":
        return parameter.uint64_param
    value = shown(repr(getattr(parameter, kind))) if kind else "nothing"
    raise InvalidRequestError(f"parameters.{name}: {value} as {kind}; expected {expected}")


def _precision(given: Mapping[str, InferParameter]) -> str:
    if "precision" not in given:
        return ""
    kind = given["precision"].WhichOneof("parameter_choice")
    if kind != "string_param":
        raise InvalidRequestError(f"parameters.precision: is {kind}; expected string_param")
    return given["precision"].string_param
