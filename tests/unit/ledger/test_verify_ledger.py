"""The independent verifier, run as a stranger would, against a log that was edited, shortened, reordered or swapped."""

from __future__ import annotations

import ast
import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jachai.ledger import merkle, verify_ledger
from jachai.ledger.log import NewEntry, opened, writing
from jachai.service.ledger_keeping import audit, prove, sign

SCRIPT = Path(verify_ledger.__file__)
N = 40
Change = Callable[[sqlite3.Connection], object]


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty entries; a witness has seen the first thirty, with every leaf hash, and the note alone of twenty."""
    folder = tmp_path_factory.mktemp("verify")
    for size in (20, 30, N):
        with writing(folder / "ledger") as log:
            log.append([NewEntry("model", {"name": f"m{n}"}) for n in range(log.size, size)])
        note = sign(folder / "ledger", folder / f"witness-{size}.txt")
        (folder / f"note-{size}.txt").write_text(note, encoding="utf-8")
    return folder


def run(folder: Path, ledger: Path, *more: str | Path) -> tuple[int, str]:
    """Isolated (-I): neither this package nor its folder can be imported."""
    command = [
        sys.executable,
        "-I",
        str(SCRIPT),
        str(ledger / "ledger.sqlite"),
        "--key",
        str(folder / "ledger/public.key"),
    ]
    done = subprocess.run([*command, *map(str, more)], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def altered(folder: Path, tmp_path: Path, change: Change) -> Path:
    copy = tmp_path / "copy"
    shutil.copytree(folder / "ledger", copy)
    with sqlite3.connect(copy / "ledger.sqlite") as connection:
        change(connection)
    connection.close()
    return copy


def edit(connection: sqlite3.Connection, n: int, *, rehash: bool) -> None:
    leaf = bytes(connection.execute("SELECT leaf FROM entries WHERE n = ?", (n,)).fetchone()[0])
    says = {**json.loads(leaf), "name": "forged"}
    new = json.dumps(says, sort_keys=True, separators=(",", ":")).encode()
    connection.execute("UPDATE entries SET leaf = ? WHERE n = ?", (new, n))
    if rehash:
        connection.execute("UPDATE entries SET hash = ? WHERE n = ?", (merkle.leaf_hash(new), n))


def rebuild(connection: sqlite3.Connection) -> None:
    """What a root attacker does: every hash and node anew; the signing key he would need too is left out here."""
    rows = connection.execute("SELECT leaf FROM entries ORDER BY n").fetchall()
    connection.execute("DELETE FROM nodes")
    nodes: dict[tuple[int, int], bytes] = {}
    for n, (leaf,) in enumerate(rows):
        done = merkle.completed_subtrees(n, merkle.leaf_hash(leaf), lambda level, index: nodes[level, index])
        nodes.update({(level, index): digest for level, index, digest in done})
        connection.execute("UPDATE entries SET hash = ? WHERE n = ?", (done[0][2], n))
        connection.executemany("INSERT INTO nodes VALUES (?, ?, ?)", done[1:])


def swap(connection: sqlite3.Connection, a: int, b: int) -> None:
    for old, new in ((a, -1), (b, a), (-1, b)):
        connection.execute("UPDATE entries SET n = ? WHERE n = ?", (new, old))


def cut(connection: sqlite3.Connection, size: int) -> None:
    """Shortened with care: entries, nodes and checkpoints beyond `size`."""
    connection.execute("DELETE FROM entries WHERE n >= ?", (size,))
    connection.execute("DELETE FROM nodes WHERE (idx + 1) << level > ?", (size,))
    connection.execute("DELETE FROM checkpoints WHERE size > ?", (size,))


def edit_and_rebuild(connection: sqlite3.Connection) -> None:
    edit(connection, 17, rehash=True)
    rebuild(connection)


def remove_and_renumber(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM entries WHERE n = 17")
    for n in range(18, N):
        connection.execute("UPDATE entries SET n = ? WHERE n = ?", (n - 1, n))


def test_a_log_as_it_was_holds(ledger: Path) -> None:
    witnesses = [ledger / "witness-20.txt", ledger / "witness-30.txt", ledger / "note-20.txt"]
    status, text = run(ledger, ledger / "ledger", *(part for path in witnesses for part in ("--witness", path)))
    assert (status, text) == (0, "40 entries, 6 checkpoints: everything holds\n")


WITHOUT_WITNESS: dict[str, tuple[Change, str]] = {
    "edited": (lambda c: edit(c, 17, rehash=False), "entry 17: edited"),
    "edited with its hash": (lambda c: edit(c, 17, rehash=True), "entries 16 to 17: changed"),
    "edited and rebuilt": (edit_and_rebuild, "entries 0 to 19: changed, the ledger signed another root"),
    "removed": (lambda c: c.execute("DELETE FROM entries WHERE n = 17"), "entries 17 to 17: removed"),
    "removed and renumbered": (remove_and_renumber, "entry 17: moved or edited, what stands there calls itself 18"),
    "swapped": (lambda c: swap(c, 5, 9), "entry 5: moved or edited, what stands there calls itself 9"),
    "shortened": (lambda c: c.execute("DELETE FROM entries WHERE n >= 33"), "entries 33 to 39: cut off"),
    "checkpoint forged": (
        lambda c: c.execute("UPDATE checkpoints SET note = replace(note, '20', '21') WHERE size = 20"),
        "a checkpoint is not signed by this key",
    ),
}


@pytest.mark.parametrize("name", WITHOUT_WITNESS)
def test_it_is_named_without_any_witness(name: str, ledger: Path, tmp_path: Path) -> None:
    change, words = WITHOUT_WITNESS[name]
    status, text = run(ledger, altered(ledger, tmp_path, change))
    assert status == 1
    assert words in text
    assert "NOT as they were" in text


def test_a_careful_cut_is_seen_by_a_witness_only(ledger: Path, tmp_path: Path) -> None:
    copy = altered(ledger, tmp_path, lambda c: cut(c, 20))
    assert run(ledger, copy)[0] == 0
    status, text = run(ledger, copy, "--witness", ledger / "note-30.txt")
    assert status == 1
    assert "entries 20 to 29: cut off" in text


@pytest.mark.parametrize(("change", "entries"), [(edit_and_rebuild, {17}), (lambda c: swap(c, 5, 9), {5, 9})])
def test_a_witness_with_leaf_hashes_names_exactly_what_was_changed(
    change: Change, entries: set[int], ledger: Path, tmp_path: Path
) -> None:
    def with_new_roots(connection: sqlite3.Connection) -> None:
        change(connection)
        rebuild(connection)

    status, text = run(ledger, altered(ledger, tmp_path, with_new_roots), "--witness", ledger / "witness-30.txt")
    named = {int(line.split()[1].rstrip(":")) for line in text.splitlines() if line.startswith("entry ")}
    assert (status, named) == (1, entries)


def test_another_whole_ledger_in_its_place_is_seen(ledger: Path, tmp_path: Path) -> None:
    with writing(tmp_path / "other") as log:
        log.append([NewEntry("model", {"name": "x"})], checkpoint=True)
    assert run(ledger, tmp_path / "other")[0] == 1
    assert run(ledger, tmp_path / "other", "--witness", ledger / "note-20.txt")[0] == 1


def test_proofs_are_checked_without_the_ledger_that_made_them(ledger: Path, tmp_path: Path) -> None:
    inclusion, consistency = tmp_path / "inclusion.json", tmp_path / "consistency.json"
    inclusion.write_text(prove(ledger / "ledger", 17, None))
    consistency.write_text(prove(ledger / "ledger", None, ledger / "witness-20.txt"))
    assert run(ledger, ledger / "ledger", "--proof", inclusion, "--proof", consistency)[0] == 0
    for path in (inclusion, consistency):
        proof = json.loads(path.read_text())
        proof["path"][0] = "00" * 32
        path.write_text(json.dumps(proof))
        status, text = run(ledger, ledger / "ledger", "--proof", path)
        assert (status, "the proof does not hold" in text or "it does not hold" in text) == (1, True)


def test_the_audit_command_says_the_same(ledger: Path, tmp_path: Path) -> None:
    assert audit(ledger / "ledger", None, [ledger / "witness-30.txt"]).wrong == ()
    copy = altered(ledger, tmp_path, edit_and_rebuild)
    assert any("entry 17" in line for line in audit(copy, None, [ledger / "witness-30.txt"]).wrong)


def test_a_file_that_cannot_be_used_is_neither_right_nor_wrong(ledger: Path, tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(b"nothing" * 1000)
    assert run(ledger, tmp_path)[0] == 2
    assert run(ledger, ledger / "ledger", "--witness", tmp_path / "absent")[0] == 2
    forged = tmp_path / "witness.txt"
    forged.write_text((ledger / "witness-30.txt").read_text("utf-8").replace("\n30\n", "\n31\n", 1), encoding="utf-8")
    assert run(ledger, ledger / "ledger", "--witness", forged)[0] == 2


def test_it_is_short_and_imports_nothing_of_ours() -> None:
    source = SCRIPT.read_text(encoding="utf-8")
    assert len(source.splitlines()) < 200
    tree = ast.parse(source, feature_version=(3, 9))
    imported = {
        alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    imported |= {(node.module or "").split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported - set(sys.stdlib_module_names) == {"cryptography"}


def test_it_never_writes(ledger: Path) -> None:
    with opened(ledger / "ledger") as log:
        before = log.head()
    run(ledger, ledger / "ledger")
    with opened(ledger / "ledger") as log:
        assert log.head() == before
