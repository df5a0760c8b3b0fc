"""A real series → what the ledger costs: fingerprints, durable appends, a check of 100,000 entries, bytes per instance.

python benchmarks/ledger_speed.py ../shared/data/ct/lidc-0314
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from jachai.core.volume import Volume
from jachai.io.confined import Limits, borrowed, close_idle
from jachai.io.files import read
from jachai.ledger import verify_ledger
from jachai.ledger.group import GroupCommit
from jachai.ledger.log import DATABASE, NewEntry, opened, writing
from jachai.ledger.reading import Met, meeting

SECRET = bytes(range(32))
SENDERS = 16
"""Threads that wait for their acknowledgement, as associations of a DICOM node do."""


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("series", type=Path)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    figures = {**fingerprint_cost(options.series, options.repeat)}
    with TemporaryDirectory(dir=Path.cwd()) as folder:
        figures |= append_rate(options.series, Path(folder) / "appended")
        figures |= verify_time(Path(folder) / "long", options.entries)
    print(json.dumps(figures, indent=1))


def fingerprint_cost(series: Path, repeat: int) -> dict[str, float]:
    """CPU and wall seconds of reading (inspect and decode, as a scan does), of decoding alone, and of fingerprints."""
    reads, decodes, prints = [], [], []
    n_files = sum(path.is_file() for path in series.iterdir())
    for _ in range(repeat):
        close_idle()
        began = time.perf_counter()
        assert any(isinstance(item, Volume) for item in read(series))
        reads.append(time.perf_counter() - began)
        decodes.append(_decode_alone(series))
        began = time.perf_counter()
        with meeting(series, SECRET) as items:
            assert sum(isinstance(item, Met) for item in items) == n_files
        prints.append(time.perf_counter() - began)
    return {
        "instances": n_files,
        "read_s": round(median(reads), 2),
        "decode_alone_s": round(median(decodes), 2),
        "fingerprint_s": round(median(prints), 2),
        "fingerprint_over_read": round(median(prints) / median(reads), 2),
        "fingerprint_over_decode": round(median(prints) / median(decodes), 2),
    }


def _decode_alone(series: Path) -> float:
    """The same child decodes every file to units: parsing and decoding, no hashes, no blocks."""
    limits = Limits()
    with borrowed(limits, "jachai.ledger.tasks") as child:
        child.ask({"do": "ready"}, 30)
        began = time.perf_counter()
        for path in sorted(series.iterdir()):
            _, memories = child.ask_allocating({"do": "units", "path": str(path)}, limits.seconds)
            memories[0].release()
        return time.perf_counter() - began


def append_rate(series: Path, folder: Path) -> dict[str, float]:
    """Whole instances (fingerprint and entry) from many threads, each waiting until its own is on the disk."""
    with meeting(series, SECRET) as items:
        met = [item for item in items if isinstance(item, Met)]
    entries = [
        NewEntry("instance", {"uid": m.fingerprint.uid.hex(), "series": "", "root": "0" * 64}, m.fingerprint)
        for m in met
    ] * 8
    group = GroupCommit(folder)
    began, began_cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(SENDERS) as pool:
        list(pool.map(lambda entry: group.submit([entry]).result(), entries))
    seconds, cpu = time.perf_counter() - began, time.process_time() - began_cpu
    group.close()
    size = (folder / DATABASE).stat().st_size
    with writing(folder) as log:
        alone = time.perf_counter()
        for entry in entries[:200]:
            log.append([entry])
        one_by_one = 200 / (time.perf_counter() - alone)
    return {
        "append_per_s": round(len(entries) / seconds),
        "append_cpu_ms": round(1000 * cpu / len(entries), 2),
        "append_one_by_one_per_s": round(one_by_one),
        "bytes_per_instance": round(size / len(entries)),
    }


def verify_time(folder: Path, count: int) -> dict[str, float]:
    """The independent verifier on a log of `count` entries, with a witness that has every leaf hash."""
    from jachai.service.ledger_keeping import sign

    says = {"uid": "0" * 64, "series": "0" * 64, "root": "0" * 64, "software": "0" * 64, "model": "0" * 64}
    says |= {"source": {"ae": "SCANNER", "address": "scanner.example"}}
    with writing(folder) as log:
        for start in range(0, count, 5_000):
            log.append([NewEntry("instance", {**says, "number": n}) for n in range(start, min(start + 5_000, count))])
    sign(folder, folder / "witness.txt")
    with opened(folder) as log:
        assert log.size == count
    command = [
        sys.executable,
        "-I",
        verify_ledger.__file__,
        str(folder / DATABASE),
        "--key",
        str(folder / "public.key"),
    ]
    began = time.perf_counter()
    done = subprocess.run([*command, "--witness", str(folder / "witness.txt")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    bytes_on_disk = sum(path.stat().st_size for path in folder.glob(f"{DATABASE}*"))
    return {
        "verified_entries": count,
        "verify_s": round(time.perf_counter() - began, 2),
        "log_bytes_per_entry": round(bytes_on_disk / count),
        "witness_bytes_per_entry": round((folder / "witness.txt").stat().st_size / count),
    }


if __name__ == "__main__":
    main()
