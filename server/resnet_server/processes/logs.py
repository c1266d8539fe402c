"""The log of every process of ours: to stderr, one format."""

import logging

FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def set_up_logging(level: int | str) -> None:
    """Log from `level` on."""
    logging.basicConfig(level=level, format=FORMAT)
