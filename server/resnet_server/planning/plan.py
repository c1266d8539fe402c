"""A plan, the measurements it was chosen from, and the choice."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from resnet_server.engines.api import ONNXRUNTIME, RUNTIME_NAMES

NEAR_BEST = 0.985  # a smaller batch that reaches this share of the throughput answers sooner
HANDOVER_SECONDS = 4e-4  # of processor time, on both sides of the process border together, for each batch
GRAIN_SECONDS = 1.5e-3  # an engine more is worth it for batches that compute much longer than handing over takes
LEAST_GRAIN_SECONDS = 0.75e-3  # where so few rows are here that waiting for a grain would leave engines idle
UNDISTURBED = 0.8  # of the processor time; a plan of which a candidate got less is used for now, and measured again in calm
NEAR_LAYOUT = 0.95  # a layout that serves so much of the best one's batches is taken if it serves more single images
WORTH_WIDE = 0.9  # a lone image runs on all cores where that takes at most this share of the time

Layout = tuple[str, int, int, str]
"""Precision, engines, threads, runtime."""


@dataclass(frozen=True)
class Trial:
    """`engines` of `threads` each, all busy with batches of `rows`: a batch takes `seconds` of `runtime`.

    `wide`: a lone engine whose threads spin, which has the machine to itself. `share` is the processor time that it got of what it
    wanted: below 1, others were at work here.
    """

    precision: str
    engines: int
    threads: int
    rows: int
    seconds: float
    wide: bool = False
    share: float = 1.0
    runtime: str = ONNXRUNTIME

    @property
    def throughput(self) -> float:
        """Images a second of all engines together."""
        return self.engines * self.rows / self.seconds

    @property
    def served(self) -> float:
        """Images a second that remain once batches are handed over."""
        return self.engines * self.rows / (self.seconds + HANDOVER_SECONDS)

    @property
    def layout(self) -> Layout:
        """What makes a plan, but for the batch."""
        return self.precision, self.engines, self.threads, self.runtime


@dataclass(frozen=True)
class Plan:
    """Batches of at most `batch` rows; one takes `fixed` + `per_row` * rows seconds; alone, it has `wide_threads` (0: as always).

    `left_out`: runtimes that are not tried again, since the certificate does not hold on them here.
    """

    precision: str
    engines: int
    threads: int
    wide_threads: int
    batch: int
    fixed: float
    per_row: float
    reason: str
    trials: tuple[Trial, ...]
    runtime: str = ONNXRUNTIME
    left_out: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """The least share of the processor that a candidate got: one that was disturbed may have lost for that."""
        return min(trial.share for trial in self.trials)

    @property
    def doubtful(self) -> bool:
        """Whether others disturbed the measurement."""
        return self.share < UNDISTURBED

    @property
    def throughput(self) -> float:
        """Images a second, as measured when the plan was made."""
        return next(t.throughput for t in self.trials if t.layout == self.layout and t.rows == self.batch and not t.wide)

    @property
    def wide_seconds(self) -> float:
        """For a lone image on `wide_threads`."""
        wanted = self.precision, self.wide_threads, self.runtime
        return next(trial.seconds for trial in self.trials if trial.wide and (trial.precision, trial.threads, trial.runtime) == wanted)

    @property
    def layout(self) -> Layout:
        """What is compared with that of trials."""
        return self.precision, self.engines, self.threads, self.runtime

    @property
    def grain(self) -> int:
        """Rows whose computing outweighs handing them to an engine."""
        return self._rows_of(GRAIN_SECONDS)

    @property
    def least_grain(self) -> int:
        """The same, where few rows are here."""
        return self._rows_of(LEAST_GRAIN_SECONDS)

    def _rows_of(self, seconds: float) -> int:
        return min(self.batch, max(1, round(seconds / self.per_row)))

    def to_json(self) -> str:
        """The plan as JSON."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> "Plan":
        """Read `to_json`; raises ValueError, KeyError or TypeError for anything else."""
        values = json.loads(text)
        trials = tuple(Trial(**trial) for trial in values["trials"])
        return Plan(**{**values, "trials": trials, "left_out": tuple(values["left_out"])})


