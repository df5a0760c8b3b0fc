"""A ledger's folder → its secret (for keyed hashes) and its signing key; made once, readable by their owner only."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jachai.core.errors import UsageError
from jachai.ledger.digests import SECRET_BYTES

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SECRET, SIGNING, PUBLIC = "secret.key", "signing.pem", "public.key"
ED25519 = b"\x01"
"""The signature type of C2SP signed-note: Ed25519."""
INSTALL = "Run: pip install 'jachai[ledger]'"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who signs. name: of the log, without blanks or plus signs. public: 32 bytes of an Ed25519 key."""

    name: str
    public: bytes

    @property
    def key_id(self) -> bytes:
        """Four bytes: the beginning of SHA-256 of name, newline, type and key (C2SP signed-note)."""
        return hashlib.sha256(self.name.encode() + b"\n" + ED25519 + self.public).digest()[:4]

    def to_text(self) -> str:
        """The verifier key as C2SP signed-note writes it: name+key id+type and key."""
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(ED25519 + self.public).decode()}"


def identity_from_text(text: str) -> Identity:
    """Raises UsageError if it is no verifier key."""
    try:
        name, key_id, packed = text.strip().split("+", 2)
        kind_and_key = base64.b64decode(packed, validate=True)
        identity = Identity(name, kind_and_key[1:])
        if kind_and_key[:1] != ED25519 or len(identity.public) != 32 or identity.key_id.hex() != key_id:
            raise ValueError
    except ValueError:
        raise UsageError("It is not a public key of a ledger.", f"Give the file {PUBLIC} of the ledger.") from None
    return identity


def make_keys(folder: Path) -> Identity:
    """Write a new secret, signing key and public key into the folder. Raises UsageError without the extra `ledger`."""
    cryptography_or_refuse()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    key = Ed25519PrivateKey.generate()
    identity = Identity(
        f"jachai-ledger-{secrets.token_hex(4)}", key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    )
    _write(folder / SECRET, secrets.token_hex(SECRET_BYTES).encode() + b"\n", 0o600)
    _write(folder / SIGNING, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    _write(folder / PUBLIC, identity.to_text().encode() + b"\n", 0o644)
    return identity


def cryptography_or_refuse() -> None:
    """Raises UsageError where the extra `ledger` is not installed."""
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise UsageError("The ledger needs the package 'cryptography' for its signatures.", INSTALL) from None


def _write(path: Path, data: bytes, mode: int) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:  # noqa: PTH123 mode from the start
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def read_secret(folder: Path) -> bytes:
    """Raises UsageError if it is missing or no secret."""
    try:
        secret = bytes.fromhex((folder / SECRET).read_text("ascii").strip())
    except (OSError, ValueError):
        secret = b""
    if len(secret) != SECRET_BYTES:
        raise UsageError(
            f"The ledger's {SECRET} is missing, unreadable or damaged.",
            "Restore it from a backup: nothing is compared without it.",
        )
    return secret


def read_identity(folder: Path) -> Identity:
    """Raises UsageError."""
    try:
        return identity_from_text((folder / PUBLIC).read_text("utf-8"))
    except OSError:
        raise UsageError(f"The ledger's {PUBLIC} is missing or unreadable.", "Restore it from a backup.") from None


def signing_key(folder: Path) -> Ed25519PrivateKey:
    """Raises UsageError if it is missing, or not the one of the public key."""
    cryptography_or_refuse()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    try:
        key = load_pem_private_key((folder / SIGNING).read_bytes(), None)
    except (OSError, ValueError):
        raise UsageError(f"The ledger's {SIGNING} is missing, unreadable or damaged.", "Restore it.") from None
    if not isinstance(key, Ed25519PrivateKey) or (
        key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw) != read_identity(folder).public
    ):
        raise UsageError(f"The ledger's {SIGNING} is not the key that {PUBLIC} belongs to.", "Restore both.")
    return key
