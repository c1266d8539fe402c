"""Which scope each method asks for, and whether a caller has it: one decision for both forms of the protocol."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from resnet_server.endpoints.security.tokens import ADMIN, CALLS, INFER, READ, ROWS, Token, Tokens, read_tokens
from resnet_server.endpoints.security.watched_files import WatchedFiles
from resnet_server.errors import ForbiddenError, QuotaError, UnauthenticatedError
from resnet_server.settings import Settings

Scopes = tuple[str, ...]
OPEN: Scopes = ()
OIP, CLASSIFIER = "/inference.GRPCInferenceService/", "/resnet.v1.Classifier/"


def _of(scopes: Scopes, service: str, *methods: str) -> dict[str, Scopes]:
    return {service + method: scopes for method in methods}


SCOPES_OF: dict[str, Scopes] = {
    **_of(OPEN, "/grpc.health.v1.Health/", "Check", "Watch"),
    **_of(OPEN, OIP, "ServerLive", "ServerReady", "ModelReady"),
    **_of((INFER,), OIP, "ModelInfer", "ModelStreamInfer"),
    **_of((INFER,), CLASSIFIER, "Classify"),
    **_of((INFER, READ), OIP, "ServerMetadata", "ModelMetadata", "ModelConfig"),
    **_of((INFER, READ), CLASSIFIER, "ListModels"),
    **_of((READ,), OIP, "RepositoryIndex", "ModelStatistics", "SystemSharedMemoryStatus", "CudaSharedMemoryStatus"),
    **_of((READ,), OIP, "TraceSetting", "LogSettings"),
    **_of((READ,), "/", "metrics"),
    **_of((READ,), "/grpc.reflection.v1alpha.ServerReflection/", "ServerReflectionInfo"),
}
"""By the path of a method: one of them is enough, and who infers may ask what the models take.

What is not here asks for `admin`. TraceSetting and LogSettings read and write: see `Access.require_admin`.
"""

LOOK_SECONDS = 1.0
"""Between two looks at the file of tokens: one that is taken out of it is good for so long."""

BEARER = "bearer "
Metadata = Iterable[Any]
Judge = Callable[[Metadata], None]


class Access:
    """Judges calls by their metadata: pairs of lower-case names and values. Any thread may ask.

    `tokens` None: everybody may infer and read, and nobody has the scope `admin` unless it is `open_admin`.
    """

    def __init__(self, tokens: WatchedFiles[Tokens] | None, open_admin: bool) -> None:
        self._tokens = tokens
        self.has_tokens = tokens is not None
        self._open_admin = open_admin

    def judge_of(self, path: str) -> Judge | None:
        """What a method's calls have to pass, told once and not for each call; None: nothing.

        It raises UnauthenticatedError, ForbiddenError, or QuotaError where the caller has had its calls.
        """
        scopes, method = SCOPES_OF.get(path, (ADMIN,)), path.rpartition("/")[2]
        if scopes == OPEN or (self._tokens is None and (ADMIN not in scopes or self._open_admin)):
            return None
        return partial(self._admit, scopes, method)

    def require_admin(self, metadata: Metadata, method: str) -> None:
        """For methods that read and write: writing is an operator's. Raises what a judge raises."""
        if self._tokens is None and self._open_admin:
            return
        self._allow((ADMIN,), method, metadata)

    def take_call(self, metadata: Metadata) -> None:
        """Count a further request of a stream that was admitted as one call. Raises QuotaError where its token has had its calls."""
        if self._tokens is not None:
            self._take(self._token(self._tokens.current(), metadata), CALLS, 1)

    def take_rows(self, metadata: Metadata, rows: int) -> None:
        """Count rows of a call that was admitted. Raises QuotaError where its token has had its rows."""
        if self._tokens is not None and self._tokens.current().limit_rows:
            self._take(self._token(self._tokens.current(), metadata), ROWS, rows)

    def name_of(self, metadata: Metadata) -> str:
        """Whose token a call has, for logs; empty without tokens, or for one that is not known."""
        if self._tokens is None:
            return ""
        presented = presented_by(metadata)
        token = None if presented is None else self._tokens.current().find(presented)
        return "" if token is None else token.name

    def _admit(self, scopes: Scopes, method: str, metadata: Metadata) -> None:
        self._take(self._allow(scopes, method, metadata), CALLS, 1)

    def _allow(self, scopes: Scopes, method: str, metadata: Metadata) -> Token:
        if self._tokens is None:
            raise ForbiddenError(f"{method}: is closed; expected a token of scope 'admin', which this server has none of (--tokens)")
        token = self._token(self._tokens.current(), metadata)
        if token.scopes.isdisjoint(scopes):
            raise ForbiddenError(
                f"{method}: asks for scope {either(scopes)}; the token of '{token.name}' has {', '.join(sorted(token.scopes))}"
            )
        return token

    def _token(self, tokens: Tokens, metadata: Metadata) -> Token:
        presented = presented_by(metadata)
        if presented is None:
            raise UnauthenticatedError("authorization: not sent; expected 'Bearer' and a token")
        token = tokens.find(presented)
        if token is None:
            raise UnauthenticatedError("authorization: the token is unknown; expected one that this server was given")
        return token

    def _take(self, token: Token, kind: str, count: int) -> None:
        assert self._tokens is not None  # noqa: S101  # a token came from there
        bucket = self._tokens.current().bucket(token, kind)
        wait = 0.0 if bucket is None else bucket.take(count)
        if wait:
            rate = token.rates[kind]
            text = f"{kind}: '{token.name}' has had the {rate.amount:g} that it may have in {rate.seconds:g} s; try again later"
            raise QuotaError(text, wait)


def either(scopes: Scopes) -> str:
    """As an error names them."""
    return " or ".join(f"'{scope}'" for scope in scopes)


def presented_by(metadata: Metadata) -> str | None:
    """The token that a call has with it; None where it has none, or something else than a bearer's."""
    for key, value in metadata:
        if key == "authorization":
            if isinstance(value, str) and value[: len(BEARER)].lower() == BEARER:
                return value[len(BEARER) :].strip()
            return None
    return None


def access_of(settings: Settings, on_read: Callable[[bool], None] = lambda _: None, sharers: int = 1) -> Access:
    """As the settings say. Raises StartError for a wrong file."""
    path = settings.tokens
    if path is None:
        return Access(None, settings.open_admin)
    latest: list[Tokens] = []

    def read() -> Tokens:
        latest[:] = [Tokens(read_tokens(path), sharers, latest[0] if latest else None)]
        return latest[0]

    return Access(WatchedFiles("tokens", (path,), read, on_read, LOOK_SECONDS), settings.open_admin)
