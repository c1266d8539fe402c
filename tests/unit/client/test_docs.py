"""The programs in README and docs, run as they stand against a server without a model."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import trustme
from pages import PAGES, asks_group, programs
from PIL import Image
from resnet_client.testing import FakeServer

PROGRAMS = [
    pytest.param(program, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, program in enumerate(programs(page), 1)
    if not asks_group(program)  # tests/e2e/test_groups.py runs those
]


@pytest.fixture
def resnet20() -> Iterator[FakeServer]:
    with FakeServer(model="resnet20") as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the programs name."""
    (tmp_path / "photographs").mkdir()
    for path in ("cat.png", "photographs/a.jpg", "photographs/b.jpg"):
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / path)
    authority = trustme.CA()
    pair = authority.issue_cert("client.example")
    authority.cert_pem.write_to_path(str(tmp_path / "roots.pem"))
    pair.cert_chain_pems[0].write_to_path(str(tmp_path / "client.pem"))
    pair.private_key_pem.write_to_path(str(tmp_path / "client.key"))
    return tmp_path


def test_the_pages_have_their_programs() -> None:
    assert len(PROGRAMS) >= 14


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_of_a_page_runs(program: str, resnet20: FakeServer, folder: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", program.replace("localhost:8001", resnet20.url)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=folder)
    assert result.returncode == 0, result.stderr
