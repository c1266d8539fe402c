"""The files of a training run: what must never be overwritten, and who may write.

A run has a checkpoint (`OUT`), a resumable state beside it until it is complete (`OUT.state`), and a lock while a process works on it.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from resnet_models.checkpoint import CheckpointInfo, load_checkpoint
from resnet_models.errors import CheckpointError

Identity = dict[str, str | int | None]
"""What must be equal for two runs to be the same run; None: not recorded by the release that trained it."""


def state_path(out: Path) -> Path:
    """Where the resumable state lives until the run is complete."""
    return out.with_name(out.name + ".state")


def planned_epochs(info: CheckpointInfo) -> int | None:
    """The length a run was planned for; of checkpoints without a training record it is in the command they name."""
    if info.training is not None:
        return info.training.planned_epochs
    found = re.search(r"--epochs (\d+)", info.source)
    return int(found[1]) if found else None


def is_finished(info: CheckpointInfo) -> bool:
    """True where as many epochs are done as were planned."""
    return bool(info.curve) and len(info.curve) == planned_epochs(info)


def identity_of(info: CheckpointInfo) -> Identity:
    """The identity of the run that wrote a checkpoint."""
    record = info.training
    known: Identity = {"variant": info.variant, "recipe": info.recipe, "epochs": planned_epochs(info), "seed": info.seed}
    return known | {
        "precision": record.precision if record else None,
        "device": record.device if record else None,
        "rows_sha256": record.rows_sha256 if record else None,
    }


def differences(found: Identity, wanted: Identity) -> str:
    """What differs, in words; empty where the runs are the same as far as is recorded."""
    return ", ".join(
        f"{key} {_clipped(found.get(key))} instead of {_clipped(value)}"
        for key, value in wanted.items()
        if found.get(key) is not None and found.get(key) != value
    )


def _clipped(value: str | int | None) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:12]}..."


def finished_run(out: Path, wanted: Identity, *, resume: bool, overwrite: bool) -> CheckpointInfo | None:
    """The finished run at `out` if it is the wanted one and is to be resumed; None where training may write there.

    Raises CheckpointError where anything else is there: a finished run is only ever overwritten when asked for by name.
    """
    state = state_path(out)
    if overwrite:
        state.unlink(missing_ok=True)
        return None
    if state.exists():
        if not resume:
            raise CheckpointError(f"out: {state} holds an unfinished run; --resume continues it, --overwrite discards it")
        return None
    if not out.exists():
        return None
    try:
        info = load_checkpoint(out).info
    except CheckpointError as error:
        raise CheckpointError(f"out: {out} exists and is no checkpoint ({error}); give another --out, or --overwrite") from None
    other = differences(identity_of(info), wanted)
    if resume and not other and is_finished(info):
        return info
    what = f"a run with {other}" if other else "this run, complete" if is_finished(info) else "this run, unfinished and without its state"
    raise CheckpointError(f"out: {out} holds {what}; give another --out, or --overwrite to discard it")


@contextlib.contextmanager
def held(out: Path) -> Iterator[None]:
    """Keep other processes from training into `out`, and remove what a killed one left half written; raise CheckpointError if one does.

    The kernel gives the lock back whatever ends the process. Where there is no `flock` (Windows) nothing is locked.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    path = out.with_name(f".{out.name}.lock")
    handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        if not _locked(handle):
            raise CheckpointError(f"out: another process is training into {out}")
        for part in out.parent.glob(f".{out.name}.*part"):
            part.unlink(missing_ok=True)
        yield
        path.unlink(missing_ok=True)
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
