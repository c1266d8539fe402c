"""Plans: the choice among trials, what is kept of it, and the command that shows it."""

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from resnet_server.cli import main
from resnet_server.engines.api import ONNXRUNTIME, Images
from resnet_server.errors import EngineError
from resnet_server.planning.measure import Bench, Task, layouts
from resnet_server.planning.plan import Plan, Trial, choose
from resnet_server.planning.plan_cache import PlanCache

TRIALS = [
    *(Trial("fp32", 2, 1, rows, 1e-3 * rows + 0.1e-3) for rows in (1, 8, 64)),
    *(Trial("fp32", 1, 2, rows, 0.7e-3 * rows + 0.1e-3) for rows in (1, 8, 64)),
    *(Trial("int8", 2, 1, rows, 0.4e-3 * rows + 0.1e-3) for rows in (1, 8, 64)),
]


def test_the_highest_throughput_wins_in_the_smallest_batch_that_comes_near() -> None:
    plan = choose(TRIALS, None, 2)
    assert (plan.layout, plan.batch) == (("int8", 2, 1, ONNXRUNTIME), 64)
    assert [plan.fixed, plan.per_row] == pytest.approx([0.1e-3, 0.4e-3])
    assert plan.throughput == pytest.approx(2 * 64 / 25.7e-3)
    assert "next: 2 x 1 in fp32" in plan.reason
    near = [*(trial for trial in TRIALS if trial.precision == "fp32"), Trial("fp32", 2, 1, 32, 32.1e-3)]
    assert choose(near, None, 2).batch == 32


def test_of_layouts_that_serve_batches_alike_the_one_that_serves_singles_best_is_taken() -> None:
    wide = [Trial("fp32", 1, 2, rows, seconds) for rows, seconds in ((1, 1.2e-3), (64, 32e-3))]
    narrow = [Trial("fp32", 2, 1, rows, seconds) for rows, seconds in ((1, 1.2e-3), (64, 65.5e-3))]
    assert choose([*wide, *narrow], None, 2).layout == ("fp32", 2, 1, ONNXRUNTIME)  # 2 % less in batches, twice as many singles
    much_better = [replace(trial, seconds=trial.seconds * 0.8) for trial in wide]
    assert choose([*much_better, *narrow], None, 2).layout == ("fp32", 1, 2, ONNXRUNTIME)


def test_a_plan_is_doubtful_if_one_candidate_was_disturbed() -> None:
    assert not choose(TRIALS, None, 2).doubtful
    assert choose([*TRIALS[:-1], replace(TRIALS[-1], share=0.5)], None, 2).doubtful


def test_a_latency_target_bounds_the_batch() -> None:
    plan = choose(TRIALS, 5e-3, 2)
    assert (plan.layout, plan.batch) == (("int8", 2, 1, ONNXRUNTIME), 8)
    assert "within 5 ms" in plan.reason


def test_a_target_nobody_reaches_takes_the_fastest_and_says_so() -> None:
    plan = choose(TRIALS, 1e-4, 2)
    assert (plan.precision, plan.batch) == ("int8", 1)
    assert "no batch keeps within 0.1 ms" in plan.reason


def test_a_lone_image_takes_all_cores_where_that_is_measured_to_pay() -> None:
    alone = Trial("fp32", 1, 1, 1, 1.1e-3)
    wide = Trial("fp32", 1, 2, 1, 0.6e-3, wide=True)
    plan = choose([*TRIALS[:6], alone, wide], None, 2)
    assert (plan.wide_threads, plan.wide_seconds, plan.layout) == (2, 0.6e-3, ("fp32", 2, 1, ONNXRUNTIME))
    assert choose([*TRIALS[:6], alone, replace(wide, seconds=1.05e-3)], None, 2).wide_threads == 0
    assert choose([*TRIALS[:6], alone, replace(wide, precision="int8")], None, 2).wide_threads == 0
    assert choose([*TRIALS[:6], wide], None, 2).wide_threads == 0


class Scripted:
    """Takes as long as it is told, batch by batch; the last figure for all that follow."""

    def __init__(self, *seconds: float) -> None:
        self._seconds = list(seconds)
        self._never = threading.Event()

    def prepare(self, rows: int, alone: bool) -> None:
        """There is nothing to compile."""

    def run(self, images: Images, rows: int, alone: bool) -> None:
        self._never.wait(self._seconds.pop(0) if len(self._seconds) > 1 else self._seconds[0])


def test_a_stall_does_not_count_against_a_batch() -> None:
    bench = Bench(Task({}, ("cpu", "", "", 0, ""), ((2, 1),), 4, 2, 2, 1.0))
    computes: Any = [Scripted(0.001, 0.3, 0.001), Scripted(0.001, 0.3, 0.001)]  # the warm-up, a stall, and then steadily
    trial = bench._measure("fp32", (2, 1), computes, 4, 0.35)
    assert 0.001 <= trial.seconds < 0.004  # by time over number of batches it would be about 7 ms
    assert bench.trials == [trial]


