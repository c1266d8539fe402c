"""What the server says in trailing metadata beside a status, and the client follows."""

RETRY_AFTER = "grpc-retry-pushback-ms"
"""Milliseconds until the same call may succeed; beside RESOURCE_EXHAUSTED. gRPC's own name for it (proposal A6)."""

COMPUTED = "resnet-computed"
"""Beside UNAVAILABLE: NOTHING, so that the call may be repeated freely, or MAYBE: its engine died, perhaps because of this call."""

NOTHING, MAYBE = "nothing", "maybe"
