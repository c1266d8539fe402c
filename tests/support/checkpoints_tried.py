"""The checkpoints of `tried_cases` published and served: `python tests/support/checkpoints_tried.py` measures those that its file
lacks (`0 3`: the first third).

Each is published in fp32 as the command line does, served by a real server, and asked over gRPC for 20 pictures twice: as pixels that the
owner's own transform made, and as encoded images. The answers are compared with the owner's own pipeline.
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from in_process import running_app
from numpy.typing import NDArray
from resnet_client import Client
from resnet_export import images, replay
from resnet_export.publish import Request, publish
from resnet_export.sources.opening import open_source
from tried_cases import CASES, ORIGINS, PICTURES, Case, identity, write

CLOSE = 1e-4  # of the logits' spread
AT_ONCE = 6
SECONDS = 400.0
FEW = 16  # generated images: each network is compared with its owner on photographs anyway


@dataclass(frozen=True)
class Results:
    """The file of results: a row for each case, in the order of CASES."""

    path: Path

    def read(self) -> list[dict[str, Any]]:
        """The rows that are there."""
        rows: list[dict[str, Any]] = json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else []
        return rows

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Keep the rows, whatever was there of the same cases."""
        found = {row["case"]: row for row in [*self.read(), *rows]}
        kept = [found[case] for case in CASES if case in found]
        self.path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


RESULTS = Results(Path(__file__).parents[2] / "docs" / "results" / "2026-11-29-certificates" / "checkpoints.json")


def measure(names: Sequence[str], folder: Path) -> Iterator[dict[str, Any]]:
    """Publish the cases into one repository and ask a server that serves it; a row for each."""
    published: dict[str, str] = {}
    tried: dict[str, tuple[Case, str]] = {}
    for name in names:
        place = folder / f"written {len(tried)}"
        place.mkdir()
        case, given = write(name, place)
        with open_source(case.text, given) as source:
            key = identity(source)
            if key not in published:
                published[key] = f"case{len(published)}"
                publish(source.checkpoint, source.file, Request(folder / "repository", published[key]))
        tried[name] = case, published[key]
    with running_app(folder / "repository", folder / "plans", plan_seconds=0.05, max_batch=4) as app, Client(app.grpc_address) as client:
        for name, (case, model) in tried.items():
            pixels = case.pixels()
            wanted = case.logits(pixels)
            answers = client.classify(PICTURES, model=model, top_k=wanted.shape[1])
            encoded = np.array([[one.logit for one in sorted(answer.labels, key=lambda label: label.index)] for answer in answers])
            raw = client.infer(pixels, model=model)
            (origin,) = [origin for origin, cases in ORIGINS.items() if name in cases]
            found = {"raw": compare(raw, wanted), "encoded": compare(encoded, wanted)}
            yield {"case": name, "origin": origin, "pictures": len(PICTURES), **found}


def compare(found: NDArray[Any], wanted: NDArray[np.float32]) -> dict[str, float]:
    """Share of the same best classes, and the largest difference of a logit as a share of the logits' spread."""
    error = float(np.abs(found - wanted).max() / wanted.std())
    return {"agreement": float((found.argmax(1) == wanted.argmax(1)).mean()), "error": float(f"{error:.2g}")}


def main(share: int = 0, shares: int = 1) -> None:
    """Measure what the file lacks of one share of the cases, a few at a time, for some minutes; run it again for the rest."""
    images.GENERATED = replay.REPLAY_IMAGES = FEW
    begun = time.monotonic()
    while time.monotonic() - begun < SECONDS:
        known = {row["case"] for row in RESULTS.read()}
        lacking = [name for name in list(CASES)[share::shares] if name not in known][:AT_ONCE]
        if not lacking:
            break
        with tempfile.TemporaryDirectory() as folder:
            rows = list(measure(lacking, Path(folder)))
        RESULTS.add(rows)
        for row in rows:
            sys.stdout.write(f"{row}\n")
    sys.stdout.write(f"{len(RESULTS.read())} of {len(CASES)}\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
