"""NVIDIA Triton from the PyPI package nvidia-pytriton, which carries the real tritonserver and its Python backend.

The server is started itself, without PyTriton's proxy: requests go from its C++ front end through shared memory to a
process for each instance, where `model.py` calls ONNX Runtime.
"""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from resnet_proto.manifest_pb2 import Manifest

from resnet_bench.limit.driving import GrpcEndpoint
from resnet_bench.limit.processes import free_port
from resnet_bench.peers.environment import Environment, PeerMissingError
from resnet_bench.peers.peer import Setting, Standing, place
from resnet_bench.peers.process import running

PACKAGES = ("nvidia-pytriton==0.7.0",)
VERSION = "1"
CONFIG = """\
name: "{name}"
backend: "python"
max_batch_size: {max_batch}
input [ {{ name: "image" data_type: TYPE_UINT8 dims: [ {height}, {width}, 3 ] }} ]
output [ {{ name: "logits" data_type: TYPE_FP32 dims: [ {classes} ] }} ]
parameters [ {{ key: "threads" value: {{ string_value: "{threads}" }} }} ]
"""
TUNED = """\
instance_group [ {{ count: {instances} kind: KIND_CPU }} ]
dynamic_batching {{ max_queue_delay_microseconds: 0 }}
"""
SHARED_BYTES = 64 << 20  # its Python backend crashes now and then where it has to grow its megabyte under load


def config_of(manifest: Manifest, max_batch: int, instances: int | None) -> str:
    """`config.pbtxt`: `instances` of one thread with dynamic batching and no delay; None for Triton's and ONNX Runtime's defaults."""
    spec = manifest.input
    sizes = {"height": spec.height, "width": spec.width, "classes": manifest.output.classes}
    text = CONFIG.format(name=manifest.name, max_batch=max_batch, threads=0 if instances is None else 1, **sizes)
    return text if instances is None else text + TUNED.format(instances=instances)


def write_repository(folder: Path, setting: Setting, instances: int | None) -> Path:
    """A model repository with the file, `model.py` and its configuration."""
    manifest = setting.published.manifest
    model = folder / "models" / manifest.name
    place(model / VERSION, "triton_model.py", "model.py")
    shutil.copyfile(setting.published.path, model / VERSION / "model.onnx")
    (model / "config.pbtxt").write_text(config_of(manifest, setting.max_batch, instances), encoding="utf-8")
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
def start_tuned(setting: Setting) -> Iterator[Standing]:
    """One instance a core, one thread each, dynamic batching without delay."""
    with _started("triton", setting, setting.cores) as standing:
        yield standing


@contextmanager
def start_defaults(setting: Setting) -> Iterator[Standing]:
    """Triton's defaults: one instance, no dynamic batching; and ONNX Runtime's: all cores, spinning."""
    with _started("triton-defaults", setting, None) as standing:
        yield standing


@contextmanager
def _started(name: str, setting: Setting, instances: int | None) -> Iterator[Standing]:
    environment = Environment(setting.environments, "triton", PACKAGES)
    versions = environment.ensure(setting.install)
    folder = setting.folder / name
    models, backends = write_repository(folder, setting, instances), write_backend(folder, environment)
    grpc, http, metrics = free_port(), free_port(), free_port()
    command = [
        str(environment.site_packages / "pytriton" / "tritonserver" / "bin" / "tritonserver"),
        *(f"--model-repository={models}", f"--backend-directory={backends}", "--disable-auto-complete-config"),
        *("--grpc-address=127.0.0.1", f"--grpc-port={grpc}", "--http-address=127.0.0.1", f"--http-port={http}"),
        *(
            f"--metrics-port={metrics}",
            f"--backend-config=python,shm-default-byte-size={SHARED_BYTES}",
            "--allow-gpu-metrics=false",
            "--allow-cpu-metrics=false",
            "--exit-timeout-secs=5",
        ),
        f"--backend-config=python,shm-region-prefix-name=resnet_bench_{grpc}",
    ]
    published = setting.published
    ready = f"http://127.0.0.1:{http}/v2/models/{published.name}/ready"
    try:
        with running(name, command, ready, folder, _variables(environment)) as pid:
            setup = "1 instance, no batching" if instances is None else f"{instances} x 1 thread, no queue delay"
            text = f"Triton in nvidia-pytriton {versions['nvidia-pytriton']}, Python backend, {setup}; ORT {versions['onnxruntime']}"
            yield Standing(GrpcEndpoint(name, f"127.0.0.1:{grpc}"), pid, published.precision, text)
    finally:
        for left in Path("/dev/shm").glob(f"resnet_bench_{grpc}*"):  # noqa: S108  # a killed server leaves its regions
            left.unlink(missing_ok=True)


def _variables(environment: Environment) -> dict[str, str]:
    """The libraries the wheel brought, and the environment's packages for the stub, which has the system's search path."""
    return {
        "LD_LIBRARY_PATH": str(environment.site_packages.parent.joinpath("site-packages", "nvidia_pytriton.libs")),
        "PYTHONPATH": str(environment.site_packages),
        "PATH": f"{environment.python.parent}:/usr/local/bin:/usr/bin:/bin",
    }
