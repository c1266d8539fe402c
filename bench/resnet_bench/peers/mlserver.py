"""Seldon's MLServer with a custom runtime that calls ONNX Runtime; parallel workers as by default, adaptive batching on."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from resnet_proto.limits import MAX_MESSAGE_BYTES

from resnet_bench.peers.contender import Layout, Setting, place, running
from resnet_bench.target import Target, free_port

# A later uvloop gives its workers no event loop: they die at their start.
PACKAGES = ("mlserver==1.7.1", "uvloop==0.21.0")
BATCH_SECONDS = 0.001  # adaptive batching needs a time to wait; this is short beside any network's batch
FAILURES = ("model_infer_request_failure_total",)


def write_folder(folder: Path, setting: Setting, layout: Layout, ports: tuple[int, int, int]) -> None:
    """settings.json, model-settings.json and the runtime; `ports` for HTTP, gRPC and metrics."""
    place(folder, "mlserver_runtime.py", "mlserver_runtime.py")
    http, grpc, metrics = ports
    server = {
        "host": "127.0.0.1",
        "http_port": http,
        "grpc_port": grpc,
        "metrics_port": metrics,
        "grpc_max_message_length": MAX_MESSAGE_BYTES,
        "parallel_workers": layout.workers,
    }
    extra = {"threads": layout.threads, "spinning": layout.spinning}
    model = {
        "name": setting.published.manifest.name,
        "implementation": "mlserver_runtime.Runtime",
        "max_batch_size": setting.max_batch,
        "max_batch_time": BATCH_SECONDS,
        "parameters": {"uri": str(setting.published.path.resolve()), "extra": extra},
    }
    (folder / "settings.json").write_text(json.dumps(server), encoding="utf-8")
    (folder / "model-settings.json").write_text(json.dumps(model), encoding="utf-8")


@contextmanager
def start(setting: Setting, layout: Layout) -> Iterator[Target]:
    """So many parallel workers with a session each."""
    environment = setting.environment("mlserver", PACKAGES)
    versions = environment.ensure(setting.install)
    folder = setting.folder / f"mlserver-{layout.workers}-{layout.spinning:d}"
    http, grpc, metrics = free_port(), free_port(), free_port()
    write_folder(folder, setting, layout, (http, grpc, metrics))
    command = [str(environment.python.with_name("mlserver")), "start", str(folder)]
    ready = f"http://127.0.0.1:{http}/v2/models/{setting.published.manifest.name}/ready"
    with running("mlserver", command, ready, folder, {"MLSERVER_METRICS_DIR": str(folder), **setting.variables}) as pid:
        setup = f"MLServer {versions['mlserver']}, {layout}{setting.named}, adaptive batching {1e3 * BATCH_SECONDS:g} ms"
        yield Target("mlserver", f"127.0.0.1:{grpc}", pid, f"http://127.0.0.1:{metrics}/metrics", setup, FAILURES)
