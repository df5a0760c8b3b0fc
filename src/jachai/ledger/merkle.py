"""Leaf hashes → tree root, inclusion and consistency proofs of RFC 6962 (section 2.1), and their verification (RFC 9162)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

Subtree = Callable[[int, int], bytes]
"""subtree(level, index) → hash over leaves [index · 2^level, (index + 1) · 2^level), all of which exist."""
EMPTY = hashlib.sha256().digest()
"""The root of a tree without leaves."""


def leaf_hash(leaf: bytes) -> bytes:
    """SHA-256 of 0x00 and the leaf."""
    return hashlib.sha256(b"\0" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256 of 0x01 and both children."""
    return hashlib.sha256(b"\1" + left + right).digest()


def completed_subtrees(n: int, leaf: bytes, subtree: Subtree) -> list[tuple[int, int, bytes]]:
    """(level, index, hash) of every subtree that is complete once leaf number n, of hash `leaf`, is there; itself first."""
    done = [(0, n, leaf)]
    level, index, digest = 0, n, leaf
    while index % 2:
        digest = node_hash(subtree(level, index - 1), digest)
        level, index = level + 1, index // 2
        done.append((level, index, digest))
    return done


def root(size: int, subtree: Subtree) -> bytes:
    """Of the first `size` leaves."""
    return _hash(0, size, subtree) if size else EMPTY


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << (size - 1).bit_length() - 1


def _hash(start: int, end: int, subtree: Subtree) -> bytes:
    size = end - start
    level = size.bit_length() - 1
    if size == 1 << level and start % size == 0:
        return subtree(level, start >> level)
    middle = start + _split(size)
    return node_hash(_hash(start, middle, subtree), _hash(middle, end, subtree))


def inclusion_proof(n: int, size: int, subtree: Subtree) -> list[bytes]:
    """PATH(n, D[size]): that leaf n is in the tree of `size` leaves. 0 ≤ n < size."""
    return _path(n, 0, size, subtree)


def _path(n: int, start: int, end: int, subtree: Subtree) -> list[bytes]:
    if end - start == 1:
        return []
    middle = start + _split(end - start)
    if n < middle:
        return [*_path(n, start, middle, subtree), _hash(middle, end, subtree)]
    return [*_path(n, middle, end, subtree), _hash(start, middle, subtree)]


def consistency_proof(old: int, size: int, subtree: Subtree) -> list[bytes]:
    """PROOF(old, D[size]): that the tree of `old` leaves is the beginning of that of `size`. 0 < old ≤ size."""
    return [] if old == size else _subproof(old, 0, size, True, subtree)


def _subproof(old: int, start: int, end: int, whole: bool, subtree: Subtree) -> list[bytes]:
    if old == end:
        return [] if whole else [_hash(start, end, subtree)]
    middle = start + _split(end - start)
    if old <= middle:
        return [*_subproof(old, start, middle, whole, subtree), _hash(middle, end, subtree)]
    return [*_subproof(old, middle, end, False, subtree), _hash(start, middle, subtree)]


def inclusion_holds(n: int, size: int, leaf: bytes, proof: Sequence[bytes], tree_root: bytes) -> bool:
    """RFC 9162 section 2.1.3.2. leaf: the leaf's hash."""
    if not 0 <= n < size:
        return False
    number, last, digest = n, size - 1, leaf
    for part in proof:
        if last == 0:
            return False
        if number % 2 or number == last:
            digest = node_hash(part, digest)
            while number % 2 == 0 and number:
                number, last = number >> 1, last >> 1
        else:
            digest = node_hash(digest, part)
        number, last = number >> 1, last >> 1
    return last == 0 and digest == tree_root


def consistency_holds(old: int, size: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """RFC 9162 section 2.1.4.2."""
    if not 0 < old <= size:
        return False
    if old == size:
        return not proof and old_root == new_root
    parts = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    number, last = old - 1, size - 1
    while number % 2:
        number, last = number >> 1, last >> 1
    if not parts:
        return False
    first = second = parts[0]
    for part in parts[1:]:
        if last == 0:
            return False
        if number % 2 or number == last:
            first, second = node_hash(part, first), node_hash(part, second)
            while number % 2 == 0 and number:
                number, last = number >> 1, last >> 1
        else:
            second = node_hash(second, part)
        number, last = number >> 1, last >> 1
    return last == 0 and first == old_root and second == new_root
