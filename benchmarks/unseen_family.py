"""Is a kind of attack found that was never trained on? The dense network, one family of attacks left out at a time.

    python benchmarks/unseen_family.py --run RUN --data MANIFEST [--part 1] [--steps 1500] [--attacks 12] [--json FILE]

RUN is the folder of a dense training (`jachai train dense --out RUN`), whose prepared samples are used again. For each family a
network is trained without it and without the patients of `--part` (of 5, by SHA-256 of the name); then attacks of that family are
simulated on the whole intact series of those patients, with a seed that no training used. For comparison the same attacks
are shown to a network that saw every family, but not these patients. For `ctgan`, the really tampered slices are left out as well.
The score of a scan is the largest value of its map: of the changed slices as they are now, and of the scan as it was. Painters are those of the user's shelf, as in training: they belong to
`ctgan`. Intervals: bootstrap by patient; with four patients they say little.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jachai.core.errors import JachaiError
from jachai.core.volume import Modality, Volume
from jachai.dataset.manifest import Entry, read_manifest
from jachai.detectors import dense
from jachai.forensics.slicewise import searched
from jachai.metrics.detection import auc
from jachai.metrics.intervals import Indices, Interval, by_patient
from jachai.tamper.attack import Attack, AttackRecord, Effect, spacing_of
from jachai.training.dense import Dense, fit
from jachai.training.dense_trainer import DenseLearner, network_of
from jachai.training.search_data import Origin
from jachai.training.search_runs import Run, of_part, part_of
from jachai.training.search_sets import hosts_of, slab, thick_enough
from jachai.training.simulation import Plan, attacks_without, trained_painters

SEED = 1009
MARGIN_MM = 12.0
"""A changed slab is searched with so much of the scan on either side: the map is smoothed, and lungs are found in 3D."""
REAL = "ctgan"
EVERY = "nothing"
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Job:
    """Train without `family`, and test. Arguments as on the command line."""

    run: Path
    data: Path
    family: str
    part: int
    steps: int
    attacks: int


def families() -> dict[str, list[Attack]]:
    plan = Plan(attacks_without(frozenset()), trained_painters())
    found: dict[str, list[Attack]] = {}
    for attack in plan.table():
        found.setdefault(attack.family, []).append(attack)
    return found


def highest(net: Dense, volume: Volume, slices: slice) -> float:
    """The largest logit in some slices of a scan, which is searched with what lies round them."""
    margin = int(np.ceil(MARGIN_MM / spacing_of(volume)[0]))
    low, high = max(0, slices.start - margin), min(volume.shape[0], slices.stop + margin)
    part = slab(volume, low, high)
    where = searched(part)
    found = dense.search(network_of(net), part, where)[0]
    found = np.where(where, found, -np.inf)[slices.start - low : slices.stop - low]
    return float(found.max(initial=-np.inf))


def may_be_seen(origin: Origin, without: str) -> bool:
    really = origin.family == "real" and origin.effect != Effect.NONE.value
    return origin.family != without and not (without == REAL and really)


def learnt(job: Job, entries: Sequence[Entry]) -> Dense:
    run = Run(job.run, job.steps, 0, (), tuple(entries), Plan(()), DenseLearner())
    draws = []
    for draw in run.draws(of_part(job.part)):
        numbers = np.array([n for n in draw.numbers if may_be_seen(draw.ready.samples.origins[n], job.family)])
        draws += [replace(draw, numbers=numbers)] if len(numbers) else []
    torch.manual_seed(job.part)
    net = Dense()
    for _ in fit(net, draws, job.steps, job.part):
        pass
    return net


def work(job: Job) -> list[Row]:
    torch.set_num_threads(1)
    entries = [entry for entry in read_manifest(job.data) if entry.modality != Modality.MR.value]
    net = learnt(job, entries)
    rows: list[Row] = []
    for index, host in enumerate(hosts_of(entries)):
        if part_of(host.patient) != job.part or not thick_enough(volume := host.read()):
            continue
        about = {"left out": job.family, "patient": host.patient, "scan": host.name}
        intact = highest(net, volume, slice(0, volume.shape[0]))
        rows.append({**about, "family": "", "score": intact})
        for number, (family, attacks) in enumerate(families().items()):
            if job.family not in (EVERY, family):
                continue
            rng = np.random.default_rng((SEED, index, number))
            for forged, record in attacked(volume, attacks, job.attacks, rng):
                changed = highest(net, forged, slice(*record.box_kji[0]))
                rows.append({**about, "family": family, "attack": record.attack, "score": max(changed, intact)})
    return rows


def attacked(
    volume: Volume, attacks: Sequence[Attack], count: int, rng: np.random.Generator
) -> Iterator[tuple[Volume, AttackRecord]]:
    for _ in range(count):
        attack = attacks[int(rng.integers(len(attacks)))]
        try:
            record = attack.sample(volume, rng)
            yield attack.apply(volume, record), record
        except JachaiError:
            continue


def figures(rows: Sequence[Row], family: str, left_out: str) -> dict[str, Interval]:
    cases = [row for row in rows if row["left out"] == left_out and row["family"] in ("", family)]
    scores = np.array([row["score"] for row in cases])
    altered = np.array([row["family"] == family for row in cases])

    def statistic(chosen: Indices) -> dict[str, float]:
        return {"AUC": auc(scores[chosen], altered[chosen])}

    return by_patient(statistic, [row["patient"] for row in cases], altered)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="the manifest of that training")
    parser.add_argument("--part", type=int, default=1)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--attacks", type=int, default=12, help="on each series, of each family")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    names = list(families())
    jobs = [
        Job(options.run, options.data, name, options.part, options.steps, options.attacks) for name in (EVERY, *names)
    ]
    with ProcessPoolExecutor(options.threads, mp_context=get_context("spawn")) as pool:
        rows = [row for some in pool.map(work, jobs) for row in some]
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    print("| family | attacks | scan AUC, never seen | scan AUC, seen |\n|---|---|---|---|")
    for name in names:
        count = sum(row["left out"] == row["family"] == name for row in rows)
        said = [figures(rows, name, left_out)["AUC"] for left_out in (name, EVERY)]
        print(f"| {name} | {count} | " + " | ".join(f"{a.value:.2f} ({a.low:.2f}–{a.high:.2f})" for a in said) + " |")


if __name__ == "__main__":
    main()
