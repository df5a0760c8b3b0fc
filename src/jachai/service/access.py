"""A token or a session cookie → who it is, or nobody: hashes in the database, nothing in the clear."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable

from jachai.service.database import Database

TOKEN = "token"
LOCAL = "local"
"""Whoever sits at the machine, where no token is needed."""


class Access:
    """The one token of a server and the sessions that it opened."""

    def __init__(self, database: Database, *, session_seconds: float, clock: Callable[[], float] = time.time) -> None:
        self._database, self._session_seconds, self._clock = database, session_seconds, clock

    def has_token(self) -> bool:
        """Was one made before?"""
        return bool(self._database.rows("SELECT 1 FROM secrets WHERE name = ?", TOKEN))

    def new_token(self) -> str:
        """A new token (256 random bits), to be shown once. The one before and its sessions are worth nothing from now on."""
        token = secrets.token_urlsafe(32)
        with self._database.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO secrets (name, hash) VALUES (?, ?)", (TOKEN, _hash(token)))
            connection.execute("DELETE FROM sessions")
        return token

    def by_token(self, token: str) -> str | None:
        """Who shows this token; None if it is wrong."""
        rows = self._database.rows("SELECT hash FROM secrets WHERE name = ?", TOKEN)
        right = bool(rows) and hmac.compare_digest(rows[0]["hash"], _hash(token))
        return f"token-{_hash(token)[:8]}" if right else None

    def open_session(self, who: str) -> str:
        """A new session for them: the value of the cookie."""
        session, now = secrets.token_urlsafe(32), self._clock()
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM sessions WHERE expires < ?", (now,))
            connection.execute(
                "INSERT INTO sessions (hash, who, expires) VALUES (?, ?, ?)",
                (_hash(session), who, now + self._session_seconds),
            )
        return session

    def by_session(self, session: str) -> str | None:
        """Who opened this session; None if nobody did, or too long ago."""
        rows = self._database.rows(
            "SELECT who FROM sessions WHERE hash = ? AND expires >= ?", _hash(session), self._clock()
        )
        return str(rows[0]["who"]) if rows else None

    def close_session(self, session: str) -> None:
        """Log out."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM sessions WHERE hash = ?", (_hash(session),))


def _hash(secret: str) -> str:
    """The secrets are 256 random bits: a plain hash cannot be searched."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


class RateLimit:
    """So many of something for each name within a time, refilled evenly (token bucket)."""

    def __init__(self, most: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._seconds, self._clock = most, seconds, clock
        self._levels: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def wait(self, name: str) -> float:
        """0: it may, and it was counted. Else the seconds until it may."""
        with self._lock:
            now = self._clock()
            self._drop_full(now)
            left = self._left(name, now)
            if left < 1:
                return (1 - left) * self._seconds / self._most
            self._levels[name] = (left - 1, now)
            return 0.0

    def _left(self, name: str, now: float) -> float:
        level, since = self._levels.get(name, (float(self._most), now))
        return min(float(self._most), level + (now - since) * self._most / self._seconds)

    def _drop_full(self, now: float) -> None:
        """Names that have not come for long are forgotten, so that a flood of names fills no memory."""
        if len(self._levels) > 10_000:
            self._levels = {n: v for n, v in self._levels.items() if self._left(n, now) < self._most}
