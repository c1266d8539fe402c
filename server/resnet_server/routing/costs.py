"""What batches cost now, learned from those that ran: a batch of b rows on member m holds an engine for f * L_m(b) + s * b seconds.

L_m is the plan's. f, the slow-down factor, is of the machine, and multiplies what is computed (ALERT, USENIX ATC 2020). s, the serving
cost, is what each row costs beside it: calls are received, parsed and answered on cores that engines share, and so are the batches'
ways there and back. It is the same for every network, so that a factor alone would make deep networks too dear, or shallow ones too cheap.

How much of a batch's time is f and how much s cannot be told from one batch. Where nobody waits, engines hardly wait for the front
end: there f alone is learned. Where the queue stands, both are, by normalised least mean squares (Widrow and Hoff): each error is
corrected by the smallest change of the two, so that batches of different networks tell them apart.
"""

from resnet_server.routing.member import Member

LEARN = 0.1  # weight of the newest batch
MOST_TIMES = 4.0  # what one batch may be off from what is known: a stall may raise it, not overthrow it
LEAST_FACTOR, MOST_FACTOR = 0.25, 16.0
MOST_SERVING = 1.0  # of what a row costs on the cheapest network: what goes beyond is a slow machine, not dear calls


class Costs:
    """`row`: seconds of an engine that a row takes on the cheapest member, in full batches; the unit of the serving cost."""

    def __init__(self, row: float) -> None:
        self.slow_down = 1.0
        self.deviation = 0.0
        self.serving = 0.0
        self._row = row

    def replan(self, row: float) -> None:
        """Another measurement of the same members; what was learned stays, within the new bound."""
        self._row = row
        self.serving = min(self.serving, MOST_SERVING * row)

    def seconds(self, member: Member, rows: float) -> float:
        """For a batch of `rows`, as the machine is now, with what serving them takes."""
        return self.slow_down * (member.fixed + member.per_row * rows) + self.serving * rows

    def computed(self, member: Member, rows: int, seconds: float) -> None:
        """Learn from a batch that computed for so long while nobody waited: how much slower than planned the machine is now."""
        known = self.slow_down
        off = min(MOST_TIMES * known, max(known / MOST_TIMES, seconds / member.seconds(rows))) - known
        self._slow_down_by(LEARN * off)
        self._note(abs(off))

    def held(self, member: Member, rows: int, seconds: float) -> None:
        """Learn from a batch that held its engine for so long while others waited: from the end of the one before it to its own."""
        known, planned, unit = self.seconds(member, rows), member.seconds(rows), self._row * rows
        off = min(MOST_TIMES * known, max(known / MOST_TIMES, seconds)) - known
        step = LEARN * off / (planned * planned + unit * unit)
        self._slow_down_by(step * planned)
        self.serving = min(MOST_SERVING * self._row, max(0.0, self.serving + step * unit * self._row))
        self._note(abs(off) / planned)

    def _slow_down_by(self, change: float) -> None:
        self.slow_down = min(MOST_FACTOR, max(LEAST_FACTOR, self.slow_down + change))

    def _note(self, off: float) -> None:
        self.deviation += LEARN * (off - self.deviation)
