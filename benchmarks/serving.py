"""A folder → a running `jachai serve` on loopback, for the benchmarks of the server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import TracebackType

import httpx2

READY = "Jachai is ready: "


class Server:
    """A process of its own; `kill()` is kill -9, leaving the `with` block ends it either way."""

    def __init__(self, folder: Path, *options: str) -> None:
        command = [sys.executable, "-m", "jachai", "serve", "--data-dir", str(folder), "--port", "0", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.address = next((line[len(READY) :].strip() for line in self.process.stdout if line.startswith(READY)), "")
        if not self.address:
            raise RuntimeError("the server did not start")
        self.client = httpx2.Client(base_url=self.address + "api/v1", timeout=None)

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()
        self.process.terminate()
        self.process.wait()
