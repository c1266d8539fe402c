"""Networks with random weights, for measuring speed where no weights can be had. Marked untrained wherever they are shown."""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from resnet_bench.errors import BenchError


@contextmanager
def untrained_repository(names: Sequence[str], precisions: Sequence[str], on_step: Callable[[str], None]) -> Iterator[Path]:
    """Publish variants into a temporary repository, `auto` as fp32; raises BenchError if one cannot be."""
    files = ",".join(dict.fromkeys("fp32" if precision == "auto" else precision for precision in precisions))
    with tempfile.TemporaryDirectory(prefix="resnet-bench-") as folder:
        for name in names:
            on_step(f"publishing {name} with random weights")
            publish(name, Path(folder), files)
        yield Path(folder)


def full_name(variant: str) -> str:
    """The variant's name; a number is a depth of He et al.'s residual networks."""
    return f"resnet{variant}" if variant.isdigit() else variant


def publish(name: str, repository: Path, precisions: str) -> None:
    """Let resnet-export publish one; it is run as a command, since benchmarks need no PyTorch."""
    options = ["--random-weights", "--no-profile", "--precision", precisions, "--repository", str(repository)]
    result = subprocess.run([sys.executable, "-m", "resnet_export", "publish", name, *options], capture_output=True, text=True, check=False)
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise BenchError(f"random-weights: {name} cannot be published: {last.removeprefix('Error: ')}")
