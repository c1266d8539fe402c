"""All changes between two results."""

from collections.abc import Iterator

from resnet_bench.compare.verdict import FIGURES, POINT_FIGURES, Change, judge
from resnet_bench.schema import ModelResult, Report


def changes(before: Report, after: Report) -> list[Change]:
    """Every figure that both results have of a model, in order."""
    repeats = min(before.repeats, after.repeats)
    return [change for one, other in pairs(before, after) for change in _of_model(one, other, repeats)]


def pairs(before: Report, after: Report) -> list[tuple[ModelResult, ModelResult]]:
    """The models of both, by name and precision."""
    known = {(model.facts.name, model.facts.precision): model for model in after.models}
    keys = [(model, (model.facts.name, model.facts.precision)) for model in before.models]
    return [(model, known[key]) for model, key in keys if key in known]


def _of_model(before: ModelResult, after: ModelResult, repeats: int) -> Iterator[Change]:
    name = f"{before.facts.name} {before.facts.precision}".strip()
    for figure in FIGURES:
        one, other = figure.find(before), figure.find(after)
        if one is not None and other is not None:
            yield Change(name, figure.name, one, other, judge(one, other, figure.more_is_better, repeats))
    loads = {(point.arrivals, point.load): point for point in after.points if point.kind in ("rate", "closed")}
    for point in before.points:
        twin = loads.get((point.arrivals, point.load))
        if point.kind not in ("rate", "closed") or twin is None:
            continue
        for title, more_is_better, find in POINT_FIGURES:
            one, other = find(point), find(twin)
            if one is not None and other is not None:
                verdict = judge(one, other, more_is_better, min(point.repeats, twin.repeats))
                yield Change(name, f"{point.load}: {title}", one, other, verdict)


def lost(before: Report, after: Report) -> list[str]:
    """What is worse without being a figure: a model that no longer meets the SLO, or is less accurate."""
    found = []
    for one, other in pairs(before, after):
        name = one.facts.name
        if one.capacity and other.capacity and one.capacity.images and other.capacity.images is None:
            found.append(f"{name}: met the SLO before and does not now: {other.capacity.reason}")
        if one.facts.accuracy is not None and other.facts.accuracy is not None and other.facts.accuracy < one.facts.accuracy:
            found.append(f"{name}: accuracy fell from {one.facts.accuracy:.2f} to {other.facts.accuracy:.2f} %")
    return found


def differences(before: Report, after: Report) -> list[str]:
    """What else is different, so that the figures may not be comparable."""
    facts = [
        ("machine", f"{before.machine.processor}, {before.machine.cores} cores", f"{after.machine.processor}, {after.machine.cores} cores"),
        ("SLO", f"{1e3 * before.slo:g} ms", f"{1e3 * after.slo:g} ms"),
        ("images a call", str(before.rows), str(after.rows)),
        ("duration", f"{before.seconds:g} s", f"{after.seconds:g} s"),
        ("Python", before.machine.python, after.machine.python),
    ]
    one, other = before.machine.versions, after.machine.versions
    facts += [(name, one.get(name, "none"), other.get(name, "none")) for name in sorted(one.keys() | other.keys())]
    for first, second in ((one.facts, other.facts) for one, other in pairs(before, after)):
        facts.append((f"{first.name}: plan", first.plan or "unknown", second.plan or "unknown"))
        facts.append((f"{first.name}: certificate", first.certificate_id[:16] or "none", second.certificate_id[:16] or "none"))
    return [f"{name}: {old} before, {new} after" for name, old, new in facts if old != new]
