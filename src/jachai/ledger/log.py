"""Entries → an append-only Merkle log in one SQLite file; each append is one durable transaction, all of it or nothing.

WAL with synchronous = FULL: when `append` returns, the entries survive a crash of program and machine. One process writes
at a time (`ledger.lock`); any number reads.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from jachai.core.errors import Damaged, UsageError
from jachai.ledger import merkle
from jachai.ledger.checkpoint import Checkpoint, signed
from jachai.ledger.fingerprint import Fingerprint
from jachai.ledger.keys import Identity, make_keys, read_identity, read_secret, signing_key
from jachai.ledger.lock import WAIT_SECONDS, held
from jachai.ledger.records import RECORDS_SCHEMA, Records

DATABASE, LOCK = "ledger.sqlite", "ledger.lock"
FORMAT = "jachai.ledger/1"
BUSY_SECONDS = 30.0
SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE entries (n INTEGER PRIMARY KEY, leaf BLOB NOT NULL, hash BLOB NOT NULL) STRICT;
CREATE TABLE nodes (level INTEGER NOT NULL, idx INTEGER NOT NULL, hash BLOB NOT NULL, PRIMARY KEY (level, idx)) STRICT, WITHOUT ROWID;
CREATE TABLE checkpoints (size INTEGER NOT NULL, note TEXT NOT NULL) STRICT;
"""
"""nodes: of levels 1 and up, complete subtrees only (RFC 6962 2.1); level 0 is entries.hash."""


@dataclass(frozen=True, slots=True)
class NewEntry:
    """What is to be logged. kind: 'instance', 'series', 'finding', 'model', 'decision' or 'conflict'. says: plain JSON
    values without patient data. fingerprint: kept beside the entry of an instance."""

    kind: str
    says: Mapping[str, Any]
    fingerprint: Fingerprint | None = None


