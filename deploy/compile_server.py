"""The server's hot path, compiled by mypyc: the same Python files as C extensions, which leave a call's work as it is and make it cheaper.

Hatch runs this as a hook when the wheel is built with RESNET_COMPILE=1; without, the wheel is pure Python and runs everywhere. As a program
it makes a folder for PYTHONPATH: `python deploy/compile_server.py build/compiled` (`make compiled`).
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SWITCH = "RESNET_COMPILE"
PACKAGE = "resnet_server"
REQUIRED = ("mypy==2.4.1", "setuptools>=77")
"""What compiles. The version is pinned: another one compiles other code than the tests ran on."""

MODULES = {
    "batching": (
        "admission batch batcher chooser cost_model deadline_queue deadlines delay_rule dispatcher door engine_pool group_dispatcher "
        "held_bytes row_queue settlement tally ticket waiter watchdog"
    ),
    "endpoints": "error_status infer_message parameters tensors wire",
    "endpoints/grpc": "door known_requests model_infer",
    "engines": "api",
    "engines/process": "channel engine messages",
    "metrics": "buffer",
    "models": "depth_chooser",
    "transport": "api call crowd method server tags",
}
"""What a call of ModelInfer goes through in the front end, by folder. Compiled together, so that they call each other as C does."""

SETUP = """
from mypyc.build import mypycify
from setuptools import setup
extensions = mypycify({arguments!r}, opt_level="3", debug_level="0", group_name="resnet_server")
setup(name="resnet_server", packages=[], package_dir={{"": "."}}, ext_modules=extensions, script_args=["build_ext", "--inplace"])
"""
MYPY = """
[mypy]
explicit_package_bases = True
mypy_path = .:{others}
follow_imports = silent
ignore_missing_imports = True
"""


class CompileHook(BuildHookInterface[Any]):
    """Adds the extensions to the wheel."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """Of the build, where it compiles."""
        return list(REQUIRED) if is_asked_for() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile; an editable install stays as its sources are."""
        if not is_asked_for() or version == "editable":
            return
        folder = Path(self.root) / "build" / "compiled"
        for extension in compiled(Path(self.root), folder):
            build_data["force_include"][str(extension)] = str(extension.relative_to(folder))
        build_data["pure_python"], build_data["infer_tag"] = False, True


def is_asked_for() -> bool:
    """Whether the environment says so."""
    return os.environ.get(SWITCH, "0") not in ("", "0")


def compiled(root: Path, folder: Path, modules: Mapping[str, str] = MODULES) -> list[Path]:
    """Copy the server's package into `folder`, compile it there, and return the extensions; raises SystemExit with what mypyc said."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(root / "server" / PACKAGE, folder / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "mypy.ini").write_text(MYPY.format(others=":".join(str(root / name) for name in ("proto", "client"))), encoding="utf-8")
    arguments = ["--config-file=mypy.ini", *(f"{PACKAGE}/{path}/{name}.py" for path, names in modules.items() for name in names.split())]
    command = [sys.executable, "-c", SETUP.format(arguments=arguments)]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        sys.exit(f"compile: mypyc failed:\n{done.stdout}")
    for left in (folder / "build", folder / ".mypy_cache"):
        shutil.rmtree(left, ignore_errors=True)
    return sorted(folder.rglob("*.so"))


def main() -> None:
    """Compile into the folder that is named."""
    folder = Path(sys.argv[1]).absolute()
    found = compiled(Path(__file__).parents[1], folder)
    print(f"{folder}: {len(found)} extensions; PYTHONPATH={folder} runs them")


if __name__ == "__main__":
    main()
