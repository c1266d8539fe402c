"""What a comparison says, in sentences, for those who read no further."""

from resnet_bench.report.pareto import front
from resnet_bench.report.view import Shown, View
from resnet_bench.report.wording import digits_of, shown
from resnet_bench.schema import Report

MOST_NAMED = 6  # more belong into a table


def findings(report: Report) -> list[str]:
    """At most four sentences; none where there is nothing to say."""
    view = View.of(report)
    return [text for text in (_capacity(view), _choice(view), _depth(view), _untrained(view)) if text]


def _capacity(view: View) -> str:
    found = [(m, m.model.capacity.images) for m in view.models if m.model.capacity is not None and m.model.capacity.images is not None]
    if not 0 < len(found) <= MOST_NAMED:
        return ""
    text = ", ".join(f"{model.label} {shown(images, digits_of(images))}" for model, images in found)
    return f"Images a second with p99 within {1e3 * view.report.slo:g} ms: {text}."


def _choice(view: View) -> str:
    known = [
        (m, m.calm.p99_ms.median, m.model.facts.accuracy) for m in view.models if m.calm is not None and m.model.facts.accuracy is not None
    ]
    best = [known[index][0].label for index in front([(p99, accuracy) for _, p99, accuracy in known])]
    others = [m.label for m, _, _ in known if m.label not in best]
    if len(known) < 2:
        return ""
    if not others:
        return "Each model buys accuracy with latency: all are on the Pareto front, none is slower without being more accurate."
    return (
        f"Worth choosing by accuracy and p99: {', '.join(best)}. Others are both: not faster and not more accurate ({', '.join(others)})."
    )


def _depth(view: View) -> str:
    first, last = _ends(view)
    if first is None or last is None:
        return ""
    one, other = first.model, last.model
    if one.capacity is None or other.capacity is None or one.capacity.images is None or other.capacity.images is None:
        return ""
    work = (other.facts.multiply_adds or 0) / (one.facts.multiply_adds or 1)
    capacity = one.capacity.images.median / other.capacity.images.median
    text = f"{last.label} has {work:.1f} times the multiply-adds of {first.label} and {1 / capacity:.2f} of its capacity"
    gain = _gain(first, last)
    return f"{text}{gain}."


def _gain(first: Shown, last: Shown) -> str:
    one, other = first.model.facts.accuracy, last.model.facts.accuracy
    return "" if one is None or other is None else f", for {other - one:+.2f} points of accuracy"


def _ends(view: View) -> tuple[Shown | None, Shown | None]:
    """The smallest and the largest network, in the same precision."""
    precision = view.models[0].model.facts.precision if view.models else ""
    alike = [m for m in view.models if m.model.facts.multiply_adds and m.model.facts.precision == precision]
    sized = sorted(alike, key=lambda m: m.model.facts.multiply_adds or 0)
    return (sized[0], sized[-1]) if len(sized) > 1 else (None, None)


def _untrained(view: View) -> str:
    names = [m.label for m in view.models if not m.model.facts.trained]
    return f"Random weights, good for speed only, not for accuracy: {', '.join(names)}." if names else ""
