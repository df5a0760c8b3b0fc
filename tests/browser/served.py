"""A real `jachai serve` in a process of its own, and what to ask it without a browser."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

START_SECONDS = 90
EXAMINED_SECONDS = 120


def free_port() -> int:
    """A port that nothing listens to now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Served:
    """Start, kill, start again: the data folder stays."""

    def __init__(self, folder: Path, *options: str, port: int | None = None) -> None:
        self.folder, self.options, self.port = folder, options, port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.token = ""
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Until it says that it is ready."""
        command = [sys.executable, "-m", "jachai", "serve", "--port", str(self.port), "--data-dir", str(self.folder)]
        self._process = subprocess.Popen([*command, *self.options], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            line = self._process.stdout.readline()
            if line.startswith("    "):
                self.token = line.strip()
            if line.startswith("Jachai is ready"):
                self._listening(deadline)
                return
            assert self._process.poll() is None, "the server did not start"
        raise AssertionError("the server was not ready in time")

    def _listening(self, deadline: float) -> None:
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.05)
        raise AssertionError("nothing listens")

    def kill(self) -> None:
        """As a power cut does."""
        assert self._process is not None
        self._process.kill()
        self._ended()

    def stop(self) -> None:
        """As Ctrl-C does."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(15)
            self._process.kill()
        self._ended()

    def _ended(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        self._process.wait(15)
        self._process.stdout.close()

    def ask(self, path: str, method: str = "GET") -> Any:
        """The JSON of a route below /api/v1; None where there is no body."""
        request = urllib.request.Request(f"{self.url}/api/v1{path}", method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            body = answer.read()
        return json.loads(body) if body else None

    def examined(self, scan_id: str) -> dict[str, Any]:
        """The scan once it has ended."""
        deadline = time.monotonic() + EXAMINED_SECONDS
        while time.monotonic() < deadline:
            scan: dict[str, Any] = self.ask(f"/scans/{scan_id}")
            if scan["state"] not in ("queued", "running"):
                return scan
            time.sleep(0.2)
        raise AssertionError("not examined in time")
