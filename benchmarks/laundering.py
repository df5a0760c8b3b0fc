"""Does honest processing alarm, and does it hide a real attack? The default engine, five folds, on slices processed as a whole.

    python benchmarks/laundering.py --folds RUN --data MANIFEST [--every 12] [--json FILE]

RUN is the folder of a dense training (`jachai train dense --out RUN`). The really tampered slices and every n-th slice of the intact
series go through each processing of `jachai simulate --processing`, drawn anew for each slice from its own seed, and are then asked
of the network that saw neither the scan nor the patient (`RUN/part-K/bundle`), together with self-reference, as the default does.
A processing of which more than half of the tampered slices are declined (`inconclusive`) is not a hiding place: nobody is told
"no sign". It does not count as the worst cell. Intervals: bootstrap by patient.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from jachai.core.finding import Verdict
from jachai.core.volume import Volume
from jachai.dataset.manifest import Entry, Label, read_manifest
from jachai.dataset.voxels import volume_of
from jachai.detectors import load
from jachai.metrics.detection import auc
from jachai.metrics.intervals import Indices, Interval, by_patient
from jachai.scan.scanner import examine
from jachai.tamper.processing import PROCESSING
from jachai.training.search_runs import PARTS, part_of
from jachai.training.search_sets import single_slice

PLAIN, DECLINES = "none", 0.5
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Job:
    """One fold. Arguments as on the command line."""

    run: Path
    data: Path
    every: int
    part: int


def slices_of(entries: Sequence[Entry], every: int) -> list[tuple[Entry, Volume, int]]:
    """(entry, slice, number): each image once."""
    found, seen = [], set()
    for entry in entries:
        if entry.path in seen or entry.modality == "MR":
            continue
        seen.add(entry.path)
        volume = volume_of(entry)
        numbers = range(0, volume.shape[0], 1 if entry.label is Label.TAMPERED else every)
        found += [(entry, single_slice(volume, k), k) for k in numbers]
    return found


def work(job: Job) -> list[Row]:
    engine = load(f"{job.run}/part-{job.part}/bundle+selfreference")
    entries = [entry for entry in read_manifest(job.data) if part_of(entry.patient) == job.part]
    rows: list[Row] = []
    for entry, volume, k in slices_of(entries, job.every):
        for name, processing in PROCESSING.items():
            seed = hashlib.sha256(f"{entry.path.rsplit('/', 2)[-2:]} {k} {name}".encode()).digest()[:8]
            rng = np.random.default_rng(int.from_bytes(seed, "big"))
            made = processing.apply(volume, processing.sample(volume, rng))
            result = examine(made, engine).result
            rows.append({
                "processing": name, "patient": entry.patient, "scan": entry.scan, "slice": k,
                "altered": entry.label is Label.TAMPERED, "kind": entry.kind, "score": result.score,
                "alarmed": result.verdict is Verdict.TAMPERED,
                "declined": result.verdict in (Verdict.INCONCLUSIVE, Verdict.UNREADABLE),
            })  # fmt: skip
    return rows


def figures(rows: Sequence[Row]) -> dict[str, Interval]:
    scores = np.array([-1.0 if row["score"] is None else row["score"] for row in rows])
    altered = np.array([row["altered"] for row in rows])
    alarmed, declined = (np.array([row[name] for row in rows], dtype=bool) for name in ("alarmed", "declined"))

    def statistic(chosen: Indices) -> dict[str, float]:
        fake, real = chosen[altered[chosen]], chosen[~altered[chosen]]
        return {
            "AUC": auc(scores[chosen], altered[chosen]),
            "detected": float(alarmed[fake].mean()),
            "declined, tampered": float(declined[fake].mean()),
            "false alarms": float(alarmed[real].mean()),
            "declined, intact": float(declined[real].mean()),
        }

    return by_patient(statistic, [row["patient"] for row in rows], altered)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folds", type=Path, required=True, metavar="RUN")
    parser.add_argument("--data", type=Path, required=True, help="the manifest of that training")
    parser.add_argument("--every", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    jobs = [Job(options.folds, options.data, options.every, part) for part in range(PARTS)]
    with ProcessPoolExecutor(options.threads, mp_context=get_context("spawn")) as pool:
        rows = [row for some in pool.map(work, jobs) for row in some]
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    said = {name: figures([row for row in rows if row["processing"] == name]) for name in PROCESSING}
    names = list(said[PLAIN])
    print(f"{sum(r['altered'] for r in rows) // len(PROCESSING)} tampered slices, ", end="")
    print(f"{sum(not r['altered'] for r in rows) // len(PROCESSING)} intact ones.\n")
    print("| processing | " + " | ".join(names) + " | AUC lost |\n" + "|---" * (len(names) + 2) + "|")
    for name, cells in said.items():
        lost = said[PLAIN]["AUC"].value - cells["AUC"].value
        auc_cell = f"{cells['AUC'].value:.2f} ({cells['AUC'].low:.2f}–{cells['AUC'].high:.2f})"
        shares = [f"{cells[one].value:.2f}" for one in names[1:]]
        print(f"| {name} | " + " | ".join([auc_cell, *shares]) + f" | {lost:+.2f} |")
    spoken = {name: cells for name, cells in said.items() if cells["declined, tampered"].value <= DECLINES}
    worst = min(spoken, key=lambda name: spoken[name]["AUC"].value)
    print(f"\nWorst cell that does not abstain: {worst}, AUC {spoken[worst]['AUC'].value:.2f}.")


if __name__ == "__main__":
    main()
