"""What an application is told, by `args` of a Serve configuration or `name=value` of `serve run`."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any


@dataclass(frozen=True)
class Arguments:
    """Replicas and what each runs.

    `repository` is a path on every node, or inside the `working_dir` that Ray fetches by URL; `cpus` are cores of a replica, which
    computes on one engine for each; `options` are further options of `resnet-server serve`, such as `--precision int8`;
    `waiting_seconds` and `demand` are what a replica should have when `max_replicas` lets their number follow the load.
    """

    repository: str
    replicas: int = 1
    max_replicas: int = 0
    cpus: int = 1
    gpus: int = 0
    options: str = ""
    host: str = ""
    ongoing: int = 512
    waiting_seconds: float = 0.25
    demand: float = 0.7

    @classmethod
    def of(cls, given: Mapping[str, object]) -> "Arguments":
        """Checked arguments; raises ValueError that names what is wrong."""
        kinds = {field.name: field.type for field in fields(cls)}
        if unknown := sorted(set(given) - set(kinds)):
            raise ValueError(f"{', '.join(unknown)}: unknown; expected some of {', '.join(kinds)}")
        if not given.get("repository"):
            raise ValueError("repository: missing; expected a folder that resnet-export published to")
        arguments = replace(cls(str(given["repository"])), **{name: _converted(name, kinds[name], value) for name, value in given.items()})
        for name in ("replicas", "cpus", "ongoing"):
            if getattr(arguments, name) < 1:
                raise ValueError(f"{name}: {getattr(arguments, name)}; expected 1 or more")
        return arguments

    def command(self, host: str) -> list[str]:
        """Command line of a server on free ports of `host`."""
        place = ["--repository", self.repository, "--host", host, "--grpc-port", "0", "--metrics-port", "0", "--http-port", "off"]
        given = shlex.split(self.options)
        # Ray does not pin its workers: without a word, every replica would plan for all cores of its node.
        cores = [] if self.gpus or "--engines" in given else ["--engines", str(self.cpus), "--threads", "1"]
        return [*place, *cores, *given]


def _converted(name: str, kind: object, value: object) -> Any:
    convert = {int: int, float: float}.get(kind, str) if isinstance(kind, type) else str
    try:
        return convert(str(value))
    except ValueError:
        raise ValueError(f"{name}: {str(value)[:80]!r}; expected a number") from None
