"""A ledger's file, its public key and what outside witnesses kept → which entries were edited, removed, moved or cut off.

Independent of Jachai: it imports nothing of it, only Python 3.9 or later and the package `cryptography`. It never writes.
    python verify_ledger.py LEDGER.sqlite --key public.key [--witness FILE]... [--proof FILE]...
Exit status: 0 all holds, 1 something does not, 2 cannot say. Rules: RFC 6962, C2SP signed-note, docs/reference/ledger.md.
"""

import argparse
import base64
import json
import sqlite3
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

Key = tuple[str, bytes, Ed25519PublicKey]
Found = dict[str, range]  # what is wrong → the entries that are concerned


def node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right).digest()


def read_key(text: str) -> Key:
    """Verifier key of C2SP signed-note → (name, key id, key)."""
    name, key_id, packed = text.strip().split("+", 2)
    data = base64.b64decode(packed)
    if data[:1] != b"\1" or sha256(name.encode() + b"\n" + data).hexdigest()[:8] != key_id:
        raise ValueError("not the public key of a ledger")
    return name, bytes.fromhex(key_id), Ed25519PublicKey.from_public_bytes(data[1:])


def read_note(note: str, key: Key) -> tuple[int, bytes]:
    """Signed checkpoint → (size, root); size −1 if it is not signed by the key."""
    body, _, signatures = note.partition("\n\n")
    lines = body.splitlines()
    for line in signatures.splitlines():
        signer, _, packed = line.replace("— ", "", 1).partition(" ")
        data = base64.b64decode(packed) if signer == key[0] == lines[0] else b""
        try:
            key[2].verify(data[4:], body.encode() + b"\n")
            return int(lines[1]), base64.b64decode(lines[2])
        except InvalidSignature:
            continue
    return -1, b""


def read_witness(path: Path, key: Key) -> tuple[str, int, bytes, list[bytes]]:
    """A checkpoint, perhaps with the hash of every leaf behind it → (who, size, root, hashes)."""
    note, _, listed = path.read_text("utf-8").partition("\njachai-leaf-hashes\n")
    size, root = read_note(note, key)
    hashes = [bytes.fromhex(line) for line in listed.splitlines()]
    if listed and (len(hashes) != size or roots_at(hashes, {size})[size] != root):
        raise ValueError(f"{path}: its leaf hashes are not those that were signed")
    return str(path), size, root, hashes


def roots_at(hashes: list[bytes], sizes: set[int]) -> dict[int, bytes]:
    """Size → root of the first so many leaves."""
    peaks: list[tuple[int, bytes]] = []  # level and hash, the largest first
    found = {0: sha256().digest()}
    for n, digest in enumerate(hashes, 1):
        level = 0
        while peaks and peaks[-1][0] == level:
            digest, level = node(peaks.pop()[1], digest), level + 1
        peaks.append((level, digest))
        if n in sizes:
            for _, left in reversed(peaks[:-1]):
                digest = node(left, digest)
            found[n] = digest
    return found


def check_entries(rows: Any, found: Found) -> list[bytes]:
    """Every leaf says its own number and fits its stored hash. Returns the recomputed hashes by place."""
    hashes: list[bytes] = []
    for n, leaf, stored in rows:
        if n > len(hashes):
            found[f"entries {len(hashes)} to {n - 1}: removed"] = range(len(hashes), n)
        hashes += [b""] * (n - len(hashes)) + [sha256(b"\0" + leaf).digest()]
        try:
            says = json.loads(leaf)["n"]
        except (ValueError, KeyError, TypeError):
            says = "nothing"
        if says != n:
            found[f"entry {n}: moved or edited, what stands there calls itself {says}"] = range(n, n + 1)
        elif hashes[n] != stored:
            found[f"entry {n}: edited, its stored hash does not fit"] = range(n, n + 1)
    return hashes


def check_nodes(database: sqlite3.Connection, hashes: list[bytes], found: Found) -> None:
    """The stored inner nodes fit the leaves: a leaf that was edited together with its own hash shows here."""
    below = hashes
    for level in range(1, 64):
        below = [node(below[i], below[i + 1]) for i in range(0, len(below) - 1, 2)]
        stored = dict(database.execute("SELECT idx, hash FROM nodes WHERE level = ?", (level,)))
        for i in sorted(stored.keys() | set(range(len(below)))):
            start, end = i << level, (i + 1) << level
            holds = i < len(below) and stored.get(i) == below[i]
            if not holds and not any(named.start < end and start < named.stop for named in found.values()):
                found[f"entries {start} to {end - 1}: changed or cut off, a node differs"] = range(start, end)


