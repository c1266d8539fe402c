"""Exit with 0 if the server on this host answers SERVING to grpc.health.v1, else with 1 and one line.

Needs grpcio only: the request for the whole server is the empty message, the answer SERVING the bytes of `status: 1`.
"""

import os
import sys

import grpc

SERVING = b"\x08\x01"
TIMEOUT = 3.0


def main() -> None:
    """Ask the port that the server was told to answer probes on, which speaks no TLS, or else the one for calls."""
    port = os.environ.get("RESNET_SERVER_HEALTH_PORT", "off")
    address = f"127.0.0.1:{port if port != 'off' else os.environ.get('RESNET_SERVER_GRPC_PORT', '8001')}"
    with grpc.insecure_channel(address) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check", bytes, bytes)
        try:
            answer = check(b"", timeout=TIMEOUT)
        except grpc.RpcError as error:
            sys.exit(f"{address}: {error.code().name}")
    if answer != SERVING:
        sys.exit(f"{address}: not serving")


if __name__ == "__main__":
    main()
