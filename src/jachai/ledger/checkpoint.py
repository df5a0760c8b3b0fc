"""Size and root of a log → a signed checkpoint (C2SP tlog-checkpoint), and back with its signature checked."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jachai.core.errors import Damaged
from jachai.ledger.keys import Identity, cryptography_or_refuse

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SIGNED_BY = "— "


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What the log said of itself. time: UTC, ISO 8601, as the log's own clock had it."""

    origin: str
    size: int
    root: bytes
    time: str

    def body(self) -> str:
        """The text that is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\ntime {self.time}\n"


def signed(checkpoint: Checkpoint, identity: Identity, key: Ed25519PrivateKey) -> str:
    """The note: body, empty line, signature line."""
    body = checkpoint.body()
    signature = base64.b64encode(identity.key_id + key.sign(body.encode())).decode()
    return f"{body}\n{SIGNED_BY}{identity.name} {signature}\n"


def opened(note: str, identity: Identity) -> Checkpoint:
    """The checkpoint of a note. Raises Damaged if it is none or not signed by this identity, UsageError without the extra."""
    cryptography_or_refuse()
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    body, _, signatures = note.partition("\n\n")
    body += "\n"
    for line in signatures.splitlines():
        name, _, packed = line.removeprefix(SIGNED_BY).partition(" ")
        try:
            data = base64.b64decode(packed, validate=True)
            if name != identity.name or data[:4] != identity.key_id:
                continue
            Ed25519PublicKey.from_public_bytes(identity.public).verify(data[4:], body.encode())
            return _parsed(body, identity.name)
        except (InvalidSignature, ValueError):
            continue
    raise Damaged(
        "The checkpoint is not signed by this ledger's key, or was altered.", "Get it again from the witness."
    )


def _parsed(body: str, origin: str) -> Checkpoint:
    """Raises ValueError."""
    lines = body.splitlines()
    if len(lines) < 4 or lines[0] != origin or not lines[3].startswith("time ") or not lines[1].isdigit():
        raise ValueError("not a checkpoint")
    return Checkpoint(lines[0], int(lines[1]), base64.b64decode(lines[2], validate=True), lines[3][5:])
