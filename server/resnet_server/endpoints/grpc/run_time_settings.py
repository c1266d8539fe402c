"""LogSettings and TraceSetting: what may be looked at, and what may be changed, while the server runs.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_logging.md and extension_trace.md
"""

import logging
from collections.abc import Mapping

from resnet_proto import open_inference_pb2 as pb

from resnet_server.endpoints.error_status import Border, Context
from resnet_server.endpoints.security.access import Access
from resnet_server.errors import InvalidRequestError, NotEnabledError, shown, shown_list
from resnet_server.metrics.call_facts import OTLP, CallObserver
from resnet_server.models.registry import Registry
from resnet_server.processes.logs import LogSwitches

LEVELS = {"log_error": logging.ERROR, "log_warning": logging.WARNING, "log_info": logging.INFO}
VERBOSE, FILE, FORMAT = "log_verbose_level", "log_file", "log_format"
KIND_OF = {**dict.fromkeys(LEVELS, "bool_param"), VERBOSE: "uint32_param", FILE: "string_param", FORMAT: "string_param"}
FIXED = {FILE: "", FORMAT: "default"}
MOST_VERBOSE = 1
LEVEL, RATE, MODE, COUNT, FREQUENCY = "trace_level", "trace_rate", "trace_mode", "trace_count", "log_frequency"
TRACE_FILE = "trace_file"
LARGEST_RATE = 10**9


class TraceSettings:
    """Triton's words for the traces of an observer: one in `trace_rate` calls is traced, 0: none, and it alone can be set.

    Calls that bring a trace context of their own are traced as that says. Without an observer nothing is traced.
    """

    def __init__(self, where: str, observer: CallObserver | None) -> None:
        self._observer = observer if where else None
        self._initial = 0.0 if self._observer is None else self._observer.trace_share
        level, file = ("TIMESTAMPS" if self.is_on else "OFF"), (where if where != OTLP else "")
        self._fixed = {LEVEL: level, MODE: "opentelemetry", COUNT: "-1", FREQUENCY: "0", TRACE_FILE: file}

    @property
    def is_on(self) -> bool:
        """Whether this process traces."""
        return self._observer is not None

    @property
    def values(self) -> dict[str, str]:
        """As they are now."""
        share = 0.0 if self._observer is None else self._observer.trace_share
        return {**self._fixed, RATE: str(round(1 / share)) if share else "0"}

    def share_of(self, given: Mapping[str, pb.TraceSettingRequest.SettingValue]) -> float | None:
        """The share of calls that a request wants traced; None where it does not say. Raises InvalidRequestError for what cannot be set."""
        values, share = self.values, None
        for name, setting in given.items():
            if name not in values:
                raise InvalidRequestError(f"settings.{shown(name)}: is unknown; expected some of {', '.join(values)}")
            if name == RATE and self.is_on:
                share = self._share(list(setting.value))
            elif setting.value and list(setting.value) != [values[name]]:
                text = shown_list(setting.value, len(setting.value))
                raise InvalidRequestError(f"settings.{name}: {text}; expected '{values[name]}', it is not changed while the server runs")
        return share

    def set_share(self, share: float | None) -> None:
        """From now on."""
        if share is not None and self._observer is not None:
            self._observer.trace_share = share

    def _share(self, values: list[str]) -> float:
        if not values:
            return self._initial
        text = values[0]
        if len(values) != 1 or not (text.isascii() and text.isdecimal()) or len(text) > 10 or int(text) > LARGEST_RATE:
            shown_values = shown_list(values, len(values))
            raise InvalidRequestError(
                f"settings.{RATE}: {shown_values}; expected a whole number from 0 to {LARGEST_RATE}: one in so many calls"
            )
        return 1 / int(text) if int(text) else 0.0


