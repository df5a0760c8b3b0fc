"""A thousand small scans, the server killed (kill -9) three times while it examines them: is any lost, or done twice?

python benchmarks/serve_kill.py [--scans 1000] [--kills 3]
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from serving import Server

from jachai.core.geometry import Geometry
from jachai.core.volume import Modality, Provenance, Volume
from jachai.io.writer import write_nifti


def small_scan(folder: Path, number: int) -> bytes:
    """One slice of 96 × 96."""
    voxels = np.random.default_rng(number).normal(0, 20, (1, 96, 96)).round().astype(np.float32)
    volume = Volume(voxels, Modality.CT, Geometry.regular(1, (2.0, 0.8, 0.8)), Provenance("made", "made", step=1.0))
    return write_nifti(volume, folder / f"{number}.nii.gz").read_bytes()


def scans(server: Server) -> list[dict[str, object]]:
    """All of them, page by page."""
    found: list[dict[str, object]] = []
    cursor: dict[str, str] = {}
    while True:
        page = server.client.get("/scans", params={"limit": 200, **cursor}).json()
        found += page["items"]
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}


def done(server: Server) -> int:
    queue = server.client.get("/health").json()["queue"]
    return -int(queue["queued"]) - int(queue["running"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=3)
    options = parser.parse_args()
    total = options.scans
    queue = ("--queue", str(total))
    with TemporaryDirectory() as made, TemporaryDirectory() as folder:
        data, ids = Path(folder), []
        started = time.perf_counter()
        with Server(data, *queue) as server:
            for number in range(total):
                body = [("files", (f"{number}.nii.gz", small_scan(Path(made), number)))]
                ids.append(server.client.post("/scans", files=body, data={"modality": "CT"}).json()["id"])
            handed_in = time.perf_counter() - started
            server.kill()
        for kill in range(1, options.kills):
            with Server(data, *queue) as server:
                wanted = total * kill // options.kills
                while total + done(server) < wanted:
                    time.sleep(0.05)
                server.kill()
        with Server(data, *queue) as server:
            while done(server):
                time.sleep(0.2)
            found = scans(server)
        seconds = time.perf_counter() - started
        events = [json.loads(line) for line in (data / "audit.jsonl").read_text().splitlines()]
        folders = Counter(len(list((data / "scans" / str(scan_id)).glob("attempt-*"))) for scan_id in ids)
    examined = Counter(event["scan"] for event in events if event["event"] == "examined")
    states = Counter(str(scan["state"]) for scan in found)
    print(
        f"handed in: {len(set(ids))} in {handed_in:.0f} s; kills: {options.kills}; all finished after {seconds:.0f} s"
    )
    print(f"states: {dict(states)}; lost: {len(set(ids) - {scan['id'] for scan in found})}")
    print(f"verdicts: {dict(Counter(str(scan['verdicts']) for scan in found))}")
    print(
        f"results told twice: {sum(n > 1 for n in examined.values())}; folders of results for each scan: {dict(folders)}"
    )
    print(f"taken up again after a kill: {sum(event['event'] == 'retaken' for event in events)}")


if __name__ == "__main__":
    main()
