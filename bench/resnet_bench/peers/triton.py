"""NVIDIA Triton with its Python backend, from the PyPI package nvidia-pytriton, which carries the real tritonserver.

The server is started itself, without PyTriton's proxy: requests go from its C++ front end through shared memory to a process for each
instance, where `model.py` calls ONNX Runtime. Triton's own ONNX Runtime backend is in no package: wherever a figure is shown, it says
"Triton (Python backend)".
"""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from resnet_proto.manifest_pb2 import Manifest

from resnet_bench.peers.contender import Layout, Setting, place, running
from resnet_bench.peers.environment import Environment, PeerMissingError
from resnet_bench.target import Target, free_port

NAME = "Triton (Python backend)"
PACKAGES = ("nvidia-pytriton==0.7.0",)
VERSION = "1"
CONFIG = """\
name: "{name}"
backend: "python"
max_batch_size: {max_batch}
input [ {{ name: "image" data_type: TYPE_UINT8 dims: [ {height}, {width}, 3 ] }} ]
output [ {{ name: "logits" data_type: TYPE_FP32 dims: [ {classes} ] }} ]
parameters [
  {{ key: "threads" value: {{ string_value: "{threads}" }} }},
  {{ key: "spinning" value: {{ string_value: "{spinning:d}" }} }}
]
instance_group [ {{ count: {instances} kind: KIND_CPU }} ]
dynamic_batching {{ max_queue_delay_microseconds: 0 }}
"""
SHARED_BYTES = 64 << 20  # its Python backend crashes now and then where it has to grow its megabyte under load
FAILURES = ("nv_inference_request_failure_total",)  # the parser ends the name of every counter in _total


def config_of(manifest: Manifest, max_batch: int, layout: Layout) -> str:
    """`config.pbtxt`: dynamic batching without delay, so many instances."""
    spec = manifest.input
    sizes = {"height": spec.height, "width": spec.width, "classes": manifest.output.classes}
    use = {"instances": layout.workers, "threads": layout.threads, "spinning": layout.spinning}
    return CONFIG.format(name=manifest.name, max_batch=max_batch, **sizes, **use)


def write_repository(folder: Path, setting: Setting, layout: Layout) -> Path:
    """A model repository with the file, `model.py` and its configuration."""
    manifest = setting.published.manifest
    model = folder / "models" / manifest.name
    place(model / VERSION, "triton_model.py", "model.py")
    shutil.copyfile(setting.published.path, model / VERSION / "model.onnx")
    (model / "config.pbtxt").write_text(config_of(manifest, setting.max_batch, layout), encoding="utf-8")
    return folder / "models"


def write_backend(folder: Path, environment: Environment) -> Path:
    """A backend directory with the Python backend and the stub of this Python version, which the package keeps apart."""
    distribution = environment.site_packages / "pytriton" / "tritonserver"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = distribution / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.is_file():
        raise PeerMissingError(f"triton: {PACKAGES[0]} has no Python backend for Python {version}")
    backend = folder / "backends" / "python"
    shutil.copytree(distribution / "backends" / "python", backend, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(stub, backend)
    return backend.parent


@contextmanager
def start(setting: Setting, layout: Layout) -> Iterator[Target]:
    """One instance for each worker, dynamic batching without delay."""
    environment = setting.environment("triton", PACKAGES)
    versions = environment.ensure(setting.install)
    folder = setting.folder / f"triton-{layout.workers}-{layout.spinning:d}"
    models, backends = write_repository(folder, setting, layout), write_backend(folder, environment)
    grpc, http, metrics = free_port(), free_port(), free_port()
    command = [
        str(environment.site_packages / "pytriton" / "tritonserver" / "bin" / "tritonserver"),
        *(f"--model-repository={models}", f"--backend-directory={backends}", "--disable-auto-complete-config"),
        *("--grpc-address=127.0.0.1", f"--grpc-port={grpc}", "--http-address=127.0.0.1", f"--http-port={http}"),
        *(f"--metrics-port={metrics}", "--allow-gpu-metrics=false", "--allow-cpu-metrics=false", "--exit-timeout-secs=5"),
        f"--backend-config=python,shm-default-byte-size={SHARED_BYTES}",
        f"--backend-config=python,shm-region-prefix-name=resnet_bench_{grpc}",
    ]
    ready = f"http://127.0.0.1:{http}/v2/models/{setting.published.manifest.name}/ready"
    try:
        with running(NAME, command, ready, folder, _variables(environment) | setting.variables) as pid:
            setup = f"nvidia-pytriton {versions['nvidia-pytriton']}, {layout}{setting.named}, no queue delay"
            yield Target(NAME, f"127.0.0.1:{grpc}", pid, f"http://127.0.0.1:{metrics}/metrics", setup, FAILURES)
    finally:
        for left in Path("/dev/shm").glob(f"resnet_bench_{grpc}*"):  # noqa: S108  # a killed server leaves its regions
            left.unlink(missing_ok=True)


def _variables(environment: Environment) -> dict[str, str]:
    """The libraries the wheel brought, and the environment's packages for the stub, which has the system's search path."""
    return {
        "LD_LIBRARY_PATH": str(environment.site_packages / "nvidia_pytriton.libs"),
        "PYTHONPATH": str(environment.site_packages),
        "PATH": f"{environment.python.parent}:/usr/local/bin:/usr/bin:/bin",
    }
