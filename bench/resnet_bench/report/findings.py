"""What a comparison of depths says, in sentences, for those who read no further."""

from collections.abc import Sequence

from resnet_bench.report.tables import labels, plain, shown
from resnet_bench.results import ModelResult, Report
from resnet_bench.stats import Summary

MOST_NAMED = 6  # more belong into a table
Named = tuple[str, ModelResult]


def findings(report: Report) -> list[str]:
    """At most four sentences; none where there is nothing to say."""
    models = list(zip(labels(report), report.results, strict=True))
    return [text for text in (_capacity(models, report), _choice(models), _depth(models), _untrained(models)) if text]


def beaten(model: ModelResult, others: Sequence[ModelResult]) -> ModelResult | None:
    """One of the others that is at least as accurate and better beyond the noise; None where there is none.

    Better: all its repeats confirmed a higher capacity than all of the model's, and its p99 at an equal rate is not clearly worse.
    """
    return next((other for other in others if other is not model and _beats(other, model)), None)


def _beats(one: ModelResult, other: ModelResult) -> bool:
    if one.facts.accuracy is None or other.facts.accuracy is None or one.facts.accuracy < other.facts.accuracy:
        return False
    mine, theirs = one.confirmed, other.confirmed
    if mine is None or theirs is None or min(mine.n, theirs.n) < 2 or mine.low <= theirs.high:
        return False
    late, their_late = p99_at_equal_rate(one), p99_at_equal_rate(other)
    return late is None or their_late is None or late.low <= their_late.high


def p99_at_equal_rate(model: ModelResult) -> Summary | None:
    """At the rate that all models were measured at."""
    cell = model.cell("equal")
    return cell.latency("p99") if cell else None


def _capacity(models: Sequence[Named], report: Report) -> str:
    found = [(label, model) for label, model in models if model.capacity is not None]
    if not 0 < len(found) <= MOST_NAMED:
        return ""
    text = ", ".join(f"{label} {plain(model.capacity)}" for label, model in found)
    within = f"Images a second with 99 % of the calls answered within {1e3 * report.settings.slo:g} ms"
    return f"{within}, the lowest that a repeat confirmed: {text}."


def _choice(models: Sequence[Named]) -> str:
    known = [(label, model) for label, model in models if model.facts.accuracy is not None and model.confirmed]
    if len(known) < 2:
        return ""
    names = {id(model): label for label, model in known}
    others = [model for _, model in known]
    lost = [(label, winner) for label, model in known if (winner := beaten(model, others)) is not None]
    if lost:
        text = "; ".join(f"{names[id(winner)]} beats {label}" for label, winner in lost)
        return f"At least as accurate and of more capacity, beyond the noise: {text}."
    lates = [(label, late) for label, model in known if (late := p99_at_equal_rate(model)) is not None]
    text = "No model is beaten beyond the noise: who wants more accuracy pays with capacity."
    if 0 < len(lates) <= MOST_NAMED:
        rate = known[0][1].cell("equal")
        images = rate.first.rate * rate.first.rows if rate else 0.0
        text += f" p99 in ms at {images:,.0f} images a second each: {', '.join(f'{label} {shown(late)}' for label, late in lates)}."
    return text


def _depth(models: Sequence[Named]) -> str:
    """The smallest and the largest network, in the same precision."""
    precision = models[0][1].facts.precision if models else ""
    alike = [named for named in models if named[1].facts.multiply_adds and named[1].facts.precision == precision]
    sized = sorted(alike, key=lambda named: named[1].facts.multiply_adds or 0)
    if len(sized) < 2 or not sized[0][1].capacity or not sized[-1][1].capacity:
        return ""
    (first, one), (last, other) = sized[0], sized[-1]
    work = (other.facts.multiply_adds or 0) / (one.facts.multiply_adds or 1)
    text = f"{last} has {work:.1f} times the multiply-adds of {first} and {(other.capacity or 0) / (one.capacity or 1):.2f} of its capacity"
    before, after = one.facts.accuracy, other.facts.accuracy
    return text + ("." if before is None or after is None else f", for {after - before:+.2f} points of accuracy.")


def _untrained(models: Sequence[Named]) -> str:
    names = [label for label, model in models if not model.facts.trained]
    return f"Random weights, good for speed only, not for accuracy: {', '.join(names)}." if names else ""
