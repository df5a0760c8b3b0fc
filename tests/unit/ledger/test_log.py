"""The log: whole or not at all, one writer, signed; keys and locks that fail say what to do."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from jachai.core.errors import Damaged, UsageError
from jachai.ledger import checkpoint, merkle
from jachai.ledger.group import GroupCommit
from jachai.ledger.keys import identity_from_text, read_identity
from jachai.ledger.log import Log, NewEntry, opened, writing
from tests.unit.io.dicom_samples import Series, slice_of
from tests.unit.ledger.conftest import Record, entry_of, met


def note(text: str) -> NewEntry:
    return NewEntry("model", {"name": text})


def test_entries_are_numbered_and_hashed_and_the_root_is_that_of_the_leaves(log: Log) -> None:
    assert log.append([note(str(n)) for n in range(5)]) == [0, 1, 2, 3, 4]
    assert log.append([note("5")]) == [5]
    hashes = [merkle.leaf_hash(leaf) for _, leaf, _ in log.leaves()]
    assert [stored for _, _, stored in log.leaves()] == hashes
    left, right = (merkle.node_hash(hashes[n], hashes[n + 1]) for n in (0, 2))
    expected = merkle.node_hash(merkle.node_hash(left, right), merkle.node_hash(hashes[4], hashes[5]))
    assert log.head() == (6, expected)
    assert log.entry(3)["name"] == "3"
    with pytest.raises(UsageError, match="no entry 6"):
        log.entry(6)


def test_an_append_that_fails_leaves_nothing(log: Log, record: Record) -> None:
    record([slice_of(Series(), 0)])
    before = log.head()
    one = entry_of(met([slice_of(Series(), 1)], log.secret)[0], log.secret)
    with pytest.raises(TypeError):
        log.append([one, NewEntry("model", {"name": object()})])
    assert log.head() == before
    assert one.fingerprint is not None
    assert log.records.by_uid(one.fingerprint.uid) == []


def test_it_is_wal_and_full(log: Log) -> None:
    assert log._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert log._connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_second_writer_waits_and_is_told(log: Log) -> None:
    with pytest.raises(UsageError, match="Another process is writing"), writing(log.folder, wait_seconds=0.1):
        pass


def test_readers_see_what_was_committed_while_one_writes(log: Log) -> None:
    log.append([note("a")])
    code = "import sys; from pathlib import Path; from jachai.ledger.log import opened\nwith opened(Path(sys.argv[1])) as log: print(log.size)"
    done = subprocess.run([sys.executable, "-c", code, str(log.folder)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


def test_checkpoints_are_signed_and_altered_ones_are_not(log: Log) -> None:
    with pytest.raises(UsageError, match="empty"):
        log.sign()
    log.append([note("a")])
    text = log.sign()
    point = checkpoint.opened(text, log.identity)
    assert (point.size, point.root) == log.head()
    assert log.checkpoints() == [text]
    with pytest.raises(Damaged):
        checkpoint.opened(text.replace("\n1\n", "\n2\n"), log.identity)
    with pytest.raises(Damaged):
        checkpoint.opened(text, replace(log.identity, name="another"))
    assert identity_from_text(log.identity.to_text()) == log.identity
    with pytest.raises(UsageError):
        identity_from_text(log.identity.to_text().replace("+", "+0", 1))


def test_secrets_are_readable_by_their_owner_only(log: Log) -> None:
    modes = {name: (log.folder / name).stat().st_mode & 0o777 for name in ("secret.key", "signing.pem", "public.key")}
    assert modes == {"secret.key": 0o600, "signing.pem": 0o600, "public.key": 0o644}


def test_what_is_missing_or_foreign_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no ledger"), opened(tmp_path):
        pass
    folder = tmp_path / "ledger"
    with writing(folder) as log:
        log.append([note("a")])
    (folder / "secret.key").unlink()
    with pytest.raises(UsageError, match=r"secret\.key is missing"), opened(folder):
        pass
    (folder / "ledger.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(Damaged, match="damaged"), opened(folder):
        pass


def test_a_record_that_was_altered_is_never_compared_with(log: Log, record: Record) -> None:
    record([slice_of(Series(), 0)])
    uid = met([slice_of(Series(), 0)], log.secret)[0].fingerprint.uid
    assert len(log.records.by_uid(uid)) == 1
    for column, value in (("f2", b"\0" * 32), ("f0", b"\0" * 32), ("blocks", b"\0" * 64)):
        log._connection.execute("BEGIN")
        log._connection.execute(f"UPDATE instances SET {column} = ?", (value,))
        with pytest.raises(Damaged, match="entry 0"):
            log.records.by_uid(uid)
        log._connection.execute("ROLLBACK")


def test_no_patient_data_stands_in_the_ledger(log: Log, record: Record) -> None:
    data_set = slice_of(Series(), 0)
    record([data_set])
    log._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = b"".join(path.read_bytes() for path in log.folder.iterdir())
    for secret in (b"Secret", b"SECRET", data_set.SOPInstanceUID.encode(), data_set.StudyInstanceUID.encode()):
        assert secret not in content
    assert b"MONOCHROME2" in content


def test_many_threads_share_commits_and_each_gets_its_numbers(tmp_path: Path) -> None:
    group = GroupCommit(tmp_path / "ledger")
    with ThreadPoolExecutor(16) as pool:
        numbers = list(pool.map(lambda n: group.submit([note(f"{n}"), note(f"{n}b")]).result(), range(60)))
    failing = group.submit([NewEntry("model", {"name": object()})])
    with pytest.raises(TypeError):
        failing.result()
    assert group.submit([note("after")]).result() == [120]
    group.close()
    with opened(tmp_path / "ledger") as log:
        for n, (first, second) in enumerate(numbers):
            assert (log.entry(first)["name"], log.entry(second)["name"]) == (f"{n}", f"{n}b")
            assert second == first + 1


def test_a_group_that_cannot_write_says_so_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be used"):
        GroupCommit(tmp_path / "file")


def test_leaves_are_canonical_json(log: Log) -> None:
    log.append([NewEntry("model", {"b": 1, "a": "ä"})])
    [(_, leaf, _)] = log.leaves()
    says = json.loads(leaf)
    assert leaf == json.dumps(says, sort_keys=True, separators=(",", ":")).encode("ascii")
    assert (says["n"], says["kind"]) == (0, "model")


def test_a_reader_cannot_write(log: Log) -> None:
    log.append([note("a")])
    with opened(log.folder) as reader, pytest.raises(UsageError, match="readonly"):
        reader.append([note("b")])
    assert read_identity(log.folder) == log.identity
    assert isinstance(log._connection, sqlite3.Connection)
