"""The log of every process of ours: to stderr, one format, with switches that may be turned while it runs."""

import logging

FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
SILENT = logging.CRITICAL + 1


def set_up_logging(level: int | str) -> None:
    """Log from `level` on."""
    logging.basicConfig(level=level, format=FORMAT)


class LogSwitches(logging.Filter):
    """Which kinds of records this process logs: a switch for each of debug, info, warning and error, as the root's level is when made."""

    levels = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)

    def __init__(self) -> None:
        super().__init__()
        root = logging.getLogger()
        self.initial = {level: root.level <= level for level in self.levels}
        self._on = dict(self.initial)

    def is_on(self, level: int) -> bool:
        """Whether records of one of `levels` are logged."""
        return self._on[level]

    def turn(self, changes: dict[int, bool]) -> None:
        """Turn switches, at once for all records to come."""
        self._on = {**self._on, **changes}
        root = logging.getLogger()
        for handler in root.handlers:
            handler.addFilter(self)
        root.setLevel(min((level for level, on in self._on.items() if on), default=SILENT))

    def filter(self, record: logging.LogRecord) -> bool:
        """See `logging.Filter`; levels between two of ours count as the lower one, and those above as errors."""
        return self._on[max((level for level in self.levels if level <= record.levelno), default=logging.DEBUG)]
