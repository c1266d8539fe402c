"""Lightning's LitServe, which speaks HTTP only: the images' raw bytes in, the logits' raw bytes out."""

from collections.abc import Iterator
from contextlib import contextmanager

from resnet_bench.peers.contender import Layout, Setting, place, running
from resnet_bench.target import Target, free_port

PACKAGES = ("litserve==0.2.19",)


@contextmanager
def start(setting: Setting, layout: Layout) -> Iterator[Target]:
    """So many workers, batching without delay."""
    environment = setting.environment("litserve", PACKAGES)
    versions = environment.ensure(setting.install)
    folder = setting.folder / f"litserve-{layout.workers}"
    program = place(folder, "litserve_app.py", "litserve_app.py")
    port = free_port()
    size = setting.published.manifest.input.height
    numbers = (port, layout.workers, layout.threads, int(layout.spinning), setting.max_batch, size)
    command = [str(environment.python), str(program), str(setting.published.path.resolve()), *(str(number) for number in numbers)]
    with running("litserve", command, f"http://127.0.0.1:{port}/health", folder, setting.variables) as pid:
        setup = f"LitServe {versions['litserve']}, HTTP/1.1 with raw bytes, {layout}{setting.named}"
        yield Target("litserve", f"127.0.0.1:{port}", pid, None, setup, path="/predict", http1=True)
