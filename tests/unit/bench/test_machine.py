"""The machine: its limits, and what disturbs a run."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from resnet_bench.machine import NO_LIMITS, Disturbance, Limits, MachineWatch, available_cores, cpu_quota, this_machine

STILL = Disturbance(2, 3.0, 0.0, 0.0, 0.0, {"cpu": 0.9, "memory": 0.0, "io": 0.0})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"steal": 0.019}, ""),
        ({"steal": 0.03}, "disturbed: the hypervisor took 3.0% of the cores' time"),
        ({"others": 0.1}, ""),
        ({"others": 0.2}, "disturbed: other programs used 0.20 cores"),
        ({"others": 0.2, "seconds": 0.3}, ""),  # ticks of 10 ms: a short run cannot be held to a twentieth of a core
        ({"pressure": {"memory": 0.02}}, "disturbed: everything waited for memory during 2.0% of the time"),
        ({"pressure": {"io": 0.5}}, "disturbed: everything waited for io during 50.0% of the time"),
        ({"throttled": 0.2}, "disturbed: a CPU quota held the processes back during 20.0% of the time"),
        ({"steal": None, "others": None, "throttled": None, "pressure": {}}, ""),
    ],
)
def test_a_disturbed_run_is_void(changes: dict[str, object], reason: str) -> None:
    seen = replace(STILL, **changes)  # type: ignore[arg-type]  # fields by name
    assert Limits().reason(seen, saturating=False) == reason
    assert NO_LIMITS.reason(seen, saturating=False) == ""


def test_a_load_that_saturates_meets_a_quota_by_itself() -> None:
    assert Limits().reason(replace(STILL, throttled=0.2), saturating=True) == ""


def test_another_programs_work_is_seen_and_our_own_is_not() -> None:
    """A child in a session of its own is another program; one of ours counts as ours."""
    script = "import sys; print('up', flush=True); sys.stdin.read(); sum(range(2 * 10**7))"
    for own_session in (True, False):
        with subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=own_session
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            watch = MachineWatch()
            watch.begin(0.0)
            process.stdin.close()
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has worked, and is not reaped: its time is not ours yet
            seen = watch.end(0.0)
        assert seen.others is not None
        used = seen.others * seen.seconds
        if own_session:
            assert used > 0.05
    assert seen.cores >= 1


def test_a_quota_limits_the_cores(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) is None
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert cpu_quota(tmp_path) == 1.5
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert cpu_quota(tmp_path) is None


def test_a_quota_of_the_older_kind_is_read(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("200000\n")
    assert cpu_quota(tmp_path) == 2.0
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    assert cpu_quota(tmp_path) is None


def test_the_machine_is_named_with_revision_kernel_and_limits() -> None:
    found = this_machine()
    assert found.cores == available_cores() >= 1
    assert found.kernel == os.uname().release
    assert found.revision
    assert set(found.cgroup) == {"cpu", "cpuset", "memory"}
    assert "resnet-serving" in found.versions
