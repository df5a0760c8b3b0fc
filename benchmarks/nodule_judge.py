"""What looks like a nodule: is it real or injected? The model `nodules` on patients whose scans it never saw.

    python benchmarks/nodule_judge.py --data MANIFEST [--model boosting] [--simulate 120] [--work DIR] [--json FILE]

For each of five parts of the patients (by SHA-256 of the name) a region model is trained on the others, as
`jachai train MODEL --simulate N --name nodules` does. Then it is asked, in the whole intact series of the patients left out,
about every place that `jachai scan` would list as looking like a nodule: none was altered. And nodules are injected there,
by seeds that no training used: are they listed, and called altered? Simulation only, apart from the scans. Intervals: bootstrap
by patient.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from jachai.core.errors import JachaiError
from jachai.core.progress import silent
from jachai.core.volume import Modality, Volume
from jachai.dataset.manifest import Entry, read_manifest
from jachai.detectors.bundle import read_bundle
from jachai.detectors.nodules import LEAST, MOST, Ranker, load_ranker, ranked_blobs
from jachai.detectors.region import OnnxRegion, altered, region_model
from jachai.metrics.intervals import Indices, by_patient
from jachai.tamper import ATTACKS
from jachai.tamper.attack import Effect, spacing_of
from jachai.training.models import trainer
from jachai.training.region_data import RegionExample, region_data
from jachai.training.search_runs import PARTS, part_of
from jachai.training.search_sets import hosts_of, slab, thick_enough
from jachai.training.simulated_regions import simulated_regions
from jachai.training.simulation import noisier
from jachai.training.trainer import TrainSettings

SEED, EACH, TRIES = 2003, 3, 9
NEAR_MM, SLAB_MM = 8.0, 30.0
INJECTIONS = ("ctgan-injection", "ctgan-injection-varied", "nodule", "nodule-copied")
THRESHOLD = 0.5
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Job:
    """One part left out. Arguments as on the command line."""

    data: Path
    model: str
    simulate: int
    work: Path
    part: int


def examples_of(entries: Sequence[Entry], job: Job) -> list[RegionExample]:
    found = region_data(entries).examples
    if job.simulate:
        found += simulated_regions(entries, job.simulate, 0, job.work / "simulated")
    return [one for one in found if part_of(one.patient) != job.part]


def learnt(entries: Sequence[Entry], job: Job) -> OnnxRegion:
    folder = job.work / f"part-{job.part}"
    if not (folder / "bundle" / "card.json").exists():
        trainer(job.model).train(examples_of(entries, job), folder, TrainSettings(name="nodules", threads=1), silent)
    return region_model(read_bundle(folder / "bundle"))


def work(job: Job) -> list[Row]:
    entries = [entry for entry in read_manifest(job.data) if entry.modality != Modality.MR.value]
    model, ranker = learnt(entries, job), load_ranker()
    rows: list[Row] = []
    for index, host in enumerate(hosts_of(entries)):
        if part_of(host.patient) != job.part or not thick_enough(volume := host.read()):
            continue
        rng = np.random.default_rng((SEED, index))
        for state, scan in (("as it is", volume), ("noisier", noisier(volume, rng))):
            about = {"patient": host.patient, "scan": host.name, "state": state}
            ranked = ranked_blobs(scan, ranker)[:MOST]
            bar = ranked[-1][1] if len(ranked) == MOST else LEAST
            places = [tuple(float(c) for c in blob.centre_kji) for blob, _ in ranked]
            for p in altered(model.classify(scan, places)) if places else ():  # type: ignore[arg-type]
                rows.append({**about, "attack": "", "p": float(p), "listed": True})
            for name, p, likeness in injected(scan, model, ranker, rng):
                rows.append({**about, "attack": name, "p": p, "listed": likeness >= bar})
    return rows


def injected(
    scan: Volume, model: OnnxRegion, ranker: Ranker, rng: np.random.Generator
) -> Iterator[tuple[str, float, float]]:
    """(attack, probability of being altered, likeness of the blob found there or 0) of EACH of INJECTIONS."""
    spacing = np.array(spacing_of(scan))
    for name in INJECTIONS:
        done = 0
        for _ in range(TRIES):
            if done == EACH:
                break
            try:
                record = ATTACKS[name].sample(scan, rng)
                if record.effect is not Effect.INJECTED:
                    continue
                forged = ATTACKS[name].apply(scan, record)
            except JachaiError:
                continue
            done += 1
            k, j, i = record.target_kji
            reach = int(np.ceil(SLAB_MM / spacing[0]))
            low, high = max(0, k - reach), min(scan.shape[0], k + reach + 1)
            part = slab(forged, low, high)
            middle = (float(k - low), float(j), float(i))
            near = [
                (like, blob.centre_kji)
                for blob, like in ranked_blobs(part, ranker)
                if np.linalg.norm((np.array(blob.centre_kji) - middle) * spacing) <= NEAR_MM
            ]
            likeness, place = max(near, default=(0.0, middle))
            at = tuple(float(c) for c in place)
            yield name, float(altered(model.classify(part, [at]))[0]), likeness  # type: ignore[list-item]


def share(rows: Sequence[Row], key: str) -> str:
    if not rows:
        return "–"
    values = np.array([row["p"] > THRESHOLD if key == "p" else row["listed"] for row in rows], dtype=float)

    def statistic(chosen: Indices) -> dict[str, float]:
        return {"share": float(values[chosen].mean())}

    found = by_patient(statistic, [row["patient"] for row in rows], np.ones(len(rows), dtype=bool))["share"]
    return f"{found.value:.2f} ({found.low:.2f}–{found.high:.2f}) of {len(rows)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a manifest with intact CT series")
    parser.add_argument("--model", default="boosting")
    parser.add_argument("--simulate", type=int, default=120, help="attacks per intact patient to learn from")
    parser.add_argument("--work", type=Path, default=Path("nodule-judge"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    jobs = [Job(options.data, options.model, options.simulate, options.work, part) for part in range(PARTS)]
    if options.simulate:
        examples_of([e for e in read_manifest(options.data) if e.modality != Modality.MR.value], jobs[0])
    with ProcessPoolExecutor(options.threads, mp_context=get_context("spawn")) as pool:
        rows = [row for some in pool.map(work, jobs) for row in some]
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    print("| places | scan as it is | made noisier |\n|---|---|---|")
    states = ("as it is", "noisier")
    for title, key, names in (
        ("listed in intact scans, called altered", "p", ("",)),
        *((f"{name}: listed", "listed", (name,)) for name in INJECTIONS),
        *((f"{name}: called altered", "p", (name,)) for name in INJECTIONS),
        ("all injections: called altered", "p", INJECTIONS),
    ):
        cells = [share([r for r in rows if r["attack"] in names and r["state"] == state], key) for state in states]
        print(f"| {title} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
