"""Signatures over a published version, by OpenSSF's model-signing: with a key, or keyless by an identity that Sigstore vouches for.

Digests find accidents; a signature finds whoever can rewrite the folder. It covers every file of the version. Needs the extra `signing`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from resnet_proto.manifest import ManifestError

SIGNATURE_FILE = "model.sig"
KEYLESS = "sigstore"


class SignatureError(ManifestError):
    """A version that is not signed as demanded, or a key that is none; the text says which."""


def check_signer(signer: str) -> None:
    """Raise SignatureError unless `signer`, a private key's file or `sigstore`, can sign: before minutes of work."""
    _library()
    if signer != KEYLESS:
        _signer(signer)


def sign(folder: Path, signer: str) -> None:
    """Write model.sig over all files of `folder`, with a private key (PEM, elliptic curve) or, for `sigstore`, by who is logged in."""
    config = _signer(signer)
    try:
        config.set_hashing_config(_library().hashing.Config().set_ignored_paths(paths=[], ignore_git_paths=False))
        config.sign(folder, folder / SIGNATURE_FILE)
    except Exception as error:  # the library raises types of its own and of its back-ends
        raise SignatureError(f"sign: {folder.name} cannot be signed: {_text(error)}") from None


def check_signature(folder: Path, trusted: str) -> None:
    """Raise SignatureError unless model.sig is `trusted`'s and covers every file as it is.

    `trusted` is the file of a public key (PEM), or `sigstore:IDENTITY,ISSUER`.
    """
    config = _verifier(folder, trusted)
    if not (folder / SIGNATURE_FILE).is_file():
        raise SignatureError(f"{SIGNATURE_FILE}: is missing; a signature by {trusted} is required")
    try:
        config.verify(folder, folder / SIGNATURE_FILE)
    except Exception as error:  # as above
        raise SignatureError(f"{SIGNATURE_FILE}: is no signature of these files by {trusted}: {_text(error)}") from None


def check_trusted(trusted: str) -> None:
    """Raise SignatureError unless `trusted` names somebody whose signature could be checked."""
    _verifier(Path(), trusted)


def _verifier(folder: Path, trusted: str) -> Any:
    library = _library()
    hashed = library.hashing.Config().set_ignored_paths(paths=[folder / SIGNATURE_FILE], ignore_git_paths=False)
    verifying = library.verifying.Config().set_hashing_config(hashed)
    if not trusted.startswith(f"{KEYLESS}:"):
        return _with_key(verifying.use_elliptic_key_verifier, trusted, "public_key")
    identity, _, issuer = trusted.removeprefix(f"{KEYLESS}:").partition(",")
    if not identity or not issuer:
        raise SignatureError(f"require-signature: '{trusted}'; expected a public key's file, or sigstore:IDENTITY,ISSUER")
    try:
        return verifying.use_sigstore_verifier(identity=identity, oidc_issuer=issuer)
    except Exception as error:  # as above: it fetches the keys of Sigstore
        raise SignatureError(f"require-signature: {trusted} cannot be checked: {_text(error)}") from None


def _signer(signer: str) -> Any:
    config = _library().signing.Config()
    if signer == KEYLESS:
        return config.use_sigstore_signer(use_ambient_credentials=True)
    return _with_key(config.use_elliptic_key_signer, signer, "private_key")


def _with_key(use: Callable[..., Any], path: str, kind: str) -> Any:
    if not Path(path).is_file():
        raise SignatureError(f"key: {path} is not a file")
    try:
        return use(**{kind: Path(path)})
    except Exception as error:  # as above
        raise SignatureError(f"key: {path} is not a {kind.replace('_', ' ')} in PEM: {_text(error)}") from None


def _library() -> Any:
    try:
        import model_signing
    except ImportError as error:
        raise SignatureError(f"signatures need model-signing ({error}): pip install 'resnet-serving[signing]'") from None
    return model_signing


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
