"""kill -9 at every write of a ledger → is anything lost that was acknowledged? And is every acknowledgement preceded by a sync?

    python benchmarks/ledger_kill.py [--entries 8] [--step 1]

Needs `strace`. The writer is run once for each of its writes (pwrite64, write, ftruncate, rename, fdatasync …) and killed by
the kernel at that very call; then the ledger is audited and searched for everything that was acknowledged. That the page
cache survives `kill -9` and not a power cut is met by the second check: in the trace of an undisturbed run every
acknowledgement must follow a completed fdatasync that follows the last write to the write-ahead log.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from jachai.core.errors import JachaiError
from jachai.ledger.log import exists, opened
from jachai.service.ledger_keeping import audit

CALLS = ("pwrite64", "write", "fdatasync", "fsync", "ftruncate", "rename", "unlink")
"""What changes files. `write` is also how the writer acknowledges."""
WRITER = """
import os, sys
from pathlib import Path
from jachai.ledger.group import GroupCommit
from jachai.ledger.log import NewEntry
group = GroupCommit(Path(sys.argv[1]))
for n in range(0, int(sys.argv[2]), 2):
    waiting = [(k, group.submit([NewEntry("model", {"name": f"m{k}"})])) for k in (n, n + 1)]
    for k, answer in waiting:
        os.write(1, f"ack {k} {answer.result()[0]}\\n".encode())
group.close()
"""
ACK = re.compile(r"^ack (\d+) (\d+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Killed:
    """One run. ended: it came to its end, there was no such call any more."""

    acknowledged: int
    lost: tuple[str, ...]
    ended: bool


def run_and_kill(folder: Path, entries: int, call: str, when: int) -> Killed:
    """Kill the writer at its `when`-th call; what was acknowledged and is not in the ledger, or why it does not hold."""
    inject = ["-e", f"inject={call}:signal=KILL:when={when}"]
    done = _strace([*inject, "-o", "/dev/null"], folder, entries)
    acknowledged = {int(n): int(k) for k, n in ACK.findall(done.stdout)}
    return Killed(len(acknowledged), tuple(_lost(folder, acknowledged)), done.returncode == 0)


def _strace(options: list[str], folder: Path, entries: int) -> subprocess.CompletedProcess[str]:
    command = ["strace", "-f", "-qq", "-e", f"trace={','.join(CALLS)}", *options]
    writer = [sys.executable, "-c", WRITER, str(folder), str(entries)]
    return subprocess.run([*command, *writer], capture_output=True, text=True)


def _lost(folder: Path, acknowledged: dict[int, int]) -> list[str]:
    if not exists(folder):
        return ["the whole ledger"] if acknowledged else []
    try:
        with opened(folder) as log:
            here = {n: log.entry(n).get("name") for n in range(log.size)}
        wrong = list(audit(folder).wrong)
    except JachaiError as error:
        return [str(error)]
    return [*wrong, *(f"entry {n}" for n, k in acknowledged.items() if here.get(n) != f"m{k}")]


def unsynced(folder: Path, entries: int) -> tuple[int, int]:
    """(acknowledgements, those that came before the log's last write was synced) in an undisturbed run."""
    trace = folder.with_suffix(".trace")
    done = _strace(["-y", "-o", str(trace)], folder, entries)
    assert done.returncode == 0, done.stderr
    dirty, early, acks = False, 0, 0
    for line in trace.read_text().splitlines():
        if "pwrite64(" in line and "ledger.sqlite-wal" in line:
            dirty = True
        elif "fdatasync" in line and line.rstrip().endswith("= 0"):
            dirty = False
        elif re.search(r'write\(1<[^>]*>, "ack ', line):
            acks, early = acks + 1, early + dirty
    return acks, early


def main() -> None:
    """Print one JSON object; exit status 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=8)
    parser.add_argument("--step", type=int, default=1, help="Kill at every n-th call only.")
    options = parser.parse_args()
    kills, acknowledged, lost = 0, 0, []
    with TemporaryDirectory() as place:
        for call in CALLS:
            for when in range(1, 10_000, options.step):
                folder = Path(place) / f"{call}-{when}" / "ledger"
                folder.parent.mkdir()
                killed = run_and_kill(folder, options.entries, call, when)
                if killed.ended:
                    break
                kills, acknowledged = kills + 1, acknowledged + killed.acknowledged
                lost += [f"{call} {when}: {what}" for what in killed.lost]
        acks, early = unsynced(Path(place) / "undisturbed", options.entries)
    figures = {
        "kills": kills,
        "acknowledged": acknowledged,
        "lost": lost,
        "acks_in_trace": acks,
        "acks_before_sync": early,
    }
    print(json.dumps(figures, indent=1))
    sys.exit(1 if lost or early or not acks else 0)


if __name__ == "__main__":
    main()
