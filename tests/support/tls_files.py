"""Certificates of an authority of the test's own, as files that a test may replace."""

import ssl
from pathlib import Path

import trustme

NAMES = ("localhost", "127.0.0.1")


class Keys:
    """An authority, a server's certificate and a client's, all in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.cert, self.key, self.roots = (folder / f"{name}.pem" for name in ("server", "server-key", "roots"))
        self.client_cert, self.client_key, self.client_roots = (folder / f"{name}.pem" for name in ("client", "client-key", "client-roots"))
        self.authority, self.client_authority = trustme.CA(), trustme.CA()
        write(self.roots, self.authority.cert_pem.bytes())
        self.renew()
        self.renew_client()

    def renew(self) -> bytes:
        """Another certificate of the server, put in place of the one before; the key comes a moment later. Its DER form."""
        made = self.authority.issue_cert(*NAMES)
        chain = b"".join(part.bytes() for part in made.cert_chain_pems)
        write(self.cert, chain)
        write(self.key, made.private_key_pem.bytes())
        return ssl.PEM_cert_to_DER_cert(chain.decode())

    def renew_client(self, *, other_authority: bool = False) -> None:
        """Another certificate of the client; from another authority, too, whom the server is told to trust from now on."""
        if other_authority:
            self.client_authority = trustme.CA()
        made = self.client_authority.issue_cert("client.example")
        write(self.client_roots, self.client_authority.cert_pem.bytes())
        write(self.client_cert, made.cert_chain_pems[0].bytes())
        write(self.client_key, made.private_key_pem.bytes())

    def context(self, *, known: bool = False) -> ssl.SSLContext:
        """What a client of Python's trusts; `known`: with a certificate of its own."""
        context = ssl.create_default_context(cafile=str(self.roots))
        if known:
            context.load_cert_chain(self.client_cert, self.client_key)
        return context


def write(path: Path, data: bytes) -> None:
    """Replace a file whole, as whoever renews certificates does."""
    beside = path.with_suffix(".new")
    beside.write_bytes(data)
    beside.replace(path)