def check_points(points: list[tuple[str, int, bytes]], hashes: list[bytes], found: Found) -> None:
    """points: (who kept it, size, root). Between which signed sizes does the log differ from what was signed?"""
    roots, good = roots_at(hashes, {size for _, size, _ in points}), 0
    for who, size, root in sorted(points, key=lambda point: point[1]):
        if size < 0:
            found[f"{who}: a checkpoint is not signed by this key, or was altered"] = range(0)
        elif size > len(hashes):
            found[f"entries {len(hashes)} to {size - 1}: cut off, {who} signed {size}"] = range(len(hashes), size)
        elif roots[size] == root:
            good = size
        elif not any(named.start < size and good < named.stop for named in found.values()):
            found[f"entries {good} to {size - 1}: changed, {who} signed another root"] = range(good, size)


def check_list(who: str, witnessed: list[bytes], hashes: list[bytes], found: Found) -> None:
    """A witness kept the hash of every leaf: name each entry that is not what it was where it was."""
    where = {digest: n for n, digest in enumerate(hashes)}
    for n, digest in enumerate(witnessed):
        if n >= len(hashes) or hashes[n] != digest:
            fate = f"moved to {where[digest]}" if digest in where else "edited or removed"
            found[f"entry {n}: {fate if digest in where or n < len(hashes) else 'cut off'} ({who})"] = range(n, n + 1)


def from_inclusion(n: int, size: int, leaf: bytes, path: list[bytes]) -> bytes:
    """The root that a proof of inclusion leads to (RFC 6962 2.1.1, read backwards)."""
    if size == 1:
        return leaf if not path else b""
    half = 1 << (size - 1).bit_length() - 1
    if n < half:
        return node(from_inclusion(n, half, leaf, path[:-1]), path[-1])
    return node(path[-1], from_inclusion(n - half, size - half, leaf, path[:-1]))


def from_consistency(old: int, size: int, whole: bool, path: list[bytes], old_root: bytes) -> tuple[bytes, bytes]:
    """The old and the new root that a proof of consistency leads to (RFC 6962 2.1.2, read backwards)."""
    if old == size:
        return (old_root, old_root) if whole else (path[-1], path[-1])
    half = 1 << (size - 1).bit_length() - 1
    if old <= half:
        first, second = from_consistency(old, half, whole, path[:-1], old_root)
        return first, node(second, path[-1])
    first, second = from_consistency(old - half, size - half, False, path[:-1], old_root)
    return node(path[-1], first), node(path[-1], second)


def proof_holds(proof: dict[str, Any], key: Key) -> bool:
    """`jachai ledger prove`: an entry is in the signed log, or one signed log is the beginning of another."""
    size, root = read_note(proof["checkpoint"], key)
    path = [bytes.fromhex(part) for part in proof["path"]]
    try:
        if "leaf" in proof:
            leaf, n = proof["leaf"].encode(), int(json.loads(proof["leaf"])["n"])
            return n == proof["n"] < size and from_inclusion(n, size, sha256(b"\0" + leaf).digest(), path) == root
        old, old_root = read_note(proof["old_checkpoint"], key)
        return 0 < old <= size and from_consistency(old, size, True, path, old_root) == (old_root, root)
    except IndexError:
        return False


def check(options: Any, found: Found) -> str:
    key, points = read_key(options.key.read_text()), []  # type: Key, list[tuple[str, int, bytes]]
    database = sqlite3.connect(f"{options.ledger.absolute().as_uri()}?mode=ro", uri=True)
    hashes = check_entries(database.execute("SELECT n, leaf, hash FROM entries ORDER BY n"), found)
    check_nodes(database, hashes, found)
    points += [("the ledger", *read_note(note, key)) for (note,) in database.execute("SELECT note FROM checkpoints")]
    for who, size, root, witnessed in [read_witness(path, key) for path in options.witness]:
        points.append((who, size, root))
        check_list(who, witnessed, hashes, found)
    check_points(points, hashes, found)
    bad = [path for path in options.proof if not proof_holds(json.loads(path.read_text()), key)]
    found.update({f"{path}: the proof does not hold": range(0) for path in bad})
    return f"{len(hashes)} entries, {len(points)} checkpoints"


def main() -> int:
    parser, found = argparse.ArgumentParser(), {}  # type: argparse.ArgumentParser, Found
    parser.add_argument("ledger", type=Path)
    parser.add_argument("--key", type=Path, required=True, help="public.key, from the witness and not from the ledger")
    for name in ("--witness", "--proof"):
        parser.add_argument(name, type=Path, action="append", default=[])
    try:
        looked_at = check(parser.parse_args(), found)
    except (OSError, ValueError, KeyError, sqlite3.Error) as error:
        sys.stderr.write("\n".join([*found, f"cannot verify: {error}\n"]))
        return 2
    sys.stdout.write("\n".join([*found, f"{looked_at}: {'NOT as they were' if found else 'everything holds'}\n"]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
