"""Latencies in an HDR histogram: whole microseconds from 1 us to 10 minutes, exact to three digits."""

from collections.abc import Iterable

from hdrh.histogram import HdrHistogram

HIGHEST_US, DIGITS = 600_000_000, 3


def new_histogram() -> HdrHistogram:
    """An empty one."""
    return HdrHistogram(1, HIGHEST_US, DIGITS)


def record(histogram: HdrHistogram, seconds: float) -> None:
    """Count a latency; less than 1 us counts as 1 us."""
    histogram.record_value(min(HIGHEST_US, max(1, round(1e6 * seconds))))


def encoded(histogram: HdrHistogram) -> bytes:
    """As bytes, to be sent to another process."""
    return bytes(histogram.encode())


def merged(parts: Iterable[bytes]) -> HdrHistogram:
    """The sum of encoded histograms."""
    histogram = new_histogram()
    for part in parts:
        histogram.decode_and_add(part)
    return histogram


def percentile_ms(histogram: HdrHistogram, percentile: float) -> float:
    """A percentile in milliseconds; 0 where nothing was counted."""
    return float(histogram.get_value_at_percentile(percentile)) / 1e3
