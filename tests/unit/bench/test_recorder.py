"""The recorder keeps every run, repeats void ones once, and fills in what was seen of server and machine."""

from dataclasses import dataclass, field, replace

import pytest
from resnet_bench.drivers.api import Load, Observer, sample_of
from resnet_bench.machine import NO_LIMITS, Disturbance
from resnet_bench.recorder import Recorder, Watch, seeds_of
from resnet_bench.requests import Requests
from resnet_bench.results import Facts
from resnet_bench.sample import Sample
from resnet_bench.subject import Subject
from resnet_bench.target import Target, Usage

LOAD = Load("m", rate=10.0)


@dataclass
class Driver:
    """Gives samples with these reasons to be void, one after the other."""

    voids: list[str]
    name: str = "made up"
    seen: list[Load] = field(default_factory=list)

    def run(self, target: Target, requests: Requests, load: Load, observer: Observer) -> Sample:
        self.seen.append(load)
        observer.begin()
        observer.end()
        return replace(sample_of(load, self.name), calls=30, answered=30, outcomes={"OK": 30}, void=self.voids.pop(0))


def subject() -> Subject:
    return Subject(Target("server", "", setup="as it is"), Facts("m", precision="fp32"), None, None, ())


@pytest.mark.parametrize(("voids", "runs"), [([""], 1), (["lagged", ""], 2), (["lagged", "lagged"], 2)])
def test_a_void_run_is_repeated_once_and_kept(voids: list[str], runs: int) -> None:
    recorder = Recorder(allow_disturbed=True)
    last = recorder.run(Driver(list(voids)), subject(), LOAD, "rate", 3, Requests("", (b"",)))
    assert last is recorder.samples[-1]
    assert [sample.void for sample in recorder.samples] == voids
    assert [sample.order for sample in recorder.samples] == list(range(runs))
    assert (last.kind, last.repeat, last.target, last.setup, last.precision) == ("rate", 3, "server", "as it is", "fp32")
    assert last.started_at.endswith("+00:00")
    assert bool(recorder.problems) == any(voids)


def test_a_disturbed_run_is_void_unless_it_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    stolen = Disturbance(2, 3.0, steal=0.5)
    monkeypatch.setattr("resnet_bench.recorder.MachineWatch.end", lambda *_: stolen)
    for allowed, count in ((False, 2), (True, 1)):
        recorder = Recorder(allow_disturbed=allowed)
        last = recorder.run(Driver(["", ""]), subject(), LOAD, "rate", 0, Requests("", (b"",)))
        assert len(recorder.samples) == count
        assert last.void.startswith("disturbed: the hypervisor took 50.0%") is not allowed
        assert last.machine == stolen


class Counted(Target):
    """A target whose processes used what they are told."""

    def usage(self, memory: bool = True) -> dict[int, Usage]:
        used = {7: Usage("server", 1.0, 100), 8: Usage("engine 8", 2.0, 200)}
        return used | ({8: Usage("engine 8", 2.6, 200), 9: Usage("engine 9", 0.3, 50)} if memory else {})


def test_cpu_is_counted_from_the_beginning_and_of_a_new_process_whole() -> None:
    watch = Watch(Counted("server", ""), "m", "")
    watch.begin()
    watch.end()
    sample = replace(sample_of(LOAD, "d"), calls=500, answered=500, generator_cpu=0.2, latency_ms={"mean": 4.0})
    found = watch.completed(sample, limits=NO_LIMITS)
    assert found.cpu == pytest.approx({"server": 0.0, "engine 8": 1.2, "engine 9": 0.6, "generator": 1.2})
    longer = watch.completed(replace(sample, watched=1500), NO_LIMITS)  # h2load is watched from its start, and counts when it has settled
    assert longer.cpu == pytest.approx({"server": 0.0, "engine 8": 0.4, "engine 9": 0.2, "generator": 1.2})
    assert found.cpu_seconds == pytest.approx(1.8)
    assert (found.memory, found.memory_bytes) == ({"server": 100, "engine 8": 200, "engine 9": 50}, 350)


def test_no_two_repeats_share_arrivals() -> None:
    seeds = [seed for repeat in range(4) for seed in seeds_of(repeat, 3)]
    assert len(set(seeds)) == 12
