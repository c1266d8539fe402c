"""Errors of this package."""


class BenchError(Exception):
    """Something that keeps a benchmark from running, or voids it; one line for people."""