def choose(trials: Sequence[Trial], latency_target: float | None, cores: int) -> Plan:
    """The layout that serves the most in batches within `latency_target` seconds, in the smallest batch that comes near it.

    Of layouts that come near each other in that, the one that serves single images best.

    Where no batch is that fast, the fastest one is taken and the reason says so. Raises ValueError without trials of busy engines.
    """
    crowd = [trial for trial in trials if not trial.wide]
    busy = [trial for trial in crowd if trial.engines * trial.threads >= cores] or crowd
    if not busy:
        raise ValueError("no trials")
    within = [trial for trial in busy if latency_target is None or trial.seconds <= latency_target]
    best = best_layout(within) if within else min(busy, key=lambda trial: trial.seconds)
    same = [trial for trial in within if trial.layout == best.layout and trial.served >= NEAR_BEST * best.served]
    taken = min(same, key=lambda trial: trial.rows, default=best)
    precision, engines, threads, runtime = best.layout
    wide = widest([trial for trial in trials if (trial.precision, trial.runtime) == (precision, runtime)], threads)
    fixed, per_row = fit([trial for trial in busy if trial.layout == best.layout])
    reason = explain(taken, busy, latency_target, bool(within))
    return Plan(precision, engines, threads, wide, taken.rows, fixed, per_row, reason, tuple(trials), runtime)


def best_layout(within: Sequence[Trial]) -> Trial:
    """The trial with the most images served, of the layout that is best for batches and singles.

    ONNX Runtime, where one of its layouts comes near: another runtime's engines start slower and take more memory.
    """
    best: dict[Layout, Trial] = {}
    for trial in within:
        best[trial.layout] = max(best.get(trial.layout, trial), trial, key=lambda trial: trial.served)
    singles = {trial.layout: trial.served for trial in within if trial.rows == 1}
    most = max(trial.served for trial in best.values())
    near = [trial for trial in best.values() if trial.served >= NEAR_LAYOUT * most]
    preferred = [trial for trial in near if trial.runtime == ONNXRUNTIME] or near
    return max(preferred, key=lambda trial: (singles.get(trial.layout, 0.0), trial.served))


def widest(trials: Sequence[Trial], threads: int) -> int:
    """Threads for a lone image, 0 if more of them than `threads` gain too little."""
    alone = [trial.seconds for trial in trials if (trial.engines, trial.threads, trial.rows, trial.wide) == (1, threads, 1, False)]
    wide = min((trial for trial in trials if trial.wide and trial.threads > threads), key=lambda trial: trial.seconds, default=None)
    return wide.threads if alone and wide is not None and wide.seconds <= WORTH_WIDE * min(alone) else 0


def fit(trials: Sequence[Trial]) -> tuple[float, float]:
    """Least squares of seconds = a + c * rows, relative to the seconds, so that small batches count as much; a >= 0, c > 0."""
    rows = np.array([trial.rows for trial in trials], float)
    seconds = np.array([trial.seconds for trial in trials])
    if len(trials) > 1:
        matrix = np.stack([np.ones_like(rows), rows], axis=1) / seconds[:, None]
        fixed, per_row = np.linalg.lstsq(matrix, np.ones_like(seconds), rcond=None)[0]
        if fixed >= 0 and per_row > 0:
            return float(fixed), float(per_row)
    return 0.0, float(np.mean(seconds / rows))


def explain(taken: Trial, busy: Sequence[Trial], latency_target: float | None, reached: bool) -> str:
    """Why this one."""
    others = {trial.layout: 0.0 for trial in busy if trial.layout != taken.layout}
    for trial in busy:
        if trial.layout in others:
            others[trial.layout] = max(others[trial.layout], trial.throughput)
    text = f"{taken.throughput:,.0f} images/s in batches of {taken.rows}, {1e3 * taken.seconds:.2f} ms each"
    if latency_target is not None:
        text += (
            f"; within {1e3 * latency_target:g} ms"
            if reached
            else f"; no batch keeps within {1e3 * latency_target:g} ms, this is the fastest"
        )
    if others:
        (precision, engines, threads, runtime), rate = max(others.items(), key=lambda item: item[1])
        text += f"; next: {engines} x {threads} in {precision} on {RUNTIME_NAMES[runtime]}, {rate:,.0f} images/s"
    return text
