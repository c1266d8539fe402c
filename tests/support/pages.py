"""The pages that people read, and what they show: commands, programs, links."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")] + sorted(
    path for path in (ROOT / "docs").rglob("*.md") if "results" not in path.parts or path.name == "README.md"
)
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"")
INLINE = re.compile(r"`((?:resnet-\w+|make) [^`]+)`")
PROGRAMS = ("resnet-", "make", "python", "docker", "kubectl", "helm", "serve", "pip", "nice")


@dataclass(frozen=True)
class Shown:
    """A command as a page shows it."""

    page: Path
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {self.text}"

    def words(self) -> list[str]:
        """Without settings of the environment before it, `nice -n 19`, and what comes after a pipe, `&&` or a comment."""
        words = shlex.split(self.text, comments=True)
        for stop in ("|", "&&", ">", "&", ";"):
            words = words[: words.index(stop)] if stop in words else words
        while words and (re.match(r"[A-Z_]+=", words[0]) or words[0] == "nice"):
            words = words[3:] if words[0] == "nice" else words[1:]
        return words


def commands(page: Path) -> Iterator[Shown]:
    """Commands in indented blocks, shell fences and inline code."""
    text = page.read_text(encoding="utf-8")
    outside = FENCE.sub("", text)
    blocks = [match[2] for match in FENCE.finditer(text) if match[1] in ("bash", "sh", "shell", "console")]
    blocks.append("\n".join(line[4:] if line.startswith("    ") else "" for line in outside.splitlines()))
    for block in blocks:
        for line in re.sub(r"\\\n\s*", "", block).splitlines():
            if re.match(r"([A-Z_]+=\S+ )*(" + "|".join(PROGRAMS) + r")", line):
                yield Shown(page, line.strip())
    yield from (Shown(page, match[1]) for match in INLINE.finditer(outside))


def programs(page: Path) -> list[str]:
    """Python programs, as they stand."""
    return [match[2] for match in FENCE.finditer(page.read_text(encoding="utf-8")) if match[1] == "python"]


def asks_group(program: str) -> bool:
    """True if a program asks for the group `auto`, which takes a real server."""
    return '"auto"' in program


def links(page: Path) -> list[str]:
    """Targets of links and pictures."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    return [match[1] or match[2] for match in LINK.finditer(text)]


def anchors(page: Path) -> set[str]:
    """Names of a page's headings, as GitHub and mkdocs make them."""
    found = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", title).lower()).strip().replace(" ", "-") for title in found}
