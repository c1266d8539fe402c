"""Bearer tokens: what a line of the file of tokens says, and who presents one of them.

    # name      what the token's SHA-256 is     scopes       how much it may have, if not anything
    camera-7    sha256:9f86d081884c7d659a2f...  infer        calls=50/s rows=400/s
    operator    sha256:60303ae22b998861bce3...  read,admin

A token is 32 random bytes: nobody guesses it from its hash, which needs no salt.
"""

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from resnet_server.endpoints.security.allowance import Bucket, Rate, parse_rate
from resnet_server.errors import StartError

INFER, READ, ADMIN = "infer", "read", "admin"
SCOPES = (INFER, READ, ADMIN)
CALLS, ROWS = "calls", "rows"
PREFIX, RANDOM_BYTES = "rsn_", 32
HASH = re.compile(r"sha256:([0-9a-f]{64})")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
MOST_TOKENS, MOST_BYTES = 10_000, 4 << 20


@dataclass(frozen=True)
class Token:
    """One line; `rates`: of calls and rows, where they are limited."""

    name: str
    digest: bytes
    scopes: frozenset[str]
    rates: dict[str, Rate] = field(default_factory=dict)


class Tokens:
    """All that are known, each with its allowances; `before`: those whose allowances go on."""

    def __init__(self, tokens: list[Token], sharers: int = 1, before: "Tokens | None" = None) -> None:
        self._by_digest = {token.digest: token for token in tokens}
        self._buckets: dict[tuple[str, str], Bucket] = {}
        for token in tokens:
            for kind, whole in token.rates.items():
                rate = Rate(whole.amount / sharers, whole.seconds)
                kept = before.bucket(token, kind) if before is not None else None
                self._buckets[token.name, kind] = kept if kept is not None and kept.rate == rate else Bucket(rate)

    @property
    def limit_rows(self) -> bool:
        """True if there is a token whose rows are limited."""
        return any(kind == ROWS for _, kind in self._buckets)

    def find(self, presented: str) -> Token | None:
        """Whose token that is. The hash is looked up, which tells a guesser nothing of the token, and compared in constant time."""
        digest = digest_of(presented)
        token = self._by_digest.get(digest)
        return token if token is not None and hmac.compare_digest(token.digest, digest) else None

    def bucket(self, token: Token, kind: str) -> Bucket | None:
        """What it may have of a kind; None: anything."""
        return self._buckets.get((token.name, kind))


def digest_of(token: str) -> bytes:
    """SHA-256 of a token as it is presented."""
    return hashlib.sha256(token.encode(errors="surrogateescape")).digest()


def new_token() -> str:
    """One that nobody has."""
    return PREFIX + secrets.token_urlsafe(RANDOM_BYTES)


def line_of(name: str, token: str, scopes: tuple[str, ...], rates: dict[str, str]) -> str:
    """The line of a new token; raises StartError where `read_line` would."""
    _check_name(name)
    limits = "".join(f" {kind}={rate}" for kind, rate in rates.items())
    line = f"{name} sha256:{digest_of(token).hex()} {','.join(scopes)}{limits}"
    read_line(line)
    return line


def add_line(path: Path, line: str) -> None:
    """Append to a file of tokens, which is made where it is not there. Raises StartError where that would make the file wrong."""
    name = line.split()[0]
    if path.exists():
        if any(token.name == name for token in read_tokens(path)):
            raise StartError(f"name: '{name}' is in {path} already; expected another, or that line taken out")
        text = path.read_text()
        line = line if not text or text.endswith("\n") else f"\n{line}"
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "w") as file:
            file.write(line + "\n")
    except OSError as error:
        raise StartError(f"append: {path} cannot be written: {error.strerror}") from None


def read_tokens(path: Path) -> list[Token]:
    """Raises StartError that names the line, and never shows what may be a token."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise StartError(f"tokens: {path} has more than {MOST_BYTES} bytes")
        text = path.read_text()
    except OSError as error:
        raise StartError(f"tokens: {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise StartError(f"tokens: {path} is no text") from None
    tokens = list(_read_lines(path, text))
    if len(tokens) > MOST_TOKENS:
        raise StartError(f"tokens: {path} has {len(tokens)}; expected at most {MOST_TOKENS}")
    return tokens


def _read_lines(path: Path, text: str) -> Iterator[Token]:
    seen: dict[str | bytes, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            token = read_line(line)
        except StartError as error:
            raise StartError(f"tokens: {path}:{number}: {error}") from None
        for key in (token.name, token.digest):
            if key in seen:
                what = f"name '{key}'" if isinstance(key, str) else "token"
                raise StartError(f"tokens: {path}:{number}: the {what} is in line {seen[key]}, too")
            seen[key] = number
        yield token


def read_line(line: str) -> Token:
    """Raises StartError saying which part is wrong."""
    parts = line.split()
    if len(parts) < 3:
        raise StartError(f"{len(parts)} parts; expected NAME sha256:HASH SCOPES [calls=N/s] [rows=N/s]")
    name, digest, scopes, *limits = parts
    _check_name(name)
    found = HASH.fullmatch(digest)
    if found is None:
        raise StartError("hash: expected sha256: and 64 hexadecimal digits, never the token itself; `resnet-server token` makes the line")
    named = frozenset(scopes.split(","))
    if unknown := named - set(SCOPES):
        raise StartError(f"scopes: '{min(unknown)[:50]}'; expected some of {','.join(SCOPES)}")
    return Token(name, bytes.fromhex(found[1]), named, dict(map(_read_limit, limits)))


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise StartError(f"name: '{name[:64]}'; expected 1 to 64 letters, digits, '.', '_', '@' and '-'")


def _read_limit(text: str) -> tuple[str, Rate]:
    kind, _, rate = text.partition("=")
    if kind not in (CALLS, ROWS):
        raise StartError(f"limit: '{text[:50]}'; expected calls=N/s or rows=N/s")
    try:
        return kind, parse_rate(rate)
    except ValueError as error:
        raise StartError(f"{kind}: {error}") from None
