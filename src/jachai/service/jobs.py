"""Scans that were handed in → each examined once, in order, whatever is killed in between: the queue of `jachai serve`.

    queued ──claim──▶ running ──finish──▶ done
      │  ▲              │  └──give up──▶ failed
      │  └──take back───┘
      └─────cancel──────┴──▶ cancelled

A running scan belongs to an owner (this start of the server) under a lease that every sign of life prolongs. After a kill
the next start takes back what its predecessor held: `Database` admits one process, so its predecessor is dead. What is
finished under an attempt that is no longer the current one is not taken.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from jachai.core.errors import JachaiError, UsageError
from jachai.service.database import Database

BEAT_SECONDS = 2.0
"""A sign of life is written to the disk at most so often; what people see is told from memory."""
LONGEST_PAGE = 200


class State(StrEnum):
    """Where a scan stands."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINISHED = frozenset({State.DONE, State.FAILED, State.CANCELLED})
AGAIN = frozenset({State.FAILED, State.CANCELLED})
"""The same content handed in once more is examined again from here."""


class QueueFull(JachaiError):
    """So many scans wait that no more are taken."""


@dataclass(frozen=True, slots=True)
class NewScan:
    """What is handed in. content: hash of everything that decides the result. label: the user's own name for it."""

    id: str
    content: str
    label: str
    files: int
    bytes: int
    modality: str | None = None
    sample: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A scan as it stands. fraction: 0…1 within the stage. position: 1 is next, None unless queued. attempt: how often
    it was begun. own: it was handed in under this start of the server."""

    seq: int
    id: str
    content: str
    label: str
    created: float
    state: State
    stage: str
    fraction: float
    position: int | None
    files: int
    bytes: int
    modality: str | None
    sample: str | None
    attempt: int
    own: bool
    error_code: str | None
    error_detail: str | None
    results: tuple[Mapping[str, Any], ...]
    refused: Mapping[str, str]


def new_id() -> str:
    """128 random bits: whoever does not know the name of a scan cannot guess it."""
    return secrets.token_hex(16)


class Jobs:
    """The queue in a `Database`. owner: a name of this start of the server. Every method is one transaction."""

    def __init__(
        self,
        database: Database,
        *,
        limit: int,
        lease_seconds: float,
        most_attempts: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database, self._limit, self._clock = database, limit, clock
        self._lease_seconds, self._most_attempts = lease_seconds, most_attempts
        self.owner = secrets.token_hex(8)
        self._live: dict[str, tuple[str, float]] = {}
        self._beaten: dict[str, float] = {}
        self.arrived = threading.Condition()
        """Notified when there may be something to claim."""

    @property
    def limit(self) -> int:
        """Most scans that wait or run at a time."""
        return self._limit

    def counts(self) -> dict[State, int]:
        """How many scans are in each state."""
        rows = self._database.rows("SELECT state, COUNT(*) AS n FROM scans GROUP BY state")
        return dict.fromkeys(State, 0) | {State(row["state"]): int(row["n"]) for row in rows}

    def check_room(self) -> None:
        """Raises QueueFull. To be asked before an upload is read; `add` asks again."""
        counts = self.counts()
        _check_room(counts[State.QUEUED] + counts[State.RUNNING], self._limit)

    def known(self, content: str) -> Job | None:
        """The scan of that content, unless it failed or was cancelled."""
        rows = self._database.rows("SELECT * FROM scans WHERE content = ?", content)
        return self._job(rows[0]) if rows and rows[0]["state"] not in AGAIN else None

    def add(self, new: NewScan) -> tuple[Job, bool]:
        """Queue it: (scan, True). The same content that is there already: (that scan, False). Raises QueueFull."""
        with self._database.transaction() as connection:
            same = connection.execute("SELECT * FROM scans WHERE content = ?", (new.content,)).fetchone()
            if same is not None and same["state"] not in AGAIN:
                return self._job(same), False
            busy = connection.execute("SELECT COUNT(*) FROM scans WHERE state IN ('queued', 'running')").fetchone()[0]
            _check_room(int(busy), self._limit)
            if same is not None:
                connection.execute("DELETE FROM scans WHERE id = ?", (same["id"],))
            connection.execute(
                "INSERT INTO scans (id, content, label, created, state, stage, fraction, files, bytes, modality, sample,"
                " received_by) VALUES (?, ?, ?, ?, 'queued', 'queued', 0, ?, ?, ?, ?, ?)",
                (
                    new.id, new.content, new.label, self._clock(), new.files, new.bytes, new.modality, new.sample,
                    self.owner,
                ),
            )  # fmt: skip
        with self.arrived:
            self.arrived.notify_all()
        return self.get(new.id), True

    def get(self, scan_id: str) -> Job:
        """Raises KeyError for a scan that is not there."""
        rows = self._database.rows("SELECT * FROM scans WHERE id = ?", scan_id)
        if not rows:
            raise KeyError(scan_id)
        return self._job(rows[0])

    def done_attempt(self, scan_id: str) -> int | None:
        """The attempt that a scan was done by, None while it is not done; quick. Raises KeyError for one not there."""
        rows = self._database.rows("SELECT state, attempt FROM scans WHERE id = ?", scan_id)
        if not rows:
            raise KeyError(scan_id)
        return int(rows[0]["attempt"]) if rows[0]["state"] == State.DONE else None

    def page(self, limit: int, before: int | None = None, search: str = "") -> list[Job]:
        """The latest first, at most `limit`; before: only scans handed in before that `seq`. search: part of the label."""
        pattern = "%" + "".join("\\" + c if c in "\\%_" else c for c in search) + "%"
        rows = self._database.rows(
            "SELECT * FROM scans WHERE seq < ? AND label LIKE ? ESCAPE '\\' ORDER BY seq DESC LIMIT ?",
            2**62 if before is None else before,
            pattern,
            min(max(limit, 1), LONGEST_PAGE),
        )
        return [self._job(row) for row in rows]

    def ids(self) -> set[str]:
        """Every scan there is."""
        return {row["id"] for row in self._database.rows("SELECT id FROM scans")}

    def claim(self) -> Job | None:
        """The scan that waits longest, now running under this owner's lease; None if none waits."""
        with self._database.transaction() as connection:
            row = connection.execute("SELECT * FROM scans WHERE state = 'queued' ORDER BY seq LIMIT 1").fetchone()
            if row is None:
                return None
            now = self._clock()
            connection.execute(
                "UPDATE scans SET state = 'running', stage = 'starting', fraction = 0, attempt = attempt + 1, owner = ?,"
                " heartbeat = ?, lease_until = ? WHERE id = ?",
                (self.owner, now, now + self._lease_seconds, row["id"]),
            )
        return self.get(row["id"])

    def beat(self, job: Job, stage: str, fraction: float) -> bool:
        """A sign of life and how far it is; False if the scan is no longer this attempt's (cancelled, taken back)."""
        self._live[job.id] = (stage, min(max(fraction, 0.0), 1.0))
        now = self._clock()
        if 0 <= now - self._beaten.get(job.id, -1e9) < BEAT_SECONDS:
            return True
        self._beaten[job.id] = now
        return self._change(
            job,
            "stage = ?, fraction = ?, heartbeat = ?, lease_until = ?",
            (stage, fraction, now, now + self._lease_seconds),
        )

    def finish(self, job: Job, results: Sequence[Mapping[str, Any]], refused: Mapping[str, str]) -> bool:
        """Done, once: False (and nothing changed) if the scan is no longer this attempt's."""
        return self._change(
            job,
            "state = 'done', stage = 'done', fraction = 1, finished = ?, results = ?, refused = ?, lease_until = NULL",
            (self._clock(), json.dumps(list(results), allow_nan=False), json.dumps(dict(refused))),
        )

    def fail(self, job: Job, code: str, detail: str) -> bool:
        """Given up, with the reason."""
        return self._change(
            job,
            "state = 'failed', stage = 'failed', finished = ?, error_code = ?, error_detail = ?, lease_until = NULL",
            (self._clock(), code, detail),
        )

    def take_back(self, job: Job, code: str, detail: str) -> State:
        """Its examiner ended: queued again where it stood, or failed after the last attempt."""
        if job.attempt >= self._most_attempts:
            self.fail(job, code, detail)
            return State.FAILED
        self._change(job, "state = 'queued', stage = 'queued', fraction = 0, owner = NULL, lease_until = NULL", ())
        return State.QUEUED

    def recover(self) -> list[Job]:
        """At the start: take back what a killed server left running. What it was; some may have failed for good."""
        rows = self._database.rows("SELECT * FROM scans WHERE state = 'running' AND owner IS NOT ?", self.owner)
        left = [self._job(row) for row in rows]
        for job in left:
            self.take_back(job, "examiner-ended", "The server ended each time while it examined this scan.")
        return left

    def overdue(self) -> list[Job]:
        """Scans whose lease has run out: no sign of life for so long."""
        rows = self._database.rows("SELECT * FROM scans WHERE state = 'running' AND lease_until < ?", self._clock())
        return [self._job(row) for row in rows]

    def cancel(self, scan_id: str) -> Job:
        """Cancelled, whether it waits or runs; the examiner of a running one learns it by its next `beat`.

        Raises KeyError for a scan that is not there, UsageError for one that has finished.
        """
        with self._database.transaction() as connection:
            changed = connection.execute(
                "UPDATE scans SET state = 'cancelled', stage = 'cancelled', finished = ?, lease_until = NULL"
                " WHERE id = ? AND state IN ('queued', 'running')",
                (self._clock(), scan_id),
            ).rowcount
        job = self.get(scan_id)
        if not changed:
            raise UsageError("This scan has finished: there is nothing to cancel.", "Delete it if it is not wanted.")
        self._forget(scan_id)
        return job

    def delete(self, scan_id: str) -> Job:
        """Forget it, in whatever state. Raises KeyError for a scan that is not there."""
        job = self.get(scan_id)
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM scans WHERE id = ?", (scan_id,))
        self._forget(scan_id)
        return job

    def is_current(self, job: Job) -> bool:
        """Does the scan still run under this attempt?"""
        rows = self._database.rows(
            "SELECT 1 FROM scans WHERE id = ? AND state = 'running' AND attempt = ?", job.id, job.attempt
        )
        return bool(rows)

    def _change(self, job: Job, assignments: str, values: Sequence[object]) -> bool:
        """Only if the scan still runs under this attempt."""
        with self._database.transaction() as connection:
            changed = connection.execute(
                f"UPDATE scans SET {assignments} WHERE id = ? AND state = 'running' AND attempt = ?",
                (*values, job.id, job.attempt),
            ).rowcount
        if not changed or "state" in assignments.split(" = ")[0]:
            self._forget(job.id)
        return bool(changed)

    def _forget(self, scan_id: str) -> None:
        self._live.pop(scan_id, None)
        self._beaten.pop(scan_id, None)

    def _job(self, row: sqlite3.Row) -> Job:
        state = State(row["state"])
        job = Job(
            seq=row["seq"], id=row["id"], content=row["content"], label=row["label"], created=row["created"],
            state=state, stage=row["stage"], fraction=row["fraction"],
            position=self._position(row["seq"]) if state is State.QUEUED else None,
            files=row["files"], bytes=row["bytes"], modality=row["modality"], sample=row["sample"],
            attempt=row["attempt"], own=row["received_by"] == self.owner,
            error_code=row["error_code"], error_detail=row["error_detail"],
            results=tuple(json.loads(row["results"])), refused=json.loads(row["refused"]),
        )  # fmt: skip
        live = self._live.get(job.id)
        return replace(job, stage=live[0], fraction=live[1]) if live and state is State.RUNNING else job

    def _position(self, seq: int) -> int:
        ahead = int(
            self._database.rows("SELECT COUNT(*) AS n FROM scans WHERE state = 'queued' AND seq <= ?", seq)[0]["n"]
        )
        return max(ahead, 1)  # it may just have been claimed


def _check_room(busy: int, limit: int) -> None:
    if busy >= limit:
        raise QueueFull(f"{busy} scans wait already.", "Try again when some of them are done.")
