"""`make compose-test`: everything that docker-compose.yml promises, tried on this machine, and nothing left behind.

Needs Docker with compose v2. The project, its ports and its volumes are its own: a stack that runs beside it is not touched.
"""

import signal
import sys
import time
from types import FrameType

from deploy.check.errors import CheckError
from deploy.check.project import ROOT, Project, run, sweep
from deploy.check.steps import Steps


def main() -> None:
    """Run every step; exit with 1 and one line at the first that fails."""
    signal.signal(signal.SIGTERM, interrupt)
    try:
        versions = run("docker", "version", "--format", "{{.Server.Version}}"), run("docker", "compose", "version", "--short")
        print(f"Docker {versions[0]}, compose {versions[1]}", flush=True)
        for name in sweep():
            print(f"swept: {name}, which a run that was killed had left", flush=True)
        (ROOT / "build").mkdir(exist_ok=True)
        check(Project())
    except CheckError as error:
        sys.exit(f"compose-test: {error}")
    except KeyboardInterrupt:
        sys.exit("compose-test: interrupted; everything is taken down")
    print("compose-test: passed", flush=True)


def check(project: Project) -> None:
    """All steps, and the way down whatever happens."""
    steps = Steps(project)
    try:
        for title, step in steps.all():
            started = time.monotonic()
            print(f"  {title} ...", flush=True)
            print(f"    ok: {step()}  ({time.monotonic() - started:.0f} s)", flush=True)
    finally:
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, signal.SIG_IGN)  # a second Ctrl-C must not leave half of it behind
        project.down()
    print(f"  down: nothing is left ...\n    ok: {steps.nothing_left()}", flush=True)


def interrupt(_: int, __: FrameType | None) -> None:
    """SIGTERM is Ctrl-C."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
