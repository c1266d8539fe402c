"""`serving.toml` in a model's folder: what of the server's settings this model has otherwise."""

import hashlib
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from resnet_proto.manifest import PRECISIONS

from resnet_server.engines.runtimes import CHOICES
from resnet_server.errors import ServingError
from resnet_server.models.versions import VersionPolicy, Weights, is_version, parse_versions
from resnet_server.settings import Settings, Shares, parse_duration

FILE = "serving.toml"
MOST_BYTES = 1 << 16
LARGEST_SHARE = 1e6


class ModelSettingsError(ServingError):
    """A `serving.toml` that says something else than it can; the text names the key, the value and what was expected."""


@dataclass(frozen=True)
class ModelSettings:
    """A model's own values of the options of the same names, None where it has the server's. `digest` is the file's, empty without one.

    `weights`: how calls that name no version are shared out among several. `shadow`: the share of calls of which a version gets copies;
    what it answers is compared, and nobody waits for it.
    """

    digest: str = ""
    precision: str | None = None
    runtime: str | None = None
    versions: str | None = None
    engines: int | None = None
    threads: int | None = None
    max_batch: int | None = None
    latency_target: float | None = None
    max_queue_rows: int | None = None
    max_delay: float | None = None
    weights: Weights | None = None
    shadow: Weights | None = None

    def applied(self, settings: Settings) -> Settings:
        """The server's settings as this model has them."""
        own = {name: value for name in map(attribute, OPTIONS) if (value := getattr(self, name)) is not None}
        return replace(settings, **own)

    def in_shadow(self, version: str) -> bool:
        """Whether a version only gets copies."""
        return self.shadow is not None and any(version == one for one, _ in self.shadow.shares)

    def applied_to(self, version: str, settings: Settings) -> Settings:
        """The server's settings as a version of this model has them: in shadow, one engine on one core at most."""
        own = self.applied(settings)
        return replace(own, engines=1, threads=1) if self.in_shadow(version) else own

    def over(self, other: "ModelSettings") -> "ModelSettings":
        """These settings, and where they say nothing those of `other`."""
        return replace(self, weights=self.weights or other.weights, shadow=self.shadow or other.shadow)

    def check(self) -> None:
        """Raise ModelSettingsError where a version is to answer callers and to be compared with those that do."""
        answering = {version for version, share in self.weights.shares if share} if self.weights else set()
        if both := sorted({version for version, _ in self.shadow.shares} & answering if self.shadow else (), key=int):
            raise ModelSettingsError(f"shadow: {', '.join(both)}: has a share in weights, too; expected a version that answers nobody else")


NONE = ModelSettings()
"""All is as the server has it."""


def attribute(key: str) -> str:
    """A key of the file as an attribute of the settings."""
    return key.replace("-", "_")


