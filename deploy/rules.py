"""Writes what repeats the Prometheus rules for the Prometheus operator and for the Helm chart: `python -m deploy.rules`.

`deploy/prometheus/rules` is the one place where rules are edited. The burn rates repeat one formula over four windows, so they are
written from a template: `errors.yml` and `latency.yml`.
"""

from pathlib import Path

DEPLOY = Path(__file__).parent
RULES = DEPLOY / "prometheus" / "rules"
OPERATOR = DEPLOY / "kubernetes" / "components" / "monitoring" / "prometheusrule.yaml"
CHART = DEPLOY / "helm" / "resnet-serving" / "rules"
WINDOWS = ("5m", "30m", "1h", "6h")

COMPUTES = 'method=~"ModelInfer|ModelStreamInfer|Classify"'
FAULTS = 'status=~"INTERNAL|UNAVAILABLE|RESOURCE_EXHAUSTED|DEADLINE_EXCEEDED|UNKNOWN"'
WRITTEN = "# Written by `python -m deploy.rules`.\n"

ERRORS = """\
# An error is an answer that is the server's fault. A wrong image (INVALID_ARGUMENT), an unknown model (NOT_FOUND), a caller who left
# (CANCELLED) and a deadline that not even an idle server could meet (the reason `unreachable`) are not.
#
# A counter appears with its first event, and rate() cannot see the step from nothing to N: a series that is younger than the window
# counts whole.
"""
LATENCY = """\
# The share of a model's calls that took over 50 ms.
"""


def grown(series: str, window: str) -> str:
    """PromQL: by how much counters grew within the window, those born in it included."""
    return f"sum(({series} unless {series} offset {window}) or increase({series}[{window}]))"


def error_rules(window: str) -> str:
    """Failed and all calls of a window, and their ratio."""
    calls = f"resnet_requests_total{{{COMPUTES}}}"
    failed = f"resnet_requests_total{{{COMPUTES}, {FAULTS}}}"
    hopeless = 'resnet_rejects_total{reason="unreachable"}'
    return f"""\
      - record: job:resnet_request_errors:increase{window}
        expr: >-
          clamp_min(({grown(failed, window)} or vector(0))
          - ({grown(hopeless, window)} or vector(0)), 0)
      - record: job:resnet_request_errors:ratio_rate{window}
        expr: >-
          job:resnet_request_errors:increase{window}
          / ({grown(calls, window)} > 0)
"""


def latency_rules(window: str) -> str:
    """The share of slow calls of a window."""
    quick = f'resnet_request_seconds_bucket{{model!="", {COMPUTES}, le="0.05"}}'
    calls = f'resnet_request_seconds_count{{model!="", {COMPUTES}}}'
    return f"""\
      - record: model:resnet_slow_calls:ratio_rate{window}
        expr: 1 - sum by (model) (rate({quick}[{window}])) / (sum by (model) (rate({calls}[{window}])) > 0)
"""


def burn_rates() -> dict[str, str]:
    """The two files of burn rates, by name."""
    errors = f"{WRITTEN}{ERRORS}groups:\n  - name: resnet-error-rates\n    rules:\n" + "".join(map(error_rules, WINDOWS))
    latency = f"{WRITTEN}{LATENCY}groups:\n  - name: resnet-latency-rates\n    rules:\n" + "".join(map(latency_rules, WINDOWS))
    return {"errors.yml": errors, "latency.yml": latency}


def operator_resource(rules: dict[str, str]) -> str:
    """The same groups as a resource of the Prometheus operator."""
    head = "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: resnet-server\nspec:\n  groups:\n"
    groups = (text.partition("groups:\n")[2] for _, text in sorted(rules.items()))
    return WRITTEN + head + "".join(f"  {line}\n" if line else "\n" for text in groups for line in text.splitlines())


def written() -> dict[Path, str]:
    """Every file that this writes, with its text."""
    rules = {path.name: path.read_text() for path in RULES.glob("*.yml")} | burn_rates()
    files = {RULES / name: text for name, text in burn_rates().items()}
    return files | {CHART / name: text for name, text in rules.items()} | {OPERATOR: operator_resource(rules)}


def main() -> None:
    """Write the files."""
    for path, text in written().items():
        path.write_text(text)


if __name__ == "__main__":
    main()
