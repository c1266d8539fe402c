"""`resnet-server demo`: the bundled networks, served, and the bundled pictures asked of them over HTTP as `curl` would."""

import json
import os
import re
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from resnet_server.errors import StartError

WITHOUT = "demo: the bundled networks are not installed; pip install resnet-serving-networks, or give --repository"
ADDRESSES = re.compile(r"grpc=(\S+) metrics=(\S+) http=(\S+)")
SECONDS = 30.0
Picture = tuple[str, bytes]
Labels = list[dict[str, object]]


def bundled_repository() -> Path:
    """The repository of the distribution resnet-serving-networks; raises StartError where it is not installed."""
    try:
        from resnet_networks import REPOSITORY
    except ImportError:
        raise StartError(WITHOUT) from None
    return Path(REPOSITORY)


def pictures() -> Iterator[Picture]:
    """What each shows, and its bytes as PNG: ten CIFAR-10 test images, which the page offers too."""
    folder = files("resnet_server") / "endpoints" / "http" / "page" / "examples"
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        yield path.name.removesuffix(".png"), path.read_bytes()


class Demo:
    """Says what it does while a server of this process starts, asks it once it listens, and ends it if told to."""

    def __init__(self, repository: Path, models: tuple[str, ...], stop: bool, console: Console) -> None:
        self.repository, self.models, self.stop, self.console = repository, models, stop, console
        self.failure = ""
        self._started = time.monotonic()

    def begin(self) -> None:
        """Before the server starts: what will be served, and how to do the same by hand."""
        self._say(f"Serving {' and '.join(self.models)} from {self.repository}")
        self._say(f"  resnet-server serve --repository {self.repository} --models {','.join(self.models)} --host 127.0.0.1")
        self._say("Each file is checked against its certificate, and engines are measured. This takes some seconds.")

    def listening(self, line: str) -> None:
        """For the server's own line: ask from a thread of its own, since this one is the event loop's."""
        threading.Thread(target=self._ask_all, args=(line,), daemon=True).start()

    def _ask_all(self, line: str) -> None:
        try:
            self._show(line)
        except (urllib.error.URLError, OSError, ValueError, KeyError) as error:
            self.failure = f"demo: the server does not answer as expected: {error}"
            self._say(self.failure)
        if self.stop or self.failure:
            os.kill(os.getpid(), signal.SIGTERM)

    def _show(self, line: str) -> None:
        found = ADDRESSES.search(line)
        if found is None:
            raise ValueError(line)
        grpc, _, http = found.groups()
        self._say(f"Ready after {time.monotonic() - self._started:.1f} s: gRPC on {grpc}, REST and a page on http://{http}")
        for model in self.models:
            self._say(f"  curl --data-binary @PICTURE 'http://{http}/classify?model={model}'")
            self._answers(f"http://{http}/classify?model={model}")
        self._say(f"Open http://{http} in a browser." + ("" if self.stop else " Ctrl-C stops the server."))

    def _answers(self, url: str) -> None:
        table, right, total, begun = Table(box=None, pad_edge=True), 0, 0, time.monotonic()
        for column in ("picture", "answer", "probability", ""):
            table.add_column(column)
        for name, data in pictures():
            best = ask(url, data)[0]
            right, total = right + (best["label"] == name), total + 1
            table.add_row(name, str(best["label"]), f"{best['score']:.1%}", "right" if best["label"] == name else "WRONG")
        milliseconds = 1e3 * (time.monotonic() - begun) / total
        self.console.print(table)
        self._say(f"  {right} of {total} right, {milliseconds:.1f} ms each with decoding, one at a time")

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


def ask(url: str, picture: bytes) -> Labels:
    """Labels with their scores, the best first."""
    request = urllib.request.Request(url, picture, {"Content-Type": "application/octet-stream"})  # noqa: S310  # http, on this machine
    with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310
        labels: Labels = json.load(answer)
    return labels


def finish(demo: Demo) -> None:
    """After the server has ended: exit status 1 where something was not as expected."""
    if demo.failure:
        raise click.ClickException(demo.failure)