class RunTimeSettingsService:
    """Of this process: with `several` front ends each logs by itself, and a caller would reach one of them."""

    def __init__(self, registry: Registry, border: Border, access: Access, traces: TraceSettings, several: bool) -> None:
        self.names = ("logging", "trace") if traces.is_on else ("logging",)
        self._traces = traces
        self._registry = registry
        self._border = border
        self._access = access
        self._several = several
        self._switches = LogSwitches()

    async def LogSettings(self, request: pb.LogSettingsRequest, context: Context) -> pb.LogSettingsResponse:
        """The settings, after those of the request are made, all or none; one without a value goes back to what it was at the start."""
        async with self._border.call("LogSettings", context):
            if request.settings:
                self._access.require_admin(context.invocation_metadata() or (), "LogSettings")
                changes = self._changes(request.settings)
                if self._several:
                    raise NotEnabledError("LogSettings: several front ends log each by itself; start the server with --frontends 1")
                self._switches.turn(changes)
        return self._log_settings()

    async def TraceSetting(self, request: pb.TraceSettingRequest, context: Context) -> pb.TraceSettingResponse:
        """The settings, after those of the request are made, all or none; they are the same for all models."""
        async with self._border.call("TraceSetting", context):
            if request.model_name:
                self._registry.find(request.model_name)  # raises for what is not served
            if request.settings:
                self._access.require_admin(context.invocation_metadata() or (), "TraceSetting")
                self._set_traces(request)
        settings = {name: pb.TraceSettingResponse.SettingValue(value=[value]) for name, value in self._traces.values.items()}
        return pb.TraceSettingResponse(settings=settings)

    def _set_traces(self, request: pb.TraceSettingRequest) -> None:
        share = self._traces.share_of(request.settings)
        if share is not None and request.model_name:
            raise InvalidRequestError(f"model_name: '{shown(request.model_name)}'; expected it empty, since all models are traced alike")
        if share is not None and self._several:
            raise NotEnabledError("TraceSetting: several front ends trace each by itself; start the server with --frontends 1")
        self._traces.set_share(share)

    def _changes(self, given: Mapping[str, pb.LogSettingsRequest.SettingValue]) -> dict[int, bool]:
        changes: dict[int, bool] = {}
        for name, setting in given.items():
            value = read_log_setting(name, setting)
            if name in FIXED:
                continue
            level = LEVELS.get(name, logging.DEBUG)
            changes[level] = self._switches.initial[level] if value is None else bool(value)
        return changes

    def _log_settings(self) -> pb.LogSettingsResponse:
        response, kind = pb.LogSettingsResponse(), pb.LogSettingsResponse.SettingValue
        for name, level in LEVELS.items():
            response.settings[name].CopyFrom(kind(bool_param=self._switches.is_on(level)))
        response.settings[VERBOSE].CopyFrom(kind(uint32_param=int(self._switches.is_on(logging.DEBUG))))
        for name, value in FIXED.items():
            response.settings[name].CopyFrom(kind(string_param=value))
        return response


def read_log_setting(name: str, setting: pb.LogSettingsRequest.SettingValue) -> bool | int | str | None:
    """Its value, None without one. Raises InvalidRequestError for an unknown setting, another kind of value, or one that it cannot have."""
    if name not in KIND_OF:
        raise InvalidRequestError(f"settings.{shown(name)}: is unknown; expected some of {', '.join(KIND_OF)}")
    kind = setting.WhichOneof("parameter_choice")
    if kind is None:
        return None
    if kind != KIND_OF[name]:
        raise InvalidRequestError(f"settings.{name}: is {kind}; expected {KIND_OF[name]}")
    value: bool | int | str = getattr(setting, kind)
    if name in FIXED and value != FIXED[name]:
        raise InvalidRequestError(
            f"settings.{name}: '{shown(str(value))}'; expected '{FIXED[name]}', it is not changed while the server runs"
        )
    if name == VERBOSE and int(value) > MOST_VERBOSE:
        raise InvalidRequestError(f"settings.{name}: {value}; expected 0 or {MOST_VERBOSE}")
    return value
