"""One port for several processes: held by us, shared through SO_REUSEPORT with the front ends alone."""

import socket

from resnet_server.endpoints.address import bare, written
from resnet_server.errors import StartError


class SharedPort:
    """Holds a port without listening on it, so that nobody else takes it while front ends come and go."""

    def __init__(self, host: str, port: int, name: str = "grpc-port") -> None:
        host = bare(host)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family)
        try:
            with socket.socket(family) as probe:  # without SO_REUSEPORT: another server there is an error, not a partner
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
                self.port: int = probe.getsockname()[1]
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            self._socket.bind((host, self.port))
        except OSError as error:
            self._socket.close()
            raise StartError(
                f"{name}: {written(host, port)} cannot be opened ({error.strerror}); is another server running there?"
            ) from None

    def close(self) -> None:
        """Give the port back."""
        self._socket.close()
