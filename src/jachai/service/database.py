"""A file path → one SQLite connection that survives kill -9: WAL, synchronous=FULL, one writer, one process.

The connection is exclusive (`locking_mode=EXCLUSIVE`): a second server on the same folder is refused, the lock goes away
with the process however it ends, and the SQLite bug that needs two writing connections to a WAL file (fixed in 3.51.3)
cannot occur.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jachai.core.errors import UsageError

VERSION = 1
_TABLES = """
CREATE TABLE scans (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  content TEXT NOT NULL UNIQUE,
  label TEXT NOT NULL,
  created REAL NOT NULL,
  finished REAL,
  state TEXT NOT NULL,
  stage TEXT NOT NULL,
  fraction REAL NOT NULL,
  files INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  modality TEXT,
  sample TEXT,
  received_by TEXT NOT NULL,
  attempt INTEGER NOT NULL DEFAULT 0,
  owner TEXT,
  heartbeat REAL,
  lease_until REAL,
  error_code TEXT,
  error_detail TEXT,
  results TEXT NOT NULL DEFAULT '[]',
  refused TEXT NOT NULL DEFAULT '{}'
);
CREATE INDEX scans_by_state ON scans (state, seq);
CREATE TABLE secrets (name TEXT PRIMARY KEY, hash TEXT NOT NULL);
CREATE TABLE sessions (hash TEXT PRIMARY KEY, who TEXT NOT NULL, expires REAL NOT NULL);
"""


class Database:
    """The connection, its lock and its transactions. Times are seconds since 1970."""

    def __init__(self, path: Path) -> None:
        """Raises UsageError if another process has it, or if it was written by a later version."""
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(path, timeout=1.0, isolation_level=None, check_same_thread=False)
        self._connection.row_factory = sqlite3.Row
        try:
            for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=FULL", "secure_delete=ON"):
                self._connection.execute(f"PRAGMA {pragma}").fetchall()
            self._prepare()
        except sqlite3.OperationalError as error:
            self._connection.close()
            raise UsageError(
                f"The folder {str(path.parent)!r} is in use, or cannot be written.",
                "End the other `jachai serve`, or give another --data-dir.",
            ) from error
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise UsageError(
                f"The file {path.name!r} in {str(path.parent)!r} is no database of Jachai.", "Give another --data-dir."
            ) from error

    def _prepare(self) -> None:
        with self.transaction() as connection:
            version = int(connection.execute("PRAGMA user_version").fetchone()[0])
            if version > VERSION:
                raise UsageError("The data folder was written by a later version of Jachai.", "Update Jachai.")
            if version == 0:
                for statement in _TABLES.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version={VERSION}")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, on the disk when it ends; one thread at a time."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def rows(self, question: str, *values: object) -> list[sqlite3.Row]:
        """The answer to a SELECT."""
        with self._lock:
            return self._connection.execute(question, values).fetchall()

    def close(self) -> None:
        """Also folds the write-ahead log back into the file."""
        with self._lock:
            self._connection.close()
