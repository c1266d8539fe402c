"""A pair of keys for tests."""

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec


@dataclass(frozen=True)
class Keys:
    """Files in PEM."""

    private: Path
    public: Path


def make_keys(folder: Path) -> Keys:
    """Write a fresh pair on the curve P-256."""
    key = ec.generate_private_key(ec.SECP256R1())
    keys = Keys(folder / "private.pem", folder / "public.pem")
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    keys.private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    keys.public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return keys
