"""Networks that the benchmark publishes with random weights."""

from pathlib import Path

from resnet_bench.published import ensure_untrained, manifest_of


def test_random_weights_are_published_in_every_precision_asked_for_and_once(tmp_path: Path) -> None:
    ensure_untrained(tmp_path, "resnet8", ("fp32", "int8"))
    folder, manifest = manifest_of(tmp_path, "resnet8")
    assert [artifact.precision for artifact in manifest.artifacts] == ["fp32", "int8"]
    assert not manifest.network.trained
    ensure_untrained(tmp_path, "resnet8", ("int8",))
    assert [entry.name for entry in folder.parent.iterdir() if entry.is_dir()] == ["1"]
