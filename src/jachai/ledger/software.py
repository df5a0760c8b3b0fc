"""Nothing in → the SHA-256 of this program's own source, so that the log says which software spoke."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import jachai


@cache
def software_digest() -> str:
    """SHA-256 over every .py file of the package by its path: path, 0x00, SHA-256 of the content (hex)."""
    root = Path(jachai.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
