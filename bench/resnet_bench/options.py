"""Kinds of values on the command line."""

import math

import click

from resnet_bench.load.request import DTYPES, Tensor


class Numbers(click.ParamType[tuple[int, ...]]):
    """Positive whole numbers, separated by commas."""

    name = "N,N"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Parse, or fail with what was expected."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(int(part) for part in str(value).split(","))
        except ValueError:
            numbers = ()
        if not numbers or min(numbers) < 1:
            self.fail(f"'{value}'; expected positive whole numbers separated by commas", param, ctx)
        return numbers


class Rates(click.ParamType[tuple[float, ...]]):
    """Calls a second, separated by commas."""

    name = "RATE,RATE"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """Parse, or fail with what was expected."""
        if isinstance(value, tuple):
            return value
        try:
            rates = tuple(float(part) for part in str(value).split(","))
        except ValueError:
            rates = ()
        if not rates or not all(0 < rate < math.inf for rate in rates):
            self.fail(f"'{value}'; expected calls a second, above 0, separated by commas", param, ctx)
        return rates


class Seconds(click.ParamType[float]):
    """A duration: `50ms`, `2s`, or a number of seconds."""

    name = "DURATION"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse, or fail with what was expected."""
        text = str(value).strip()
        number, unit = (text[:-2], 1e-3) if text.endswith("ms") else (text.removesuffix("s"), 1.0)
        try:
            seconds = float(number) * unit
        except ValueError:
            seconds = 0.0
        if not 0 < seconds < math.inf:
            self.fail(f"'{value}'; expected a duration such as 50ms or 2s", param, ctx)
        return seconds


class Names(click.ParamType[tuple[str, ...]]):
    """Names separated by commas."""

    name = "NAME,NAME"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Split; an empty value is no name."""
        if isinstance(value, tuple):
            return value
        return tuple(name.strip() for name in str(value).split(",") if name.strip())


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
