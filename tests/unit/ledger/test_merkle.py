"""The tree of RFC 6962: known roots, a plain recursion as oracle, proofs that hold and that fail when anything is changed."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jachai.ledger import merkle, verify_ledger

KNOWN_LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
KNOWN_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
"""Of the first 1 … 8 leaves: the test vectors of the Certificate Transparency project."""


class Stored:
    """A tree as the log stores it: complete subtrees only."""

    def __init__(self, n: int) -> None:
        self.leaves = [merkle.leaf_hash(b"%d" % number) for number in range(n)]
        self.nodes: dict[tuple[int, int], bytes] = {}
        for number, leaf in enumerate(self.leaves):
            for level, index, digest in merkle.completed_subtrees(number, leaf, self.subtree):
                self.nodes[level, index] = digest

    def subtree(self, level: int, index: int) -> bytes:
        return self.nodes[level, index]


def plain_root(leaves: list[bytes]) -> bytes:
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    half = 1
    while half * 2 < len(leaves):
        half *= 2
    return hashlib.sha256(b"\1" + plain_root(leaves[:half]) + plain_root(leaves[half:])).digest()


def test_the_known_roots() -> None:
    leaves = [merkle.leaf_hash(bytes.fromhex(leaf)) for leaf in KNOWN_LEAVES]
    tree = Stored(0)
    for n, leaf in enumerate(leaves):
        for level, index, digest in merkle.completed_subtrees(n, leaf, tree.subtree):
            tree.nodes[level, index] = digest
        assert merkle.root(n + 1, tree.subtree).hex() == KNOWN_ROOTS[n]
    assert merkle.root(0, tree.subtree) == merkle.EMPTY == plain_root([])


@given(st.integers(0, 70))
def test_the_root_is_that_of_the_plain_recursion(n: int) -> None:
    tree = Stored(n)
    assert merkle.root(n, tree.subtree) == plain_root(tree.leaves)
    assert verify_ledger.roots_at(tree.leaves, {n})[n] == plain_root(tree.leaves)


@given(st.integers(1, 70), st.data())
def test_inclusion(size: int, data: st.DataObject) -> None:
    tree, n = Stored(size), data.draw(st.integers(0, size - 1))
    proof, root = merkle.inclusion_proof(n, size, tree.subtree), plain_root(tree.leaves)
    assert merkle.inclusion_holds(n, size, tree.leaves[n], proof, root)
    assert verify_ledger.from_inclusion(n, size, tree.leaves[n], proof) == root
    assert not merkle.inclusion_holds(n, size, b"\7" * 32, proof, root)
    if size > 1:
        other = (n + data.draw(st.integers(1, size - 1))) % size
        assert not merkle.inclusion_holds(other, size, tree.leaves[n], proof, root)
        broken = [b"\7" * 32, *proof[1:]]
        assert not merkle.inclusion_holds(n, size, tree.leaves[n], broken, root)
        assert verify_ledger.from_inclusion(n, size, tree.leaves[n], broken) != root


@given(st.integers(1, 70), st.data())
def test_consistency(size: int, data: st.DataObject) -> None:
    tree, old = Stored(size), data.draw(st.integers(1, size))
    old_root, root = plain_root(tree.leaves[:old]), plain_root(tree.leaves)
    proof = merkle.consistency_proof(old, size, tree.subtree)
    assert merkle.consistency_holds(old, size, old_root, root, proof)
    assert verify_ledger.from_consistency(old, size, True, proof, old_root) == (old_root, root)
    assert not merkle.consistency_holds(old, size, b"\7" * 32, root, proof)
    assert verify_ledger.from_consistency(old, size, True, proof, b"\7" * 32) != (b"\7" * 32, root)
    if proof:
        assert not merkle.consistency_holds(old, size, old_root, root, [*proof[:-1], b"\7" * 32])
        assert not merkle.consistency_holds(old, size, old_root, root, proof[:-1])


@pytest.mark.parametrize("size", [0, -1])
def test_nothing_holds_of_a_tree_without_leaves(size: int) -> None:
    assert not merkle.inclusion_holds(0, size, b"", [], merkle.EMPTY)
    assert not merkle.consistency_holds(0, size, merkle.EMPTY, merkle.EMPTY, [])
