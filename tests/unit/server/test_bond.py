"""The bond of a process with the one that started it, of real processes: whoever kills the one ends the other, however it stands."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from processes import wait_for_end

BOUND = "import os, sys\ndef main():\n  print(os.getpid(), *sys.argv[1:], flush=True)\n  sys.stdin.read()\n"
PARENT = "import subprocess, sys; from resnet_server.processes import bond; sys.exit(subprocess.call(bond.command('bound', 'told')))"
ORPHAN = "from resnet_server.processes.bond import end_with; end_with(1 << 30); print('goes on')"


@pytest.mark.parametrize("stopped", [False, True])
def test_a_process_ends_with_its_parent_even_where_a_signal_has_stopped_it(stopped: bool, tmp_path: Path) -> None:
    (tmp_path / "bound.py").write_text(BOUND)
    folders = os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", "")))
    pipe, environment = subprocess.PIPE, {**os.environ, "PYTHONPATH": folders}
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=pipe, stdout=pipe, text=True, env=environment) as parent:
        assert parent.stdout is not None
        pid, told = parent.stdout.readline().split()
        assert told == "told"
        if stopped:
            os.kill(int(pid), signal.SIGSTOP)
        parent.kill()  # its end of the pipe stays open: nothing else ends the other
        wait_for_end(int(pid))


def test_a_process_whose_parent_has_ended_before_ends_at_once() -> None:
    found = subprocess.run([sys.executable, "-c", ORPHAN], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout, found.stderr) == (1, "", "")
