"""Signatures over a version: whose they are, and that they cover every file."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from resnet_proto.signature import SignatureError, check_signature, check_signer, check_trusted, sign

pytest.importorskip("model_signing")
from signing import Keys, make_keys  # needs what model-signing brings


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def signed(keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("signed") / ".publishing-1"
    folder.mkdir()
    for name in ("manifest.json", "model.fp32.onnx"):
        (folder / name).write_text(name)
    sign(folder, str(keys.private))
    return folder.rename(folder.parent / "1")


def test_a_signature_holds_where_the_version_was_moved(signed: Path, keys: Keys) -> None:
    check_signature(signed, str(keys.public))


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (lambda folder: (folder / "model.fp32.onnx").write_text("other"), "is no signature of these files"),
        (lambda folder: (folder / "model.int8.onnx").write_text("more"), "is no signature of these files"),
        (lambda folder: (folder / "manifest.json").unlink(), "is no signature of these files"),
        (lambda folder: (folder / "model.sig").write_text("{}"), "is no signature of these files"),
        (lambda folder: (folder / "model.sig").unlink(), "model.sig: is missing; a signature by .* is required"),
    ],
)
def test_any_change_is_refused(change: Callable[[Path], object], finding: str, signed: Path, keys: Keys, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(signed, tmp_path / "1"))
    change(copy)
    with pytest.raises(SignatureError, match=finding):
        check_signature(copy, str(keys.public))


def test_somebody_elses_signature_is_refused(signed: Path, tmp_path: Path) -> None:
    with pytest.raises(SignatureError, match="is no signature of these files by"):
        check_signature(signed, str(make_keys(tmp_path).public))


def test_a_key_that_is_none_is_named_before_any_work(keys: Keys, tmp_path: Path) -> None:
    check_signer(str(keys.private))
    check_trusted(str(keys.public))
    with pytest.raises(SignatureError, match="is not a private key in PEM"):
        check_signer(str(keys.public))
    with pytest.raises(SignatureError, match="is not a public key in PEM"):
        check_trusted(str(keys.private))
    with pytest.raises(SignatureError, match=r"key: .*nowhere is not a file"):
        check_signer(str(tmp_path / "nowhere"))
    with pytest.raises(SignatureError, match="expected a public key's file, or sigstore:IDENTITY,ISSUER"):
        check_trusted("sigstore:somebody")
