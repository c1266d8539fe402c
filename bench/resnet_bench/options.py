"""Kinds of values on the command line, and the options that commands share."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from resnet_bench.requests import DTYPES, Tensor

F = TypeVar("F", bound=Callable[..., Any])
UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}
FOLDER = click.Path(path_type=Path, file_okay=False)
REPOSITORY = click.Path(path_type=Path)
PRECISIONS = ("auto", "fp32", "fp16", "int8")


class Numbers(click.ParamType[tuple[float, ...]]):
    """Positive numbers, separated by commas; `whole` ones only where that is asked for."""

    name = "N,N"

    def __init__(self, expected: str, whole: bool = True) -> None:
        self._expected, self._whole = expected, whole

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """Parse, or fail with what was expected."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple((int if self._whole else float)(part) for part in str(value).split(","))
        except ValueError:
            numbers = ()
        if not numbers or not all(0 < number < math.inf for number in numbers):
            self.fail(f"'{value}'; expected {self._expected}, separated by commas", param, ctx)
        return numbers


WHOLE = Numbers("positive whole numbers")
RATES = Numbers("calls a second, above 0", whole=False)
SHARES = Numbers("shares above 0, such as 0.5", whole=False)


class Seconds(click.ParamType[float]):
    """A duration: `50ms`, `2s`, `10m`, `1h`, or a number of seconds."""

    name = "DURATION"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse, or fail with what was expected."""
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"\s*([\d.]+(?:e-?\d+)?)(ms|s|m|h|)\s*", str(value))
        try:
            seconds = float(match[1]) * UNITS[match[2]] if match else 0.0
        except ValueError:
            seconds = 0.0
        if not 0 < seconds < math.inf:
            self.fail(f"'{value}'; expected a duration such as 50ms or 2s", param, ctx)
        return seconds


class Amount(click.ParamType[tuple[int | None, float]]):
    """So many calls, as (calls, 0), or so long, as (None, seconds)."""

    name = "DURATION or CALLS"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int | None, float]:
        """A number without a unit is one of calls."""
        if isinstance(value, tuple):
            return value
        if str(value).isdecimal() and int(str(value)):
            return int(str(value)), 0.0
        return None, Seconds().convert(value, param, ctx)


class Names(click.ParamType[tuple[str, ...]]):
    """Names separated by commas; some of `known` where that is given."""

    name = "NAME,NAME"

    def __init__(self, known: tuple[str, ...] = ()) -> None:
        self._known = known

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Split, or fail with what is unknown; an empty value is no name."""
        if isinstance(value, tuple):
            return value
        names = tuple(name.strip() for name in str(value).split(",") if name.strip())
        if self._known and (unknown := [name for name in names if name not in self._known]):
            self.fail(f"'{unknown[0]}'; expected some of {', '.join(self._known)}", param, ctx)
        return names


class InputTensor(click.ParamType[Tensor]):
    """A tensor as NAME:DATATYPE:SHAPE, such as image:UINT8:-1,224,224,3."""

    name = "NAME:DATATYPE:SHAPE"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Tensor:
        """Parse, or fail with what was expected."""
        if isinstance(value, Tensor):
            return value
        name, _, rest = str(value).partition(":")
        datatype, _, sizes = rest.partition(":")
        try:
            shape = tuple(int(size) for size in sizes.split(","))
        except ValueError:
            shape = ()
        if not name or datatype not in DTYPES or not shape or not all(size == -1 or size > 0 for size in shape):
            expected = f"NAME:DATATYPE:SHAPE such as image:UINT8:-1,224,224,3, DATATYPE one of {', '.join(DTYPES)}"
            self.fail(f"'{value}'; expected {expected}", param, ctx)
        return Tensor(name, datatype, shape)


def measuring(repeats: int, duration: str) -> Callable[[F], F]:
    """The options of every command that measures."""
    options = (
        click.option("--duration", type=Seconds(), default=duration, help="Counted time of each run."),
        click.option("--repeats", type=click.IntRange(1), default=repeats, help="Interleaved over all that is measured."),
        click.option("--seeds", type=click.IntRange(1), default=1, help="Sequences of Poisson arrivals in each repeat."),
        click.option("--slo", type=Seconds(), default="50ms", help="An answer within it counts as goodput."),
        click.option("--generators", type=click.IntRange(1), default=1, help="Processes that send."),
        click.option("--niceness", type=click.IntRange(-20, 19), default=-10, help="Of the generators; below 0 needs root."),
        click.option("--allow-disturbed", is_flag=True, help="Also count runs in which other programs or the hypervisor took the cores."),
        click.option("--out", type=FOLDER, help="Folder for results.json, results.csv and more."),
    )

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate
