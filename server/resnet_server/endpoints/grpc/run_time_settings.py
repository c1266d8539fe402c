"""LogSettings and TraceSetting: what may be looked at, and what may be changed, while the server runs.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_logging.md and extension_trace.md
"""

import logging
from collections.abc import Mapping

from resnet_proto import open_inference_pb2 as pb

from resnet_server.endpoints.error_status import Border, Context
from resnet_server.endpoints.security.access import Access
from resnet_server.errors import InvalidRequestError, NotEnabledError, shown, shown_list
from resnet_server.models.registry import Registry
from resnet_server.processes.logs import LogSwitches

LEVELS = {"log_error": logging.ERROR, "log_warning": logging.WARNING, "log_info": logging.INFO}
VERBOSE, FILE, FORMAT = "log_verbose_level", "log_file", "log_format"
KIND_OF = {**dict.fromkeys(LEVELS, "bool_param"), VERBOSE: "uint32_param", FILE: "string_param", FORMAT: "string_param"}
FIXED = {FILE: "", FORMAT: "default"}
MOST_VERBOSE = 1
TRACES = {
    "trace_level": "OFF",
    "trace_rate": "0",
    "trace_count": "-1",
    "trace_mode": "opentelemetry",
    "log_frequency": "0",
    "trace_file": "",
}
"""Callers start and stop no traces here; what is asked for must be what is."""


class RunTimeSettingsService:
    """Of this process: with `several` front ends each logs by itself, and a caller would reach one of them."""

    names = ("logging",)

    def __init__(self, registry: Registry, border: Border, access: Access, several: bool) -> None:
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
        """The settings; they are what they are while the server runs, for all models alike."""
        async with self._border.call("TraceSetting", context):
            if request.model_name:
                self._registry.find(request.model_name)  # raises for what is not served
            if request.settings:
                self._access.require_admin(context.invocation_metadata() or (), "TraceSetting")
                check_traces(request.settings)
        settings = {name: pb.TraceSettingResponse.SettingValue(value=[value]) for name, value in TRACES.items()}
        return pb.TraceSettingResponse(settings=settings)

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


def check_traces(given: Mapping[str, pb.TraceSettingRequest.SettingValue]) -> None:
    """Raises InvalidRequestError for settings that are unknown, or other than they are."""
    for name, setting in given.items():
        if name not in TRACES:
            raise InvalidRequestError(f"settings.{shown(name)}: is unknown; expected some of {', '.join(TRACES)}")
        if setting.value and list(setting.value) != [TRACES[name]]:
            text = shown_list(setting.value, len(setting.value))
            raise InvalidRequestError(f"settings.{name}: {text}; expected '{TRACES[name]}', it is not changed while the server runs")