def leaf_bytes(n: int, time: str, entry: NewEntry) -> bytes:
    """The leaf: one JSON object, keys sorted, ASCII, no blanks."""
    whole = {"n": n, "time": time, "kind": entry.kind, **entry.says}
    return json.dumps(whole, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def now() -> str:
    """UTC to the microsecond."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Log:
    """One open ledger. Use `opened` or `writing`; not shared between threads."""

    def __init__(self, connection: sqlite3.Connection, folder: Path) -> None:
        self._connection, self.folder = connection, folder
        self.identity: Identity = read_identity(folder)
        self.secret: bytes = read_secret(folder)
        self.records = Records(connection, self.secret)

    @property
    def size(self) -> int:
        """How many entries there are."""
        (last,) = self._connection.execute("SELECT max(n) FROM entries").fetchone()
        return 0 if last is None else int(last) + 1

    def subtree(self, level: int, index: int) -> bytes:
        """`merkle.Subtree` of what is stored. Raises Damaged if a part is missing."""
        if level == 0:
            row = self._connection.execute("SELECT hash FROM entries WHERE n = ?", (index,)).fetchone()
        else:
            row = self._connection.execute(
                "SELECT hash FROM nodes WHERE level = ? AND idx = ?", (level, index)
            ).fetchone()
        if row is None:
            raise Damaged("A part of the ledger is missing.", "Run `jachai ledger audit`.")
        return bytes(row[0])

    def head(self, size: int | None = None) -> tuple[int, bytes]:
        """Size and root, of the whole log or of its beginning."""
        size = self.size if size is None else size
        return size, merkle.root(size, self.subtree)

    def leaves(self, start: int = 0, end: int | None = None) -> Iterator[tuple[int, bytes, bytes]]:
        """(number, leaf, stored hash) in order."""
        last = 2**62 if end is None else end
        rows = self._connection.execute(
            "SELECT n, leaf, hash FROM entries WHERE n >= ? AND n < ? ORDER BY n", (start, last)
        )
        yield from ((n, bytes(leaf), bytes(digest)) for n, leaf, digest in rows)

    def entry(self, n: int) -> dict[str, Any]:
        """What entry n says. Raises UsageError if there is none."""
        for _, leaf, _ in self.leaves(n, n + 1):
            says: dict[str, Any] = json.loads(leaf)
            return says
        raise UsageError(f"There is no entry {n}: the ledger holds {self.size}.")

    def checkpoints(self) -> list[str]:
        """The signed notes, oldest first."""
        return [note for (note,) in self._connection.execute("SELECT note FROM checkpoints ORDER BY size, rowid")]

    def append(self, entries: Sequence[NewEntry], *, checkpoint: bool = False) -> list[int]:
        """Log all or nothing, in order; their numbers, once they are safe on the disk. checkpoint: sign the new head too."""
        with self._transaction():
            numbers = list(range(size := self.size, size + len(entries)))
            for n, entry in zip(numbers, entries, strict=True):
                self._insert(n, entry)
            if checkpoint:
                self._sign()
        return numbers

    def sign(self) -> str:
        """A signed checkpoint of the head, which is kept. Raises UsageError for an empty log."""
        with self._transaction():
            return self._sign()

    def _insert(self, n: int, entry: NewEntry) -> None:
        leaf = leaf_bytes(n, now(), entry)
        done = merkle.completed_subtrees(n, merkle.leaf_hash(leaf), self.subtree)
        self._connection.execute("INSERT INTO entries VALUES (?, ?, ?)", (n, leaf, done[0][2]))
        self._connection.executemany("INSERT INTO nodes VALUES (?, ?, ?)", done[1:])
        if entry.fingerprint is not None:
            self.records.insert(n, entry.fingerprint)

    def _sign(self) -> str:
        size, root = self.head()
        if not size:
            raise UsageError("The ledger is empty: there is nothing to sign.", "Record something first.")
        point = Checkpoint(self.identity.name, size, root, now())
        note = signed(point, self.identity, signing_key(self.folder))
        self._connection.execute("INSERT INTO checkpoints VALUES (?, ?)", (size, note))
        return note

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with _disk_errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def exists(folder: Path) -> bool:
    """Is there a ledger in the folder?"""
    return (folder / DATABASE).is_file()


@contextmanager
def opened(folder: Path) -> Iterator[Log]:
    """A ledger for reading. Raises UsageError if there is none, Damaged if it cannot be read."""
    if not exists(folder):
        raise UsageError(f"There is no ledger in {str(folder)!r}.", "Make one with `jachai ledger add`.")
    with _disk_errors(), closing(_connect(folder, "ro")) as connection:
        _check_format(connection)
        yield Log(connection, folder)


@contextmanager
def writing(folder: Path, *, create: bool = True, wait_seconds: float = WAIT_SECONDS) -> Iterator[Log]:
    """A ledger for writing, made if it is absent and may be. Raises UsageError if another process writes to it."""
    if not (create or exists(folder)):
        raise UsageError(f"There is no ledger in {str(folder)!r}.", "Make one with `jachai ledger add`.")
    with ExitStack() as stack:
        stack.enter_context(_disk_errors())
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        stack.enter_context(held(folder / LOCK, wait_seconds))
        if not exists(folder):
            _make(folder)
        connection = stack.enter_context(closing(_connect(folder, "rw")))
        connection.execute("PRAGMA synchronous = FULL")
        _check_format(connection)
        yield Log(connection, folder)


def _make(folder: Path) -> None:
    """Keys first, then the database under another name, so that a ledger that exists is whole."""
    identity = read_identity(folder) if (folder / "public.key").exists() else make_keys(folder)
    part = folder / f".part-{DATABASE}"
    part.unlink(missing_ok=True)
    with closing(sqlite3.connect(part, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(f"BEGIN; {SCHEMA} {RECORDS_SCHEMA} COMMIT;")
        connection.executemany(
            "INSERT INTO meta VALUES (?, ?)", [("format", FORMAT), ("origin", identity.name), ("made", now())]
        )
    part.rename(folder / DATABASE)


def _connect(folder: Path, mode: str) -> sqlite3.Connection:
    uri = f"{(folder / DATABASE).absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_SECONDS, check_same_thread=True)


def _check_format(connection: sqlite3.Connection) -> None:
    row = connection.execute("SELECT value FROM meta WHERE key = 'format'").fetchone()
    if row is None or row[0] != FORMAT:
        raise UsageError("The ledger is of another version.", "Use the version of Jachai that made it.")


@contextmanager
def _disk_errors() -> Iterator[None]:
    """What the disk or SQLite refuses becomes an error with a remedy."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise UsageError(
            f"The ledger cannot be used ({error}).", "Check its folder, its permissions and the disk."
        ) from error
    except sqlite3.DatabaseError as error:
        raise Damaged(f"The ledger's file is damaged ({error}).", "Restore it from a backup and audit it.") from error
    except OSError as error:
        raise UsageError(
            f"The ledger cannot be used: {error.strerror}.", "Check its folder and permissions."
        ) from error
