"""Decoders: a template that has everything imported, and a copy of it for each decoder, made by `fork` in a millisecond.

A decoder ends with its socket or with the template, when it has used up the processor time of an image, when a signal has stopped it, or
when it is killed; another takes its place.
"""

import contextlib
import gc
import os
import signal
import socket
import sys
import warnings
from pathlib import Path

from resnet_server.endpoints.decoding import messages
from resnet_server.endpoints.decoding.limits import QUICK_BYTES, limit_memory
from resnet_server.processes.bond import end_with

SOONEST_KILLED = "1000"  # by the kernel when memory runs out: a decoder before the server
NICE = 10  # of the slow lane: against an engine or a small image it gets a tenth of a core, and what they leave


def main() -> None:
    """Argument: the descriptor of the owner's socket. Each message on it has a decoder's socket and its lane, and is answered by a byte."""
    for name in (signal.SIGINT, signal.SIGTERM):  # they reach the whole group; the server closes the socket
        signal.signal(name, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, _look_after_decoders)
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before NumPy is imported: a process with threads must not fork
    from PIL import Image

    from resnet_server.endpoints.decoding import decode  # noqa: F401  # for the copies

    Image.init()
    warnings.simplefilter("ignore")  # Pillow warns of odd metadata that do not touch the pixels
    gc.freeze()
    template = os.getpid()
    with socket.socket(fileno=int(sys.argv[1])) as owner:
        while True:
            try:
                lane, descriptors, _, _ = socket.recv_fds(owner, 1, 1)
            except ConnectionResetError:  # killed before it read an answer
                return
            if not lane:
                return
            with contextlib.suppress(OSError), socket.socket(fileno=descriptors[0]) as channel:  # no process to be had: it closes
                if os.fork() == 0:
                    end_with(template)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    owner.close()
                    _be_decoder(channel, lane[0])
            with contextlib.suppress(OSError):  # the owner has gone: nothing more comes
                owner.send(messages.FORKED)


def _look_after_decoders(*_: object) -> None:
    """Bury those that have ended, and end those that a signal has stopped: the caller of such a one would wait for as long as it may."""
    with contextlib.suppress(ChildProcessError):  # there are no others
        while (changed := os.waitpid(-1, os.WNOHANG | os.WUNTRACED))[0]:
            if os.WIFSTOPPED(changed[1]):
                os.kill(changed[0], signal.SIGKILL)


def _be_decoder(channel: socket.socket, lane: int) -> None:
    from resnet_server.endpoints.decoding.decode import Decoding

    try:
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(SOONEST_KILLED)
        if lane == messages.SLOW:
            os.nice(NICE)
        if lane == messages.QUICK:
            limit_memory(QUICK_BYTES)
        channel.sendall(messages.HELLO.pack(os.getpid()))
        Decoding(channel).serve()
    except (EOFError, OSError):
        pass
    finally:
        os._exit(0)
