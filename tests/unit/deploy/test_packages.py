"""The wheels, built as a release builds them: what they hold, what each extra brings, and the client alone in an empty environment."""

import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from resnet_client.testing import FakeServer

ROOT = Path(__file__).parents[3]
FOLDERS = {"resnet_serving": ".", "resnet_serving_networks": "released", "resnet_serving_checkpoints": "models"}
OURS = ("resnet_bench", "resnet_client", "resnet_export", "resnet_models", "resnet_proto", "resnet_ray", "resnet_server")
LINUX = {"sys_platform": "linux", "platform_machine": "x86_64", "python_full_version": "3.13.0", "python_version": "3.13"}
HEAVY = {"torch", "torchvision", "onnx", "onnxruntime", "onnxruntime-gpu", "resnet-serving-networks", "resnet-serving-checkpoints"}
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Distribution to its wheel."""
    folder = tmp_path_factory.mktemp("dist")
    for source in FOLDERS.values():
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
        result = subprocess.run(command, cwd=ROOT / source, capture_output=True, text=True, check=False, timeout=120)
        assert result.returncode == 0, result.stdout + result.stderr
    return {path.name.partition("-")[0]: path for path in folder.glob("*.whl")}


def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as file:
        return file.namelist()


def read(wheel: Path, suffix: str) -> str:
    with zipfile.ZipFile(wheel) as file:
        (name,) = [name for name in file.namelist() if name.endswith(suffix)]
        return file.read(name).decode()


def brought(wheel: Path, extra: str) -> dict[str, SpecifierSet]:
    """Packages with their bounds that an extra brings on Linux x86-64, through our own extras too."""
    found: dict[str, SpecifierSet] = {}
    for text in Parser().parsestr(read(wheel, ".dist-info/METADATA")).get_all("Requires-Dist", []):
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate(LINUX | {"extra": extra}):
            continue
        if requirement.name == "resnet-serving":
            for inner in requirement.extras:
                for name, bounds in brought(wheel, inner).items():
                    found[name] = found.get(name, SpecifierSet()) & bounds
        else:
            found[requirement.name] = found.get(requirement.name, SpecifierSet()) & requirement.specifier
    return found


def test_the_code_is_one_small_wheel_without_weights(wheels: dict[str, Path]) -> None:
    wheel = wheels["resnet_serving"]
    assert wheel.stat().st_size < MEGABYTE
    assert [name for name in names(wheel) if name.endswith((".safetensors", ".npz", ".onnx"))] == []


def test_every_package_is_typed_and_the_licence_is_whole(wheels: dict[str, Path]) -> None:
    assert {f"{package}/py.typed" for package in OURS} <= set(names(wheels["resnet_serving"]))
    assert "resnet_networks/py.typed" in names(wheels["resnet_serving_networks"])
    for wheel in wheels.values():
        licence = read(wheel, "LICENSE")
        assert "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION" in licence
        assert "END OF TERMS AND CONDITIONS" in licence


def test_the_data_are_where_the_code_looks_for_them(wheels: dict[str, Path]) -> None:
    checkpoints = names(wheels["resnet_serving_checkpoints"])
    assert {"resnet_models/pretrained/resnet20.safetensors", "resnet_models/samples/certification.npz"} <= set(checkpoints)
    assert not set(checkpoints) & set(names(wheels["resnet_serving"])), "two wheels with one file: the second install overwrites the first"


def test_the_released_networks_are_small(wheels: dict[str, Path]) -> None:
    with zipfile.ZipFile(wheels["resnet_serving_networks"]) as file:
        sizes = {info.filename: info.file_size for info in file.infolist()}
    assert max(sizes.values()) < 6 * MEGABYTE
    assert sum(sizes.values()) < 25 * MEGABYTE


@pytest.mark.parametrize(
    ("extra", "heavy"),
    [
        ("client", set()),
        ("server", {"onnxruntime", "resnet-serving-networks"}),
        ("server-gpu", {"onnxruntime-gpu", "resnet-serving-networks"}),
        ("bench", {"onnxruntime", "resnet-serving-networks"}),
        ("models", {"torch", "torchvision", "resnet-serving-checkpoints"}),
        ("export", {"torch", "torchvision", "onnx", "onnxruntime", "resnet-serving-checkpoints"}),
    ],
)
def test_an_extra_brings_what_it_needs_and_no_second_runtime(extra: str, heavy: set[str], wheels: dict[str, Path]) -> None:
    assert set(brought(wheels["resnet_serving"], extra)) & HEAVY == heavy


def test_the_private_core_of_grpc_has_an_upper_bound(wheels: dict[str, Path]) -> None:
    from resnet_server.transport.grpc_core import KNOWN_BEFORE, KNOWN_FROM

    bounds = brought(wheels["resnet_serving"], "server")["grpcio"]
    assert f"{KNOWN_FROM[0]}.{KNOWN_FROM[1]}.0" in bounds
    assert f"{KNOWN_BEFORE[0]}.{KNOWN_BEFORE[1]}.0" not in bounds
    assert f"{KNOWN_BEFORE[0]}.{KNOWN_BEFORE[1]}.0" in brought(wheels["resnet_serving"], "client")["grpcio"]


def test_no_package_links_to_a_place_that_cannot_exist(wheels: dict[str, Path]) -> None:
    """Names under .example are reserved: a link there is dead."""
    for wheel in wheels.values():
        header = read(wheel, "/METADATA").partition("\n\n")[0]
        assert [line for line in header.splitlines() if "http" in line and ".example" in line] == []


def test_one_version_stands_in_the_changelog_and_the_citation(wheels: dict[str, Path]) -> None:
    version = Parser().parsestr(read(wheels["resnet_serving"], "/METADATA"))["Version"]
    assert f"\n## {version}\n" in (ROOT / "CHANGELOG.md").read_text()
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version


def test_the_client_works_alone_in_an_empty_environment(wheels: dict[str, Path], tmp_path: Path) -> None:
    """A real install from the registry, a real call, and no package of another part beside it."""
    python = install(f"{wheels['resnet_serving']}[client]", tmp_path / "environment")
    image = tmp_path / "cat.png"
    image.write_bytes(b"any bytes: the fake server decodes nothing")
    with FakeServer(model="resnet20") as server:
        command = [str(python.parent / "resnet-client"), "classify", str(image), "--url", server.url, "--csv"]
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stderr
    assert "cat" in result.stdout
    absent = "import importlib.util as u, sys; sys.exit(str([n for n in sys.argv[1:] if u.find_spec(n)]))"
    found = subprocess.run([str(python), "-c", absent, *HEAVY, "starlette"], capture_output=True, text=True, check=False, timeout=60)
    assert found.stderr.strip() == "[]"


def install(what: str, folder: Path) -> Path:
    """The Python of a new environment that holds `what` and nothing else; skips where no registry answers."""
    python = folder / "bin" / "python"
    for command in (
        ["venv", "--quiet", "--python", sys.executable, str(folder)],
        ["pip", "install", "--quiet", "--python", str(python), what],
    ):
        result = subprocess.run([sys.executable, "-m", "uv", *command], capture_output=True, text=True, check=False, timeout=240)
        if result.returncode and any(
            text in result.stderr for text in ("Failed to fetch", "error sending request", "not found in the cache")
        ):
            pytest.skip("no package registry answers")
        assert result.returncode == 0, result.stderr
    return python
