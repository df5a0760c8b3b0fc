"""Tasks of a child that misbehaves when the name of a file tells it to: for the tests of the confinement only."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from jachai.io import tasks
from jachai.io.child import Desk, Request


def _misbehave(name: str, desk: Desk) -> dict[str, Any] | None:
    if name.startswith("segfault"):
        import ctypes

        ctypes.string_at(0)
    if name.startswith("exit"):
        os._exit(0)
    if name.startswith("hang"):
        time.sleep(600)
    if name.startswith("spin"):
        while True:
            pass
    if name.startswith("greedy"):
        hoard = bytearray(8 * 2**30)
        return {"dicom": len(hoard)}
    if name.startswith("garbage"):
        return {"dicom": {"frames": [{"position_mm": [1, 2]}]}}
    if name.startswith("nothing"):
        return {}
    if name.startswith("allocate"):
        desk.allocate((10**6, 10**6, 10**6))
    if name.startswith("negative"):
        desk.allocate((-1, 5, 5))
    if name.startswith("talk"):
        return {"error": "SystemExit", "reason": "\x1b[31mred\n" + "x" * 10_000}
    if name.startswith("write"):
        Path(name).write_bytes(b"x" * 100)
    return None


def inspect(request: Request, desk: Desk) -> dict[str, Any]:
    """Like the real one, but for some names."""
    answer = _misbehave(Path(request["path"]).name, desk)
    return tasks.inspect(request, desk) if answer is None else answer


def decode(request: Request, desk: Desk) -> dict[str, Any]:
    """Like the real one, but for some names."""
    name = Path(request["path"]).name.removeprefix("late-")
    if name != Path(request["path"]).name:
        _misbehave(name, desk)
    answer = tasks.decode(request, desk)
    if "-nan" in name and desk.attached is not None:
        desk.attached[request["targets"][0]["slot"], 0, 0] = float("nan")
    return answer


TASKS = {**tasks.TASKS, "inspect": inspect, "decode": decode}
