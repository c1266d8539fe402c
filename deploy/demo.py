"""`make demo`: from a trained checkpoint to a running gRPC service, and real photographs through it."""

import io
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image
from resnet_bench.target import started
from resnet_client import Client, Prediction
from resnet_models.labels import CIFAR10_LABELS
from resnet_models.sample import Sample, load_sample
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
PRETRAINED = ROOT / "models" / "resnet_models" / "pretrained"
REPOSITORY = ROOT / ".demo" / "repository"
NETWORKS = ("resnet20", "resnet56")  # a shallow and a deep one: publishing all that are bundled takes twice as long
SHOWN = 12
SHARE = 64

console = Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else 120)


def main() -> None:
    """Publish, serve, classify, stop."""
    shutil.rmtree(REPOSITORY, ignore_errors=True)
    for checkpoint in (PRETRAINED / f"{name}.safetensors" for name in NETWORKS):
        console.rule(f"resnet-export publish {checkpoint.relative_to(ROOT)}")
        options = ["--repository", str(REPOSITORY), "--precision", "fp32"]
        publish = [sys.executable, "-m", "resnet_export", "publish", str(checkpoint), *options]
        subprocess.run(publish, check=True)
    console.rule(f"resnet-server serve --repository {REPOSITORY.relative_to(ROOT)}")
    with started(REPOSITORY, ()) as server, Client(server.url) as client:
        console.print(f"listening on {server.url}")
        sample = load_sample()
        for info in client.models():
            console.rule(f"{info.name}: {info.precision} on {info.provider}, certificate {info.certificate_id[:16]}")
            show_answers(client, info.name, sample)
            show_accuracy(client, info.name, sample)
    console.rule()
    console.print("the server has drained and stopped; `make serve` starts one that stays")


def encode(pixels: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> bytes:
    """A PNG of UINT8 [h, w, 3]."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def show_answers(client: Client, model: str, sample: Sample) -> None:
    """A line for each of a few photographs: what it is, and what the service says."""
    indices = np.random.default_rng(1).choice(len(sample.images), SHOWN, replace=False)
    found = client.classify([encode(sample.images[i]) for i in indices], model=model)
    table = Table(box=None)
    for column in ("photograph", "is", "answer", "probability", "", "second"):
        table.add_column(column)
    for index, one in zip(indices, found, strict=True):
        table.add_row(f"certification image {index}", *answer_columns(CIFAR10_LABELS[sample.labels[index]], one))
    console.print(table)


def answer_columns(truth: str, one: Prediction) -> tuple[str, ...]:
    """True label, answer, its probability, whether it is right, and the second choice."""
    second = one.labels[1]
    right = "right" if one.best.name == truth else "WRONG"
    return truth, one.best.name, f"{one.best.probability:.1%}", right, f"{second.name} {second.probability:.1%}"


def show_accuracy(client: Client, model: str, sample: Sample) -> None:
    """All bundled images one by one through gRPC, as encoded photographs: accuracy and latency."""
    encoded = [encode(image) for image in sample.images]
    client.classify(encoded[:SHARE], model=model)
    right, seconds = 0, []
    for data, truth in zip(encoded, sample.labels, strict=True):
        begun = time.perf_counter()
        (one,) = client.classify([data], model=model, top_k=1)
        seconds.append(time.perf_counter() - begun)
        right += one.best.index == truth
    p50, p90, p99 = (1e3 * float(np.percentile(seconds, p)) for p in (50, 90, 99))
    console.print(
        f"accuracy over the {len(encoded):,} {sample.source.split(maxsplit=1)[1]} through gRPC: {100 * right / len(encoded):.2f} %\n"
        f"latency of one PNG, one call at a time: p50 {p50:.2f} ms, p90 {p90:.2f} ms, p99 {p99:.2f} ms"
    )


if __name__ == "__main__":
    main()