class Failing(Scripted):
    """Computes one batch, and no other."""

    def run(self, images: Images, rows: int, alone: bool) -> None:
        if self._seconds.pop(0) < 0:
            raise EngineError("it failed on 4 rows")


@pytest.mark.parametrize("seconds", [(-1,), (0.0, -1)])
def test_an_engine_that_fails_ends_the_trial_and_the_other_engine_with_it(seconds: tuple[float, ...]) -> None:
    bench = Bench(Task({}, ("cpu", "", "", 0, ""), ((2, 1),), 4, 2, 2, 1.0))
    computes: Any = [Scripted(0.001), Failing(*seconds)]
    with pytest.raises(EngineError, match="it failed on 4 rows"):
        bench._measure("fp32", (2, 1), computes, 4, 0.05)
    assert not bench.trials


@pytest.mark.parametrize(
    ("cores", "engines", "threads", "expected"),
    [
        (4, None, None, [(4, 1), (2, 2), (1, 4)]),
        (2, 1, None, [(1, 2)]),
        (2, None, 2, [(1, 2)]),
        (2, 3, 2, [(3, 2)]),
        (1, None, None, [(1, 1)]),
    ],
)
def test_layouts_use_all_cores_and_keep_what_is_given(
    cores: int, engines: int | None, threads: int | None, expected: list[tuple[int, int]]
) -> None:
    assert list(layouts(cores, engines, threads)) == expected


def test_a_plan_is_kept_by_its_key(tmp_path: Path) -> None:
    cache, plan = PlanCache(tmp_path / "plans"), choose(TRIALS, None, 2)
    key: dict[str, object] = {"files": ["ab"], "onnxruntime": "1.27"}
    assert cache.load(key) is None
    cache.save(key, plan)
    assert cache.load(key) == plan
    assert cache.load({**key, "onnxruntime": "1.28"}) is None


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"trials": 3}', json.dumps({"precision": "fp32"})])
def test_a_damaged_plan_is_measured_again(text: str, tmp_path: Path) -> None:
    cache = PlanCache(tmp_path)
    cache.path({}).write_text(text)
    assert cache.load({}) is None
    cache.save({}, choose(TRIALS, None, 2))
    assert isinstance(cache.load({}), Plan)


def test_a_folder_that_cannot_be_written_only_costs_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    PlanCache(tmp_path / "file" / "plans").save({}, choose(TRIALS, None, 2))
    assert "cannot be written" in caplog.text


def run_plan(repository: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["plan", "--repository", str(repository), "--device", "cpu", "--plan-seconds", "0.5", *arguments])


def test_the_command_shows_a_plan_keeps_it_and_measures_again_on_demand(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resnet_server.planning.plan.UNDISTURBED", 0.0)  # however busy this machine is
    options = ("--plan-cache", str(tmp_path / "plans"), "--threads", "1")
    first = run_plan(repository, *options)
    assert first.exit_code == 0, first.output
    assert "resnet20 version 1: plan, measured now" in first.output
    assert "images/s in batches of" in first.output
    assert len(list(tmp_path.glob("plans/*.json"))) == 1
    assert "kept from before" in run_plan(repository, *options).output
    assert "measured now" in run_plan(repository, *options, "--fresh").output


def test_a_plan_measured_while_others_used_the_processor_is_not_kept(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("resnet_server.planning.plan.UNDISTURBED", 2.0)  # no share is that large
    assert run_plan(repository, "--plan-cache", str(tmp_path / "plans")).exit_code == 0
    assert not list(tmp_path.glob("plans/*.json"))
    assert "measured while others used the processor" in caplog.text


def test_a_library_that_talks_on_stdout_does_not_spoil_the_measurement(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("print('a chatty library')\nimport atexit; atexit.register(print, 'and again')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    result = run_plan(repository, "--plan-cache", str(tmp_path / "plans"), "--threads", "1")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--precision", "int8"), "precision: int8 is not certified; resnet20 holds fp32"),
        (("--precision", "fp64"), "precision: 'fp64'; expected auto, or some of"),
        (("--models", "resnet21"), "models: resnet21 not in"),
        (("--latency-target", "fast"), "'fast'; expected a duration such as 50ms or 2s"),
    ],
)
def test_what_cannot_be_planned_is_one_line(arguments: tuple[str, str], message: str, repository: Path) -> None:
    result = run_plan(repository, *arguments)
    assert result.exit_code != 0
    assert message in result.output


def test_a_version_without_a_plan_is_named_and_the_exit_status_says_so(own_repository: Path, tmp_path: Path) -> None:
    (own_repository / "resnet20" / "1" / "model.fp32.onnx").write_bytes(b"damaged")
    result = run_plan(own_repository, "--plan-cache", str(tmp_path))
    assert result.exit_code == 1
    assert "resnet20 version 1: refused: model.fp32.onnx" in result.output
    assert "no version in" in result.output
