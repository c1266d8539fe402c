"""Figures of the tree, by package: files, lines, lengths of files and functions, annotations, docstrings and import cycles.

python deploy/figures.py [FOLDER]      # another checkout, to compare with; needs nothing but Python
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

PACKAGES = ("models", "export", "server", "proto", "client", "bench", "tests", "deploy")
GENERATED = ("_pb2.py", "_pb2_grpc.py")
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Figures:
    """Of one package: lines of each file and function, and how many functions are annotated and public things documented."""

    files: list[int] = field(default_factory=list)
    functions: list[int] = field(default_factory=list)
    typed: int = 0
    public: int = 0
    documented: int = 0

    def row(self, name: str) -> str:
        """As a row of a Markdown table."""
        share = (f"{100 * self.typed / max(1, len(self.functions)):.0f} %", f"{100 * self.documented / max(1, self.public):.0f} %")
        cells = (name, len(self.files), sum(self.files), quantiles(self.files), quantiles(self.functions), *share)
        return "| " + " | ".join(map(str, cells)) + " |"


def quantiles(values: list[int]) -> str:
    """The median, the ninth decile and the largest."""
    ordered = sorted(values) or [0]
    return "/".join(str(ordered[min(len(ordered) - 1, int(share * len(ordered)))]) for share in (0.5, 0.9, 1.0))


def measure(folder: Path) -> Figures:
    """Read every Python file below `folder` that is not generated."""
    figures = Figures()
    for path in python_files(folder):
        text = path.read_text(encoding="utf-8")
        figures.files.append(text.count("\n"))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, Function):
                figures.functions.append((node.end_lineno or node.lineno) - node.lineno + 1)
                figures.typed += is_typed(node)
            if isinstance(node, (Function, ast.ClassDef)) and not node.name.startswith("_"):
                figures.public += 1
                figures.documented += ast.get_docstring(node) is not None
    return figures


def python_files(folder: Path) -> Iterator[Path]:
    """Without generated code."""
    return (path for path in sorted(folder.rglob("*.py")) if not path.name.endswith(GENERATED) and ".venv" not in path.parts)


def is_typed(node: Function) -> bool:
    """True if what it returns and takes is annotated, `self` and `cls` apart."""
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return node.returns is not None and all(a.annotation is not None for a in arguments if a.arg not in ("self", "cls"))


def imports(package: Path) -> dict[str, set[str]]:
    """Module to the modules of the same package that it imports at any level, under TYPE_CHECKING, too."""
    modules = {path.relative_to(package.parent).with_suffix(""): path for path in python_files(package)}
    names = {".".join(module.parts).removesuffix(".__init__"): path for module, path in modules.items()}
    found: dict[str, set[str]] = {name: set() for name in names}
    for name, path in names.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names} & names.keys()
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                inner = {f"{node.module}.{alias.name}" for alias in node.names} & names.keys()
                found[name] |= inner or ({node.module} & names.keys())
    return found


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """One cycle for each way back that a depth-first search meets."""
    found: list[list[str]] = []
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> None:
        if name in path:
            found.append([*path[path.index(name) :], name])
        elif name not in done:
            for other in sorted(graph[name]):
                visit(other, [*path, name])
            done.add(name)

    for name in graph:
        visit(name, [])
    return found


def between_packages(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """The same, of the folders below a package."""
    folders = {name: ".".join(name.split(".")[:2]) for name in graph}
    merged: dict[str, set[str]] = {folder: set() for folder in folders.values()}
    for name, others in graph.items():
        merged[folders[name]] |= {folders[other] for other in others} - {folders[name]}
    return merged


def main() -> None:
    """Print the table, and every cycle of modules or folders."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1]
    print("| package | files | lines | lines a file p50/p90/max | a function | annotated | documented |\n|---|---|---|---|---|---|---|")
    for name in PACKAGES:
        print(measure(root / name).row(name))
    for name in PACKAGES[:6]:
        (package,) = (path for path in (root / name).glob("resnet_*") if path.is_dir())
        graph = imports(package)
        loops = [*cycles(graph), *cycles(between_packages(graph))]
        print(f"\n{package.name}: {len(loops)} import cycles" + "".join(f"\n  {' -> '.join(loop)}" for loop in loops))


if __name__ == "__main__":
    main()
