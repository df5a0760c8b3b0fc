"""kill -9 at a write: nothing acknowledged is lost. Every write is tried by benchmarks/ledger_kill.py; here, a few."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


@pytest.fixture(scope="module")
def kill(benchmark_module: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark_module("ledger_kill")


@pytest.mark.parametrize(("call", "when"), [("pwrite64", 3), ("pwrite64", 60), ("fdatasync", 5), ("write", 2)])
def test_nothing_acknowledged_is_lost(call: str, when: int, kill: ModuleType, tmp_path: Path) -> None:
    killed = kill.run_and_kill(tmp_path / "ledger", 6, call, when)
    assert (killed.ended, killed.lost) == (False, ())


def test_every_acknowledgement_follows_a_sync_and_a_missing_sync_is_seen(
    kill: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kill.unsynced(tmp_path / "ledger", 4) == (4, 0)
    unsafe = "import sqlite3, jachai.ledger.log as log\nconnect = log._connect\n"
    unsafe += "class Lax(sqlite3.Connection):\n    def execute(self, sql, *more):\n"
    unsafe += "        return super().execute(sql.replace('= FULL', '= OFF'), *more)\n"
    unsafe += "log._connect = lambda folder, mode: sqlite3.connect(folder / log.DATABASE, isolation_level=None, factory=Lax)\n"
    monkeypatch.setattr(kill, "WRITER", unsafe + kill.WRITER)
    acks, early = kill.unsynced(tmp_path / "unsafe", 4)
    assert (acks, early > 0) == (4, True)
