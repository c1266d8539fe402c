"""How figures and models are written, in the terminal and on the page."""

from resnet_bench.schema import ModelResult, Report, Spread


def shown(spread: Spread | None, digits: int = 0, factor: float = 1.0) -> str:
    """The median, and the half range of the repeats; `-` for nothing."""
    if spread is None:
        return "-"
    return f"{factor * spread.median:,.{digits}f} ±{factor * (spread.high - spread.low) / 2:,.{digits}f}"


def milliseconds(spread: Spread | None) -> str:
    """A latency with as many digits as it needs."""
    return shown(spread, 2 if spread is None or spread.median < 10 else 1)


def labels(report: Report) -> list[str]:
    """What each model is called: with its precision where several are compared, and `untrained` where it is."""
    mixed = len({model.facts.precision for model in report.models}) > 1
    return [model.facts.label + (f" {model.facts.precision}" if mixed else "") for model in report.models]


def accuracy(model: ModelResult) -> str:
    """Top-1 in percent, or why there is none."""
    facts = model.facts
    if not facts.trained:
        return "untrained"
    return "unknown" if facts.accuracy is None else f"{facts.accuracy:.2f} %"


def capacity(model: ModelResult) -> str:
    """Images a second within the SLO."""
    if model.capacity is None:
        return "-"
    if model.capacity.images is None:
        return "SLO not met"
    return f"{'≥ ' if model.capacity.bound else ''}{shown(model.capacity.images, digits_of(model.capacity.images))}"


def digits_of(spread: Spread | None) -> int:
    """Digits after the point for a rate."""
    return 1 if spread is not None and spread.median < 100 else 0


def millions(count: int | None, digits: int) -> str:
    """A count in millions."""
    return "-" if count is None else f"{count / 1e6:,.{digits}f}"


def mebibytes(count: int | None) -> str:
    """Bytes as MiB."""
    return "-" if count is None else f"{count / 2**20:,.0f}"


def notes(report: Report) -> list[str]:
    """What a reader must know before trusting the figures; one sentence each."""
    found = [] if report.complete else ["Incomplete: it ended before all repeats were made."]
    for label, model in zip(labels(report), report.models, strict=True):
        if model.capacity is not None and model.capacity.images is None:
            found.append(f"{label}: no capacity: {model.capacity.reason}.")
        if model.capacity is not None and model.capacity.bound:
            found.append(f"{label}: the load generator, not the server, ended the search; the server may do more.")
        found += [f"{label}, {void}; nothing is known of this load." for void in model.voids]
        for point in model.points:
            found += [f"{label}, {point.load}: a run was void and does not count: {reason}." for reason in dict.fromkeys(point.voids)]
    return found
