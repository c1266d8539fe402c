"""Classify every picture below a folder, with a progress bar; files that fail are named at the end.

    python classify_folder.py FOLDER [MODEL] [ADDRESS]

Any number of files: they are read as they are needed, and eight calls are in flight.
"""

import sys
from pathlib import Path

from resnet_client import Client
from rich.progress import track

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


def main(folder: str, model: str = "resnet20", address: str = "localhost:8001") -> int:
    """Print a line for each picture; 1 if one failed."""
    paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES)
    failed = []
    with Client(address) as client:
        outcomes = client.classify_stream(paths, model=model)
        for outcome in track(outcomes, "classifying", total=len(paths), disable=not sys.stdout.isatty()):
            if outcome.error is not None:
                failed.append(outcome)
            else:
                best = outcome.get().best
                print(f"{outcome.source}\t{best.name}\t{best.probability:.3f}")
    for outcome in failed:
        print(f"{outcome.source}: {outcome.error}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
