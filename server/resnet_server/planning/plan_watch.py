"""Whether a plan still predicts the cost of batches: compares observed with predicted times in service."""

import math

LEARN = 0.02  # weight of the newest batch: about the last 50
ENOUGH = 50  # batches from which on there is something to say
SLOWER, FASTER = 1.5, 0.6  # of the planned time; between them a processor's own ups and downs lie


class PlanWatch:
    """Follows how much of its planned time a batch takes, in the geometric mean; batches that were alone on all cores say nothing."""

    def __init__(self, fixed: float, per_row: float) -> None:
        self.renew(fixed, per_row)

    def renew(self, fixed: float, per_row: float) -> None:
        """Watch another plan, whose batches take `fixed` + `per_row` * rows seconds."""
        self._fixed, self._per_row = fixed, per_row
        self._log = 0.0
        self._seen = 0

    def note(self, rows: int, seconds: float) -> None:
        """One batch took `seconds`."""
        self._seen += 1
        self._log += max(LEARN, 1 / self._seen) * (math.log(max(seconds, 1e-9) / (self._fixed + self._per_row * rows)) - self._log)

    @property
    def times(self) -> float:
        """How many times the planned seconds batches take; 1 while too few were seen."""
        return math.exp(self._log) if self._seen >= ENOUGH else 1.0

    @property
    def looks_wrong(self) -> bool:
        """Whether the plan should be measured again."""
        return not FASTER <= self.times <= SLOWER
