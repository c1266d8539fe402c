"""All servers of one work, ours and the peers, started side by side and idle but for the one that is measured."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from resnet_bench.limit.driving import GrpcEndpoint
from resnet_bench.limit.published import find
from resnet_bench.limit.serving import serving
from resnet_bench.peers.environment import PeerMissingError
from resnet_bench.peers.kinds import OURS, PEERS
from resnet_bench.peers.peer import Setting, Standing
from resnet_bench.peers.work import Work

MAX_BATCH = 64  # the server's default


@dataclass
class Standings:
    """Those that serve, by name, and why the others do not."""

    up: dict[str, Standing] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Places:
    """Where the peers' environments are, whether missing ones may be made, and the cores of the machine."""

    environments: Path
    install: bool
    cores: int


@contextmanager
def standing(work: Work, names: tuple[str, ...], places: Places) -> Iterator[Standings]:
    """Start the servers named; a peer that cannot run is `missing`, but ours must start (BenchError)."""
    standings = Standings()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="resnet-bench-peers-")))
        if OURS in names:
            standings.up[OURS] = stack.enter_context(_ours(work))
        published = find(work.repository, work.model, work.precision)
        setting = Setting(published, folder, places.environments, places.install, places.cores, MAX_BATCH, work.rows_at_once)
        for name in (name for name in names if name != OURS):
            try:
                standings.up[name] = stack.enter_context(PEERS[name](setting))
            except PeerMissingError as error:
                standings.missing[name] = str(error)
        yield standings


@contextmanager
def _ours(work: Work) -> Iterator[Standing]:
    with serving(work.repository, work.model, work.ours_precision, work.rows_at_once, work.options) as server:
        yield Standing(GrpcEndpoint(OURS, server.url), server.pid, server.precision, "resnet-server as it starts by default")
