"""All contenders for one model, ours among them: side by side and stopped but for the one that is measured, or one started at a time."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Self

from resnet_bench.peers import litserve, mlserver, triton
from resnet_bench.peers.contender import Contender, Layout, Setting, send_all
from resnet_bench.peers.environment import PeerMissingError
from resnet_bench.published import SERVE_ANYWAY
from resnet_bench.target import Target, started

OURS, RAW = "ours", "raw"
PEERS = (OURS, RAW, "triton", "mlserver", "litserve")
LARGEST_QUEUE = 2048  # the server's default


def contenders(names: Sequence[str], cores: int) -> list[Contender]:
    """Every configuration of the servers named: the set among which the best of each counts, load by load."""
    narrow, wide, spinning = Layout(cores, 1, False), Layout(1, cores, False), Layout(1, cores, True)
    layouts = {"triton": (narrow, wide, spinning), "mlserver": (wide, spinning, narrow), "litserve": (narrow, wide, spinning)}
    starts = {"triton": triton.start, "mlserver": mlserver.start, "litserve": litserve.start}
    ours = [Contender(OURS, "as it starts by default", start_ours)] if OURS in names else []
    return ours + [
        Contender(name, str(layout), partial(starts[name], layout=layout))
        for name in names
        for layout in dict.fromkeys(layouts.get(name, ()))
    ]


@contextmanager
def start_ours(setting: Setting) -> Iterator[Target]:
    """Our server by its defaults, but for the runtime, which all use.

    Its queue holds what a closed loop sends, and its plan is measured in this benchmark.
    """
    published = setting.published
    queue = ("--max-queue-rows", str(setting.rows_at_once)) if setting.rows_at_once > LARGEST_QUEUE else ()
    anyway = () if published.manifest.network.trained else SERVE_ANYWAY
    plans = ("--plan-cache", str(setting.folder / "plans"))
    options = (
        "--models",
        published.manifest.name,
        "--precision",
        published.precision,
        "--runtime",
        setting.runtime,
        *plans,
        *queue,
        *anyway,
    )
    with started(published.folder.parents[1], options) as target:
        yield replace(target, setup="as it starts by default")


@dataclass
class Lineup:
    """Gives each contender's target for the time that it is measured; `missing` says why some cannot run.

    Side by side, all that are not measured are stopped by SIGSTOP, ours like the others; `alone`, each is started when its turn comes.
    """

    contenders: Sequence[Contender]
    setting: Setting
    alone: bool = False
    missing: dict[str, str] = field(default_factory=dict)
    _up: dict[Contender, Target] = field(default_factory=dict)
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        for contender in () if self.alone else self.contenders:
            try:
                self._up[contender] = self._stack.enter_context(contender.start(self.setting))
            except PeerMissingError as error:
                self.missing[contender.name] = str(error)
                continue
            except BaseException:
                self.__exit__()
                raise
            send_all(family(self._up[contender]), signal.SIGSTOP)
        return self

    def __exit__(self, *_: object) -> None:
        for target in self._up.values():
            send_all(family(target), signal.SIGCONT)  # who is stopped cannot end
        self._stack.close()

    @contextmanager
    def serving(self, contender: Contender) -> Iterator[Target | None]:
        """Its target, running while all others are stopped or not there; None where it cannot run."""
        if self.alone:
            with ExitStack() as stack:
                target = None
                try:
                    target = stack.enter_context(contender.start(self.setting))
                except PeerMissingError as error:
                    self.missing[contender.name] = str(error)
                yield target
        elif contender in self._up:
            target = self._up[contender]
            send_all(family(target), signal.SIGCONT)
            try:
                yield target
            finally:
                send_all(family(target), signal.SIGSTOP)
        else:
            yield None


def family(target: Target) -> list[int]:
    """The server's processes."""
    return list(target.usage(memory=False))
