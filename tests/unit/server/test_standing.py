"""How a process stands, of real processes; and from it whether one that says nothing hangs or has no processor."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from resnet_server.frontends import front_end
from resnet_server.frontends.front_end import HANG_SECONDS, LONGEST_SILENCE, LOOK_SECONDS, QUIET_SECONDS, Silence
from resnet_server.processes.standing import Standing, is_stopped, standing_of

SECONDS, MOST_LOOKS = 30.0, 1000
WAITS = "import sys; print(flush=True); sys.stdin.read()"
COMPUTES = "import sys; print(flush=True)\nwhile True: pass"
COMPUTES_ASIDE = "import sys, threading\ndef spin():\n  while True: pass\nthreading.Thread(target=spin, daemon=True).start()\n" + WAITS


@contextmanager
def running(program: str) -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield process.pid
        finally:
            process.kill()


def until(pid: int, stopped: bool, runnable: bool) -> Standing:
    ends = time.monotonic() + SECONDS
    while time.monotonic() < ends:
        found = standing_of(pid)
        if found is not None and (found.stopped, found.runnable) == (stopped, runnable):
            return found
    raise AssertionError(standing_of(pid))


def test_one_that_waits_and_is_stopped_and_goes_on() -> None:
    with running(WAITS) as pid:
        until(pid, stopped=False, runnable=False)
        os.kill(pid, signal.SIGSTOP)
        until(pid, stopped=True, runnable=False)
        assert is_stopped(pid)
        os.kill(pid, signal.SIGCONT)
        until(pid, stopped=False, runnable=False)
        assert not is_stopped(pid)


@pytest.mark.parametrize("program", [COMPUTES, COMPUTES_ASIDE])
def test_one_that_computes_on_any_of_its_threads(program: str) -> None:
    with running(program) as pid:
        before = until(pid, stopped=False, runnable=True).seconds
        ends = time.monotonic() + SECONDS
        while until(pid, stopped=False, runnable=True).seconds <= before:
            assert time.monotonic() < ends


def test_one_that_is_not_there() -> None:
    with running(WAITS) as pid:
        pass
    assert standing_of(pid) is None
    assert not is_stopped(pid)
    assert not is_stopped(0)


def looks(monkeypatch: pytest.MonkeyPatch, runnable: bool, computed: float, silence: Silence | None = None) -> float:
    """Seconds of looks until a process that so stands, and has computed so much more at each look, is taken for one that hangs."""
    seconds = [0.0]

    def standing(_: int) -> Standing:
        seconds[0] += computed
        return Standing(stopped=False, runnable=runnable, seconds=seconds[0])

    monkeypatch.setattr(front_end, "standing_of", standing)
    return counted(silence or Silence())


def counted(silence: Silence) -> float:
    """Seconds of looks until it is too long."""
    return next(count for count in range(1, MOST_LOOKS) if silence.is_too_long(1)) * LOOK_SECONDS


SOON = QUIET_SECONDS + HANG_SECONDS + 2 * LOOK_SECONDS


def test_a_silent_one_that_waits_or_computes_hangs_soon_and_one_without_a_processor_gets_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert looks(monkeypatch, runnable=False, computed=0.0) <= SOON
    assert looks(monkeypatch, runnable=True, computed=LOOK_SECONDS) <= SOON
    assert looks(monkeypatch, runnable=True, computed=0.02) > LONGEST_SILENCE


def test_a_word_starts_it_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    silence = Silence()
    full = looks(monkeypatch, runnable=False, computed=0.0, silence=silence)
    silence.heard()
    assert looks(monkeypatch, runnable=False, computed=0.0, silence=silence) == full


def test_where_the_system_does_not_say_only_the_longest_silence_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_end, "standing_of", lambda _: None)
    assert counted(Silence()) > LONGEST_SILENCE
