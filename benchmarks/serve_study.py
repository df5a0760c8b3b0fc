"""How long from dropping a whole study to its verdict, against the command line, and what ten of them leave in memory.

    python benchmarks/serve_study.py [--data ../shared/data] [--runs 3] [--studies 10]

The server and the command are measured in turn (A B A B …), whole: the command from start to exit, the server from the
first byte of the upload over loopback until the result can be fetched. Each upload differs by one more small file, or the
server would answer from what it knows. Memory: resident, of the server and of its examiner, after the first and the last.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2
import psutil
from serving import Server

MIB = 2**20


def upload(server: Server, files: list[tuple[str, bytes]], number: int) -> str:
    """The id of the scan; its content is made unique."""
    body = [("files", (name, data)) for name, data in files] + [("files", ("note.txt", f"run {number}".encode()))]
    answer = server.client.post("/scans", files=body)
    answer.raise_for_status()
    return str(answer.json()["id"])


def verdict(server: Server, scan_id: str) -> str:
    """Followed as the page does it: by events."""
    with httpx2.stream("GET", f"{server.address}api/v1/scans/{scan_id}/events", timeout=None) as events:
        for line in events.iter_lines():
            if line == "event: end":
                break
    scan = server.client.get(f"/scans/{scan_id}").json()
    return str(scan["verdicts"])


def cpu(server: Server) -> float:
    """Seconds that the server and its children have used."""
    process = psutil.Process(server.process.pid)
    return sum(sum(p.cpu_times()[:2]) for p in (process, *process.children(recursive=True)))


def memory(server: Server) -> list[float]:
    """MiB resident: server, examiner, and the examiner's reading child."""
    process = psutil.Process(server.process.pid)
    return [p.memory_info().rss / MIB for p in (process, *process.children(recursive=True))]


def main() -> None:
    here = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=here.parent / "shared" / "data")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--studies", type=int, default=10)
    options = parser.parse_args()
    study = options.data / "ct" / "lidc-0314"
    files = [(f"study/{path.name}", path.read_bytes()) for path in sorted(study.glob("*.dcm"))]
    command, served, said, resident = [], [], [], []
    command_cpu: list[float] = []
    served_cpu: list[float] = []
    with TemporaryDirectory() as folder, Server(Path(folder)) as server:
        resident.append(memory(server))
        for number in range(options.studies):
            if number < options.runs:
                started = time.perf_counter()
                scan = (sys.executable, "-m", "jachai", "scan", str(study), "--json", "-")
                done = subprocess.run(scan, capture_output=True, text=True)
                command.append(time.perf_counter() - started)
                used = psutil.Process().cpu_times()
                command_cpu.append(used.children_user + used.children_system - sum(command_cpu))
                said.append(str([json.loads(line)["verdict"] for line in done.stdout.splitlines()]))
            started, before = time.perf_counter(), cpu(server)
            scan_id = upload(server, files, number)
            received = time.perf_counter() - started
            said.append(verdict(server, scan_id))
            served.append(time.perf_counter() - started)
            served_cpu.append(cpu(server) - before)
            resident.append(memory(server))
            print(
                f"study {number + 1}: {served[-1]:.1f} s, of which upload {received:.1f} s; MiB {resident[-1]}",
                flush=True,
            )
    extra = [s - c for s, c in zip(served, command)]
    print(f"\n{len(files)} files, {sum(len(data) for _, data in files) / MIB:.0f} MiB; verdicts {set(said)}")
    print(f"command, s: {statistics.median(command):.1f} ({min(command):.1f}–{max(command):.1f})")
    print(f"upload → verdict, s: {statistics.median(served):.1f} ({min(served):.1f}–{max(served):.1f})")
    print(
        f"server − command in turn, s: {statistics.median(extra):+.1f} ({min(extra):+.1f}…{max(extra):+.1f}); asked ≤ +3"
    )
    print(
        f"CPU time, s: command {statistics.median(command_cpu):.1f}, server {statistics.median(served_cpu):.1f} (the first "
        f"{served_cpu[0]:.1f}); load average {psutil.getloadavg()[0]:.1f}"
    )
    first, last = sum(resident[1]), sum(resident[-1])
    print(
        f"memory of all processes, MiB: idle {sum(resident[0]):.0f}, after one study {first:.0f}, after {options.studies}: {last:.0f}"
    )
    print(
        f"growth from the first to the last study: {last - first:+.0f}; from idle: {last - sum(resident[0]):+.0f}; asked ≤ 100"
    )


if __name__ == "__main__":
    main()
