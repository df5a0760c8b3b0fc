"""What people do with scans → one line of JSON each, without names of patients, files or their contents."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

FILE = "audit.jsonl"
SCHEMA = "jachai.audit/1"
AGAIN_SECONDS = 600.0
"""Looking at the same scan again within this time is one view."""


class Audit:
    """Appends to `audit.jsonl`. Events: upload, sample, view, report, heatmap, cancel, delete, login, login-refused, start."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, str], float] = {}

    def write(self, event: str, *, who: str, address: str = "", scan: str | None = None, **more: str | int) -> None:
        """One line, appended whole. more: plain values that are no names."""
        line = {
            "schema": SCHEMA,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "event": event,
            "who": who,
            "address": address,
            "scan": scan,
            **more,
        }
        with self._lock:
            handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(handle, (json.dumps(line) + "\n").encode("ascii"))
            finally:
                os.close(handle)

    def view(self, *, who: str, address: str, scan: str) -> None:
        """Somebody sees a result: written once in AGAIN_SECONDS."""
        now = time.monotonic()
        with self._lock:
            self._seen = {key: at for key, at in self._seen.items() if now - at < AGAIN_SECONDS}
            new = (who, scan) not in self._seen
            self._seen.setdefault((who, scan), now)
        if new:
            self.write("view", who=who, address=address, scan=scan)
