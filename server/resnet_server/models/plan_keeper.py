"""A plan is an assumption: watched in service, measured again in calm where it is doubtful, and replaced without a pause."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from resnet_server.engines.api import RUNTIME_NAMES
from resnet_server.errors import ServingError
from resnet_server.models.served_model import ServedModel
from resnet_server.planning.disturbance import processor_time
from resnet_server.planning.plan import Plan

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
CALM_SECONDS = 1.0  # in which the cores have next to nothing to do
CALM_IDLE = 0.9
BUSY_LOOK_SECONDS = 0.05  # between two looks, while a plan is measured, whether somebody asks for something


@dataclass(frozen=True)
class Kept:
    """A model, how its plan is measured again, what ends that, and how another plan is put in place."""

    model: ServedModel
    measure: Callable[[], Awaitable[Plan]]
    give_up: Callable[[], None]
    swap: Callable[[Plan], Awaitable[None]]


async def cores_are_idle() -> bool:
    """Whether nobody uses the cores that this process may use."""
    before = processor_time()
    await asyncio.sleep(CALM_SECONDS)
    return processor_time().idle_since(before) >= CALM_IDLE


class PlanKeeper:
    """Looks after the plans of all models, one after the other; never while one of them has something to do.

    Every change of what is served takes the `turn`. `kept` may change only while nobody holds it.
    """

    def __init__(self, kept: list[Kept], calm: Callable[[], Awaitable[bool]] = cores_are_idle) -> None:
        self.kept = kept
        self.turn = asyncio.Lock()
        self._calm = calm
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look after them."""
        self._task = asyncio.get_running_loop().create_task(self._go_on())

    async def close(self) -> None:
        """Stop, also in the middle of a measurement."""
        if self._task is not None:
            self._task.cancel()
            for kept in self.kept:
                kept.give_up()
            await asyncio.wait((self._task,))

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self._look_at_all()  # a variable here would hold the last one for as long as the next pause

    async def _look_at_all(self) -> None:
        for kept in tuple(self.kept):
            await self.look(kept)

    async def look(self, kept: Kept) -> bool:
        """Measure one plan again if it needs that and the machine is calm; whether it was."""
        async with self.turn:
            return kept in self.kept and await self._look(kept)

    async def _look(self, kept: Kept) -> bool:
        model = kept.model
        if not (model.info.plan.doubtful or model.watch.looks_wrong) or not self._is_idle() or not await self._calm():
            return False
        why = "was measured under load" if model.info.plan.doubtful else f"takes {model.watch.times:.1f} times as long as it says"
        log.info("%s: the plan %s; measuring again", model.name, why)
        try:
            plan = await self._measure(kept)
            if plan is None or plan.doubtful:
                return False
            await self._adopt(kept, plan)
        except (ServingError, OSError) as error:
            log.warning("%s: the plan stays as it is: %s", model.name, error)
            return False
        return True

    async def _measure(self, kept: Kept) -> Plan | None:
        """None if somebody asked for something meanwhile: the measurement gives way."""
        measuring = asyncio.ensure_future(kept.measure())
        gave_way = False
        while not (await asyncio.wait((measuring,), timeout=BUSY_LOOK_SECONDS))[0]:
            if not gave_way and not self._is_idle():
                gave_way = True
                kept.give_up()
        if gave_way:
            with contextlib.suppress(ServingError):
                measuring.result()
            return None
        return measuring.result()

    async def _adopt(self, kept: Kept, plan: Plan) -> None:
        model, old = kept.model, kept.model.info.plan
        if (plan.layout, plan.batch, plan.wide_threads) == (old.layout, old.batch, old.wide_threads):
            model.replan(plan)
            log.info("%s: the plan holds: %s", model.name, plan.reason)
        else:
            await kept.swap(plan)
            how = f"{plan.engines} x {plan.threads} on {RUNTIME_NAMES[plan.runtime]} in batches of up to {plan.batch}"
            log.info("%s: from now on %s: %s", model.name, how, plan.reason)

    def _is_idle(self) -> bool:
        return not any(kept.model.batcher.queued_rows or kept.model.batcher.running_rows for kept in self.kept)
