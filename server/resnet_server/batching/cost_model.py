"""What a batch costs: L(b) = a + c*b seconds for b rows, fitted online.

A least-squares fit over the last batches, with exponential forgetting. Where they are all of one size, the slope cannot be
seen, and the plan's fit is scaled instead.
"""

FORGET = 0.98  # about the last 50 batches
OUTLIER = 4.0  # a stall of the machine may raise the fit, not overthrow it


class CostModel:
    """Starts from a plan's `fixed` (a) and `per_row` (c), in seconds, and follows what is observed.

    `wide`: a batch that is alone runs on more threads than others. It says nothing of what these cost: how much of the planned time it
    takes is learned apart.
    """

    def __init__(self, fixed: float, per_row: float, wide: bool = False) -> None:
        self.planned_fixed, self.planned_per_row = max(0.0, fixed), max(1e-9, per_row)
        self.fixed, self.per_row = self.planned_fixed, self.planned_per_row
        self._wide = wide
        self._alone = 1.0
        self._n = self._b = self._bb = self._t = self._bt = self._planned = 0.0

    def replan(self, fixed: float, per_row: float) -> None:
        """Another measurement of the same plan; what has been observed stays."""
        self.planned_fixed, self.planned_per_row = max(0.0, fixed), max(1e-9, per_row)

    def planned(self, rows: float) -> float:
        """Seconds for a batch of `rows`, as measured for the plan."""
        return self.planned_fixed + self.planned_per_row * rows

    def predict(self, rows: float) -> float:
        """Seconds for a batch of `rows`, as the machine is now."""
        return self.fixed + self.per_row * rows

    def at_best(self, rows: float) -> float:
        """Seconds for a batch of `rows` on an idle machine: the plan's, or less where it has been seen."""
        return min(min(1.0, self._alone) * self.planned(rows), self.predict(rows))

    def observe(self, rows: int, seconds: float, alone: bool = False) -> None:
        """Learn from one batch."""
        if self._wide and alone:
            self._alone += (1 - FORGET) * (min(seconds, OUTLIER * self.planned(rows)) / self.planned(rows) - self._alone)
            return
        seconds = min(seconds, OUTLIER * self.predict(rows))
        self._n = FORGET * self._n + 1
        self._b = FORGET * self._b + rows
        self._bb = FORGET * self._bb + rows * rows
        self._t = FORGET * self._t + seconds
        self._bt = FORGET * self._bt + rows * seconds
        self._planned = FORGET * self._planned + self.planned(rows)
        self._fit()

    def _fit(self) -> None:
        spread = self._n * self._bb - self._b * self._b  # n² times the variance of the sizes
        if self._n > 4 and spread > 0.05 * self._b * self._b:
            per_row = (self._n * self._bt - self._b * self._t) / spread
            fixed = (self._t - per_row * self._b) / self._n
            if per_row > 0 and fixed >= 0:
                self.fixed, self.per_row = fixed, per_row
                return
        scale = self._t / self._planned
        self.fixed, self.per_row = scale * self.planned_fixed, scale * self.planned_per_row
