"""A Firefox that is on this machine, driven by its own protocol (Marionette): start, go to a page, run a script."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

START_SECONDS = 60


class Firefox:
    """One headless Firefox with a new profile."""

    def __init__(self, program: str, profile: Path, port: int) -> None:
        profile.mkdir(parents=True, exist_ok=True)
        (profile / "user.js").write_text(f'user_pref("marionette.port", {port});\n', encoding="ascii")
        command = [program, "--marionette", "--headless", "--no-remote", "--profile", str(profile)]
        environment = {**os.environ, "MOZ_CRASHREPORTER_DISABLE": "1", "HOME": str(profile)}
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
        self._socket = self._connected(port)
        self._number = 0
        self._read()
        self.ask("WebDriver:NewSession", {})

    def _connected(self, port: int) -> socket.socket:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                return socket.create_connection(("127.0.0.1", port), timeout=START_SECONDS)
            except OSError:
                time.sleep(0.2)
        self._process.kill()
        self._process.wait()
        raise AssertionError("Firefox does not answer")

    def ask(self, command: str, parameters: dict[str, Any]) -> Any:
        """The result of a command. Raises AssertionError with Firefox's message."""
        self._number += 1
        text = json.dumps([0, self._number, command, parameters])
        self._socket.sendall(f"{len(text.encode())}:{text}".encode())
        _, _, error, result = self._read()
        assert error is None, error
        return result

    def _read(self) -> Any:
        length = b""
        while not length.endswith(b":"):
            length += self._socket.recv(1)
        wanted, data = int(length[:-1]), b""
        while len(data) < wanted:
            data += self._socket.recv(wanted - len(data))
        return json.loads(data)

    def script(self, text: str) -> Any:
        """What a script of the page returns."""
        return self.ask("WebDriver:ExecuteScript", {"script": text, "args": []})["value"]

    def stop(self) -> None:
        """End it."""
        self._socket.close()
        self._process.terminate()
        self._process.wait(20)
