"""What the options of `resnet-server` take: durations, ports, versions, names, groups, numbers of GPUs."""

import re
from functools import partial
from typing import TypeVar

import click

from resnet_server.errors import StartError
from resnet_server.settings import Group, Shares, parse_duration

T = TypeVar("T")
SERVICE_LINK = re.compile(r"(tcp|udp|sctp)://")
GROUP_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
PORT = click.IntRange(0, 65535)
SHARE = click.FloatRange(0, 1)


class Option(click.Option):
    """An option whose environment variable Kubernetes may set for a Service of a similar name. Such a value is reported and ignored.

    A Service `resnet-server-grpc` gives every pod `RESNET_SERVER_GRPC_PORT=tcp://10.96.3.4:8001`.
    """

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """See `click.Option`."""
        value = super().resolve_envvar_value(ctx)
        if value is None or not SERVICE_LINK.match(value):
            return value
        click.echo(f"--{str(self.name).replace('_', '-')}: '{value}' in the environment is of a Kubernetes Service; ignored", err=True)
        return None


option = partial(click.option, show_envvar=True, cls=Option)


class Literal(click.ParamType[T]):
    """A type whose values are words of its name, which help therefore shows as it is: click would write it in capitals."""

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """See `click.ParamType`."""
        return self.name


class Seconds(click.ParamType[float]):
    """A duration: `50ms`, `2s`, or a number of seconds."""

    name = "DURATION"

    def __init__(self, zero: bool = False) -> None:
        self._zero = zero

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse, or fail with what was expected."""
        try:
            return parse_duration(str(value), self._zero)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Versions(Literal[str]):
    """Which versions of a model: `latest`, `latest-2`, `all`, or numbers."""

    name = "latest|latest-N|all|N,N"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check, or fail with what was expected."""
        from resnet_server.models.versions import parse_versions  # as below

        try:
            parse_versions(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return str(value)


class OptionalPort(Literal[int | None]):
    """A port, or `off`."""

    name = "PORT|off"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        """Parse, or fail with what was expected."""
        return None if value is None or value == "off" else int(PORT.convert(str(value), param, ctx))  # type: ignore[arg-type]  # its stubs want the number


class GpuNumbers(click.ParamType[tuple[int, ...]]):
    """Different whole numbers, separated by commas."""

    name = "N,N"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Parse, or fail with what was expected."""
        from resnet_server.engines.device import parse_device_ids  # ONNX Runtime: not needed for --help

        try:
            return parse_device_ids(str(value))
        except StartError as error:
            self.fail(str(error), param, ctx)


class Names(click.ParamType[tuple[str, ...]]):
    """Names, separated by commas."""

    name = "NAME,NAME"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Split."""
        return tuple(name.strip() for name in str(value).split(",") if name.strip())


class GroupOf(click.ParamType[Group]):
    """`NAME=MODEL,MODEL`: a name, and the models that answer under it."""

    name = "NAME=MODEL,..."

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Group:
        """Parse, or fail with what was expected."""
        if isinstance(value, Group):
            return value
        name, equals, members = str(value).partition("=")
        names = tuple(dict.fromkeys(member.strip() for member in members.split(",") if member.strip()))
        if not equals or not names or not GROUP_NAME.fullmatch(name.strip()):
            self.fail(f"'{value}'; expected a name and models, such as auto=resnet20,resnet56", param, ctx)
        return Group(name.strip(), names)


class SharesOf(click.ParamType[Shares]):
    """`NAME=VERSION:SHARE,...`: shares of a model's versions. `key`: what they are for."""

    name = "NAME=VERSION:SHARE,..."

    def __init__(self, key: str) -> None:
        self._key = key

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Shares:
        """Parse, or fail with what was expected."""
        from resnet_server.models.model_settings import parse_shares  # as below

        if isinstance(value, Shares):
            return value
        try:
            return parse_shares(self._key, str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
