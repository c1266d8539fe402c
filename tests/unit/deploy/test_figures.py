"""The tree has no import cycles, not even under TYPE_CHECKING, and the script that says so finds one."""

from pathlib import Path

import pytest

from deploy.figures import between_packages, cycles, imports

ROOT = Path(__file__).parents[3]
PACKAGES = ("models/resnet_models", "export/resnet_export", "server/resnet_server", "proto/resnet_proto", "client/resnet_client")


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_and_no_folder_imports_itself_by_a_detour(package: str) -> None:
    graph = imports(ROOT / package)
    assert len(graph) >= 4
    assert cycles(graph) == []
    assert cycles(between_packages(graph)) == []


def test_a_cycle_is_found_between_modules_and_between_folders(tmp_path: Path) -> None:
    package = tmp_path / "p"
    for name, text in {
        "a/one.py": "from p.b.two import x",
        "a/three.py": "",
        "b/two.py": "import typing\nif typing.TYPE_CHECKING:\n    import p.a.three",
        "c.py": "from p import d",
        "d.py": "def f():\n    from p.c import y",
    }.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    graph = imports(package)
    assert cycles(graph) == [["p.c", "p.d", "p.c"]]
    assert cycles(between_packages(graph)) == [["p.a", "p.b", "p.a"], ["p.c", "p.d", "p.c"]]
