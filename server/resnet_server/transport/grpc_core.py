"""How gRPC's core waits for its sockets; to be said before `grpc` is imported.

Since EventEngine, a server's sockets are polled by threads of the core, and each event is handed over to the completion queue's
thread, which hands it to Python's. With the older listener the completion queue polls by itself: a call costs a fifth less
(docs/decisions/0005-front-end.md).
"""

import os
import re
from importlib.metadata import version

SWITCH = "GRPC_EXPERIMENTS"
OLDER_LISTENER = "-event_engine_listener"
KNOWN_FROM, KNOWN_BEFORE = (1, 81), (1, 86)  # a version that does not know the name says so at every start


def is_measured() -> bool:
    """True if grpcio's version is one that we have measured and tested the inside of."""
    numbers = re.match(r"(\d+)\.(\d+)", version("grpcio"))
    return numbers is not None and KNOWN_FROM <= (int(numbers[1]), int(numbers[2])) < KNOWN_BEFORE


def choose_listener() -> None:
    """Set the switch for this process and those it starts, unless the user has, or gRPC's version is none that was measured."""
    if is_measured():
        os.environ.setdefault(SWITCH, OLDER_LISTENER)
