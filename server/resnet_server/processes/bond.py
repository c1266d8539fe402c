"""The bond between a process of ours and the one that started it: the system kills it, running or stopped, when that one ends.

The end of its socket says so, too, but only to a process that runs: one that a signal had stopped heard nothing and stayed for ever.
As a program, `command` of it, it makes the bond before anything else is imported, and then runs `main` of a module.
"""

import ctypes
import importlib
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def command(module: str, *arguments: str) -> list[str]:
    """What runs `main` of a module in a process that ends with the calling thread.

    -P: what lies in the folder that we were started in is none of our modules.
    """
    return [sys.executable, "-P", "-m", "resnet_server.processes.bond", str(os.getpid()), module, *arguments]


def end_with(parent: int) -> None:
    """End when the parent does, or at once where it has ended already. Does nothing where the system is not Linux.

    The system knows the parent as the thread that forked, which must be one that stays; it forgets the bond at a fork, not at an exec.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "prctl"):
        library.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def main() -> None:
    """Arguments: the parent, the module, and what the module takes."""
    end_with(int(sys.argv[1]))
    module, sys.argv[:] = sys.argv[2], sys.argv[2:]
    importlib.import_module(module).main()


if __name__ == "__main__":
    main()
