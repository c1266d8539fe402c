"""What is asked of Prometheus, through its HTTP API."""

import json
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any

from deploy.check.errors import CheckError

TIMEOUT = 10.0


@dataclass(frozen=True)
class Prometheus:
    """The server at `url`."""

    url: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an instant query; empty while Prometheus starts. Raises CheckError for a query that is wrong."""
        return list(self._get("query", query=expression).get("result", []))

    def value(self, expression: str) -> float:
        """The value of a query's first series; 0 if there is none."""
        series = self.query(expression)
        return float(series[0]["value"][1]) if series else 0.0

    def matrix(self, expression: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        """The series of a query over a range of time (seconds since the epoch)."""
        return list(self._get("query_range", query=expression, start=start, end=end, step=step).get("result", []))

    def rules(self) -> list[dict[str, Any]]:
        """All rules, with name, type, health and state."""
        return [rule for group in self._get("rules").get("groups", []) for rule in group["rules"]]

    def targets(self, job: str) -> list[dict[str, Any]]:
        """The targets that are scraped for a job."""
        return [target for target in self._get("targets").get("activeTargets", []) if target["labels"]["job"] == job]

    def _get(self, path: str, **parameters: object) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}", timeout=TIMEOUT) as answer:  # noqa: S310  # http, on this machine
                return dict(json.load(answer)["data"])
        except urllib.error.HTTPError as error:
            raise CheckError(f"Prometheus: {path}: {json.load(error).get('error', error.reason)}") from None
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return {}