def read_model_settings(folder: Path) -> ModelSettings:
    """Read the file of a model's folder; without one, nothing is otherwise. Raises ModelSettingsError."""
    try:
        data = (folder / FILE).read_bytes()
    except FileNotFoundError:
        return NONE
    except OSError as error:
        raise ModelSettingsError(f"{FILE}: cannot be read: {error.strerror}") from None
    if len(data) > MOST_BYTES:
        raise ModelSettingsError(f"{FILE}: {len(data)} bytes; expected at most {MOST_BYTES}")
    try:
        document = tomllib.loads(data.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ModelSettingsError(f"{FILE}: is no TOML: {error}") from None
    return ModelSettings(hashlib.sha256(data).hexdigest(), **{attribute(key): _read(key, value) for key, value in document.items()})


def _read(key: str, value: object) -> Any:
    if key not in READERS:
        raise ModelSettingsError(f"{FILE}: {key[:100]}: is unknown; expected some of {', '.join(READERS)}")
    try:
        return READERS[key](value)
    except ValueError as error:
        raise ModelSettingsError(f"{FILE}: {key}: {error}") from None


def _whole(most: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
            raise ValueError(f"{value!r:.100}; expected a whole number from 1 to {most}")
        return value

    return read


def _seconds(zero: bool) -> Callable[[object], float]:
    def read(value: object) -> float:
        if not isinstance(value, (str, int, float)) or isinstance(value, bool):
            raise ValueError(f"{value!r:.100}; expected a duration such as 50ms or 2s")
        return parse_duration(str(value), zero)

    return read


def _precision(value: object) -> str:
    parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else []
    if value != "auto" and not (parts and set(parts) <= set(PRECISIONS)):
        raise ValueError(f"{value!r:.100}; expected auto, or some of {', '.join(PRECISIONS)} separated by commas")
    return str(value)


def _runtime(value: object) -> str:
    if value not in CHOICES:
        raise ValueError(f"{value!r:.100}; expected one of {', '.join(CHOICES)}")
    return str(value)


def _versions(value: object) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    parse_versions(text)
    return text


OPTIONS: dict[str, Callable[[object], Any]] = {
    "precision": _precision,
    "runtime": _runtime,
    "versions": _versions,
    "engines": _whole(1024),
    "threads": _whole(1024),
    "max-batch": _whole(4096),
    "latency-target": _seconds(zero=False),
    "max-queue-rows": _whole(1 << 24),
    "max-delay": _seconds(zero=True),
}
"""By key, which is the option's name, how its value is read; ValueError for a wrong one."""


def _weights(value: object) -> Weights:
    if not isinstance(value, dict) or not value or not all(map(is_version, value)):
        raise ValueError(f"{value!r:.100}; expected versions with their shares, such as {{ 3 = 0.9, 4 = 0.1 }}")
    for version, share in value.items():
        if not isinstance(share, (int, float)) or isinstance(share, bool) or not 0 <= share <= LARGEST_SHARE:
            raise ValueError(f"{version} = {share!r:.100}; expected a share from 0 to {LARGEST_SHARE:g}")
    if not any(value.values()):
        raise ValueError("all are 0; expected a share above 0 for one version at least")
    return Weights(tuple((version, float(share)) for version, share in value.items()))


def _shadow(value: object) -> Weights:
    shadow = _weights(value)
    for version, share in shadow.shares:
        if share > 1:
            raise ValueError(f"{version} = {share:g}; expected a share of the calls from 0 to 1")
    return shadow


SHARES = {"weights": _weights, "shadow": _shadow}
READERS = {**OPTIONS, **SHARES}
"""All keys of the file."""


def parse_shares(key: str, text: str) -> Shares:
    """`resnet20=3:0.9,4:0.1`, as the option `key` (one of SHARES) takes it; raises ValueError for anything else."""
    name, equals, rest = text.partition("=")
    shares: dict[str, float] = {}
    try:
        if not equals or not name.strip():
            raise ValueError
        for part in rest.split(","):
            version, share = part.split(":")
            shares[version.strip()] = float(share)
    except ValueError:
        raise ValueError(f"'{text[:100]}'; expected a model and shares of its versions, such as resnet20=3:0.9,4:0.1") from None
    return Shares(name.strip(), SHARES[key](shares).shares)


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for: `policy` for the versions of all models, and what it says of some; a model's file overrules both."""

    policy: VersionPolicy
    models: Mapping[str, ModelSettings]

    def own(self, folder: Path) -> ModelSettings:
        """Of a model's folder: what its file says, and else the command line. Raises ModelSettingsError."""
        own = read_model_settings(folder).over(self.models.get(folder.name, NONE))
        own.check()
        return own


def wanted_of(settings: Settings) -> Wanted:
    """As the settings say."""
    weights, shadows = ({one.name: Weights(one.shares) for one in shares} for shares in (settings.weights, settings.shadows))
    models = {name: ModelSettings(weights=weights.get(name), shadow=shadows.get(name)) for name in [*weights, *shadows]}
    return Wanted(parse_versions(settings.versions), models)
