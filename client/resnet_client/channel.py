"""How channels are made."""

import json

DEFAULT_URL = "localhost:8001"
DEFAULT_TIMEOUT = 30.0

# UNAVAILABLE means that nothing was computed: the server is starting, draining or gone. gRPC retries it by itself.
SERVICE_CONFIG = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.05s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 3,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
)

OPTIONS: list[tuple[str, str | int]] = [
    ("grpc.max_send_message_length", -1),  # the server's limit decides, and its answer names it
    ("grpc.max_receive_message_length", -1),
    ("grpc.service_config", SERVICE_CONFIG),
]
