"""How connections are kept, aged and filled: the settings as arguments of gRPC's core, for either transport."""

from typing import Any

from resnet_server.settings import Settings

MILLISECONDS = 1e3
HANDSHAKE_SECONDS = 10
"""In which a new connection says what it is; until then gRPC keeps the descriptor even of one that is cut. Its own bound is two minutes."""

COMPRESSED, PLAIN = 1, 0
"""Levels of gRPC's: the server then compresses with what the caller says it takes, and not at all where it takes nothing."""

OVERLOAD_PROTECTION = ("grpc.http.overload_protection", 0)
"""It counts calls that have ended as well, and would refuse a caller who keeps to the limit."""

DURATIONS = {
    "keepalive_time": ("grpc.keepalive_time_ms",),
    "keepalive_timeout": ("grpc.keepalive_timeout_ms", "grpc.http2.ping_timeout_ms"),
    "keepalive_least": ("grpc.http2.min_ping_interval_without_data_ms",),
    "max_connection_age": ("grpc.max_connection_age_ms",),
    "max_connection_age_grace": ("grpc.max_connection_age_grace_ms",),
}
"""In milliseconds. Only the second of two ends the connection of a peer that is silent: the first alone was measured to do nothing."""


def arguments_of(settings: Settings) -> list[tuple[str, Any]]:
    """What is not set stays as gRPC has it."""
    limit = settings.max_message_bytes
    found: list[tuple[str, Any]] = [
        ("grpc.max_receive_message_length", limit),
        ("grpc.max_send_message_length", limit),
        ("grpc.server_handshake_timeout_ms", round(MILLISECONDS * HANDSHAKE_SECONDS)),
        ("grpc.default_compression_level", COMPRESSED if settings.compression == "gzip" else PLAIN),
    ]
    for name, arguments in DURATIONS.items():
        seconds = getattr(settings, name)
        if seconds is not None:
            found += [(argument, max(1, round(MILLISECONDS * seconds))) for argument in arguments]
    if settings.keepalive_time is not None or settings.keepalive_least is not None:  # for connections without calls, too
        found += [("grpc.keepalive_permit_without_calls", 1), ("grpc.http2.max_pings_without_data", 0)]
    if settings.max_concurrent_streams is not None:
        found += [("grpc.max_concurrent_streams", settings.max_concurrent_streams), OVERLOAD_PROTECTION]
    return found
