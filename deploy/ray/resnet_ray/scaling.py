"""How many replicas there should be: the same two totals, and the same rule, as under Kubernetes (docs/how-to/kubernetes.md)."""

import math
from collections.abc import Iterable, Mapping


def wanted(totals: Mapping[str, float], thresholds: Mapping[str, float], least: int, most: int) -> int:
    """ceil(total / threshold), the largest over the metrics, within the bounds."""
    asked = [math.ceil(totals[name] / threshold - 1e-9) for name, threshold in thresholds.items()]
    return max(least, min(most, max(asked, default=least)))


def latest_total(replicas: Iterable[Iterable[object]]) -> float:
    """Sum over replicas of each one's last value; `replicas` are time series of points with a `value`, empty ones count nothing."""
    last = [list(points)[-1:] for points in replicas]
    return sum(float(getattr(point, "value", 0.0)) for points in last for point in points)


class Policy:
    """The autoscaling policy of a placed deployment; Serve calls it with its context."""

    def __init__(self, waiting_seconds: float, demand: float) -> None:
        self._thresholds = {"waiting_seconds": waiting_seconds, "demand": demand}

    def __call__(self, context: object) -> tuple[int, dict[str, object]]:
        """The number of replicas wanted, and no state."""
        raw: Mapping[str, Mapping[object, Iterable[object]]] = getattr(context, "raw_metrics", None) or {}
        totals = {name: latest_total(raw.get(name, {}).values()) for name in self._thresholds}
        least, most = (int(getattr(context, f"capacity_adjusted_{bound}_replicas")) for bound in ("min", "max"))
        return wanted(totals, self._thresholds, least, most), {}
