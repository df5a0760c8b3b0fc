"""A secret and bytes → the keyed hashes that stand in the ledger; the one place where they are made.

Every hash of an identifier or of content is keyed, so that a copy of the log tells nobody which patient or picture it
speaks of. H(label, data) = BLAKE2b-256 (RFC 7693) with the ledger's 32-byte secret as key, of label + 0x00 + data.
"""

from __future__ import annotations

import hashlib

SECRET_BYTES = 32
DIGEST_BYTES = 32
ATTRIBUTE_BYTES = 16
BLOCK_BYTES = 8


def keyed(secret: bytes, label: str, data: bytes, size: int = DIGEST_BYTES) -> bytes:
    """H(label, data), `size` bytes long."""
    return hashlib.blake2b(label.encode("ascii") + b"\0" + data, key=secret, digest_size=size).digest()


def uid_digest(secret: bytes, uid: str) -> bytes:
    """Of a UID, without the padding that files put behind it (PS3.5 9.1)."""
    return keyed(secret, "uid", uid.rstrip("\0 ").encode("utf-8", "replace"))
