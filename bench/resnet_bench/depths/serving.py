"""The servers of a comparison: one for each model, so that memory, CPU time and metrics are its own; or one that runs already."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from resnet_bench.depths.subject import Subject, find_subjects
from resnet_bench.errors import BenchError
from resnet_bench.server_process import started


@contextmanager
def own_servers(
    repository: Path, names: Sequence[str], precisions: Sequence[str], options: Sequence[str], on_step: Callable[[str], None]
) -> Iterator[list[Subject]]:
    """Start a server for each model and precision; all run until the end, and those that are not measured wait idle.

    Raises BenchError where the repository or a model is not there, or a server does not start.
    """
    with ExitStack() as stack:
        subjects = []
        for name in chosen(repository, names):
            for precision in precisions:
                on_step(f"starting a server for {name} {precision}")
                arguments = ("--models", name, "--precision", precision, *options)
                subjects += find_subjects(stack.enter_context(started(repository, arguments)), (name,), repository)
        yield subjects


def chosen(repository: Path, names: Sequence[str]) -> list[str]:
    """The names asked for, or all that are published; raises BenchError for one that is not."""
    if not repository.is_dir():
        raise BenchError(f"repository: {repository} is not a folder; `resnet-export publish` makes one")
    there = sorted(path.name for path in repository.iterdir() if any(version.name.isdigit() for version in path.glob("*")))
    if not there:
        raise BenchError(f"repository: {repository} holds no models; `resnet-export publish` publishes one")
    if missing := [name for name in names if name not in there]:
        raise BenchError(f"models: {', '.join(missing)} not in {repository}; it holds {', '.join(there)}")
    return list(names) or there
