"""Is a kind of attack found that was never trained on? One family of attacks left out at a time.

    python benchmarks/unseen_family.py --run RUN --data MANIFEST [--part 1] [--steps 1500] [--attacks 6] [--json FILE]

RUN is the folder of a dense training (`jachai train dense --out RUN`) with the second look's judges (`train_second_stage.py`), whose prepared
samples and calibrations are used again. For each family a network and a judge are trained without it and without the patients of `--part` (of 5, by SHA-256 of the
name); then attacks of that family are simulated on the whole intact series of those patients (of long ones the middle), with a seed that no
training used. For comparison the same attacks are shown to a network and a judge that met every family, but not these patients. For `ctgan`, the
really tampered slices are left out as well. The scales on which network, statistics and second look are joined are those of
RUN. The score of a scan is its highest evidence; *found* as in `whole_volumes.py`. Painters are those of the user's shelf, as in
training: they belong to `ctgan`. Intervals: bootstrap by patient; with four patients they say little.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from train_second_stage import SAID, fitted, kept, places
from whole_volumes import Row, asked, attacked, engines_of, families, figures, middle_of

from jachai.core.progress import silent
from jachai.core.volume import Modality
from jachai.dataset.manifest import Entry, read_manifest
from jachai.tamper.attack import Effect
from jachai.training.classical import measured_table
from jachai.training.dense import Dense, fit
from jachai.training.dense_trainer import DenseLearner
from jachai.training.region_data import SIMULATED, RegionExample
from jachai.training.search_data import Origin
from jachai.training.search_runs import Run, of_part, part_of, written
from jachai.training.search_sets import hosts_of, thick_enough
from jachai.training.simulation import Plan

SEED = 1009
REAL = "ctgan"
EVERY = "nothing"


@dataclass(frozen=True, slots=True)
class Job:
    """Train without `family`, and test. Arguments as on the command line."""

    run: Path
    data: Path
    family: str
    part: int
    steps: int
    attacks: int


def may_be_seen(origin: Origin, without: str) -> bool:
    really = origin.family == "real" and origin.effect != Effect.NONE.value
    return origin.family != without and not (without == REAL and really)


def learnt(job: Job, run: Run) -> Dense:
    draws = []
    for draw in run.draws(of_part(job.part)):
        numbers = np.array([n for n in draw.numbers if may_be_seen(draw.ready.samples.origins[n], job.family)])
        draws += [replace(draw, numbers=numbers)] if len(numbers) else []
    torch.manual_seed(job.part)
    net = Dense()
    for _ in fit(net, draws, job.steps, job.part):
        pass
    return net


def judges(run: Path, entries: Sequence[Entry], part: int, simulate: int) -> None:
    """A judge without each family and without the patients of a part → RUN/unseen/FAMILY/judge."""
    data = places(entries, simulate, 0, run / "second")
    table = measured_table(data, silent)
    said = np.array(json.loads((run / "second" / SAID).read_text()))
    others = np.array([n for n, example in enumerate(data) if part_of(example.patient) != part])
    for family in (EVERY, *families()):
        seen = np.array([n for n, e in enumerate(data) if part_of(e.patient) != part and may_be_learnt(e, family)])
        _, network = fitted(data, table, seen, part)
        left = {"without_part": part, "without_family": family}
        kept(network, data, seen, said, left, run / "unseen" / family / "judge", others)


def may_be_learnt(example: RegionExample, without: str) -> bool:
    really = example.altered and not example.simulated
    return example.source != f"{SIMULATED}:{without}" and not (without == REAL and really)


def work(job: Job) -> list[Row]:
    torch.set_num_threads(1)
    entries = [entry for entry in read_manifest(job.data) if entry.modality != Modality.MR.value]
    folder = job.run / "unseen" / job.family
    run = Run(job.run, job.steps, 0, (), tuple(entries), Plan(()), DenseLearner())
    told = {"steps": job.steps, "without_family": job.family, "without_part": job.part}
    written(run, learnt(job, run), of_part(job.part), f"without-{job.family}", told, folder / "network")
    engines = engines_of(
        folder / "network", folder / "judge", job.run / "second" / f"part-{job.part}" / "calibration.json"
    )
    rows: list[Row] = []
    for index, host in enumerate(hosts_of(entries)):
        if part_of(host.patient) != job.part or not thick_enough(whole := host.read()):
            continue
        volume = middle_of(whole)
        about = {"left out": job.family, "patient": host.patient, "scan": host.name}
        rows += asked(engines, volume, None, {**about, "family": "", "attack": ""})
        for number, (family, attacks) in enumerate(families().items()):
            if job.family not in (EVERY, family):
                continue
            rng = np.random.default_rng((SEED, index, number))
            for forged, record in attacked(volume, attacks, job.attacks, rng):
                rows += asked(engines, forged, record, {**about, "family": family, "attack": record.attack})
        print(job.family, host.name, len(rows), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="the manifest of that training")
    parser.add_argument("--part", type=int, default=1)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument(
        "--simulate", type=int, default=160, help="attacks on each intact patient that judges learn from"
    )
    parser.add_argument("--attacks", type=int, default=6, help="on each series, of each family")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    entries = [entry for entry in read_manifest(options.data) if entry.modality != Modality.MR.value]
    judges(options.run, entries, options.part, options.simulate)
    names = list(families())
    jobs = [
        Job(options.run, options.data, name, options.part, options.steps, options.attacks) for name in (EVERY, *names)
    ]
    with ProcessPoolExecutor(options.threads, mp_context=get_context("spawn")) as pool:
        rows = [row for some in pool.map(work, jobs) for row in some]
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    for engine in dict.fromkeys(row["engine"] for row in rows):
        print(f"\n**{engine}**\n\n| family | attacks | AUC, never seen | AUC, seen | found, never seen | found, seen |")
        print("|---|---|---|---|---|---|")
        for name in names:
            some = [[r for r in rows if r["engine"] == engine and r["left out"] == left] for left in (name, EVERY)]
            said = [figures(mine, "family", name) for mine in some]
            count = sum(row["family"] == name for row in some[0])
            cells = [
                f"{one[key].value:.2f} ({one[key].low:.2f}–{one[key].high:.2f})"
                for key in ("AUC", "found")
                for one in said
            ]
            print(f"| {name} | {count} | " + " | ".join(cells) + " |")
        for left in (EVERY, *names):
            intact = [r for r in rows if r["engine"] == engine and r["left out"] == left and not r["family"]]
            print(f"without {left}: {sum(row['found'] for row in intact)} of {len(intact)} intact series alarm")


if __name__ == "__main__":
    main()
