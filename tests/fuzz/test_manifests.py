"""Damaged manifests and labels: the version is refused with a reason, and nothing else happens."""

import hashlib
import os
import random
import shutil
from pathlib import Path

from fuzzing import damaged
from resnet_server.models.repository import Trust, read_version

INPUTS = int(os.environ.get("RESNET_FUZZ_INPUTS", "600")) // 4


def test_a_damaged_version_is_read_or_refused(repository: Path, tmp_path: Path) -> None:
    version = Path(shutil.copytree(repository / "resnet20" / "1", tmp_path / "resnet20" / "1"))
    chance, refused = random.Random(1), 0
    for _ in range(INPUTS):
        name = chance.choice(["manifest.json", "labels.txt", "manifest.sha256"])
        original = (version / name).read_bytes()
        (version / name).write_bytes(damaged(original, chance))
        if name == "manifest.json":  # somebody who wants to get past the digest
            digest = hashlib.sha256((version / name).read_bytes()).hexdigest()
            (version / "manifest.sha256").write_text(f"{digest}  manifest.json\n")
        published = read_version(version, Trust())
        assert bool(published.refusal) != bool(published.candidates)
        refused += bool(published.refusal)
        shutil.copytree(repository / "resnet20" / "1", version, dirs_exist_ok=True)
    assert refused > INPUTS // 2
