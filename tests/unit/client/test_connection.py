"""How a client comes back to a server that was away."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
from resnet_client.connection import Connection

SOON = 0.7  # gRPC itself waits for 0.8 to 1.2 s after the first failure
SECONDS = 30


def test_a_server_that_was_away_for_a_moment_is_found_at_once() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"127.0.0.1:{probe.getsockname()[1]}"
    seen = {state: threading.Event() for state in grpc.ChannelConnectivity}
    server = grpc.server(ThreadPoolExecutor(1))
    with Connection(url, None, None, ()).channel() as channel:
        channel.subscribe(lambda state: seen[state].set(), try_to_connect=True)
        assert seen[grpc.ChannelConnectivity.TRANSIENT_FAILURE].wait(SECONDS)
        server.add_insecure_port(url)
        server.start()
        back = time.monotonic()
        assert seen[grpc.ChannelConnectivity.READY].wait(SECONDS)
        assert time.monotonic() - back < SOON
    server.stop(None).wait()
