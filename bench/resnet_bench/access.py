"""How a server is spoken to that wants TLS or a token."""

from dataclasses import dataclass
from typing import Any

import grpc
from resnet_client import TLS


@dataclass(frozen=True)
class Access:
    """`tls` None: plain; `token` empty: none is sent."""

    tls: TLS | None = None
    token: str = ""

    @property
    def plain(self) -> bool:
        """True where nothing is wanted."""
        return self.tls is None and not self.token

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with each call."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    def channel(self, url: str, options: Any = ()) -> grpc.Channel:
        """For threads; raises InvalidInputError for wrong files."""
        if self.tls is None:
            return grpc.insecure_channel(url, options)
        return grpc.secure_channel(url, self.tls.credentials(), self._named(options))

    def aio_channel(self, url: str, options: Any = ()) -> grpc.aio.Channel:
        """For the running event loop, likewise."""
        if self.tls is None:
            return grpc.aio.insecure_channel(url, options)
        return grpc.aio.secure_channel(url, self.tls.credentials(), self._named(options))

    def _named(self, options: Any) -> list[tuple[str, Any]]:
        name = self.tls.server_name if self.tls is not None else ""
        return [*options, *([("grpc.ssl_target_name_override", name)] if name else [])]


PLAIN = Access()
