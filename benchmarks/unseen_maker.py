"""Does the default engine raise a false alarm on a scanner of a maker that it never met? One maker left out at a time.

    python benchmarks/unseen_maker.py --run RUN --data MANIFEST [--steps 3500] [--simulate 160] [--json FILE]

RUN is the folder of a dense training (`jachai train dense --out RUN`) with the second look's judges (`train_second_stage.py`), whose prepared
samples and places are used again. For each maker of an intact CT a network and a judge are trained without the patients who have a scan of it, and
without those whose maker is not said; the thresholds of network and second look, the noise that the network says it
knows, and the calibration of self-reference come from the other patients as well. Then the intact series of that maker, and every sixth slice alone, are asked
as the default engine asks them; and once more with the thresholds that ship, which all patients set, each by
networks and judges that saw neither him nor his fold. A network that lies in RUN after as many steps is used again. (The scale of the
judge's probabilities is set by what the judges of RUN said of the other patients' places; some of those have seen this maker.) *Declined*: the verdict is inconclusive. Of the really tampered slices the makers are not known:
their untouched places stay in the training, so a maker may have been met there. *At most*: one-sided 95 % bound by Clopper & Pearson, of patients.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from calibrate_selfreference import Peaks, calibrate, entry_of, peaks, surest_repeat
from train_second_stage import SAID, STRENGTHS, fitted, kept, places, thresholds

from jachai.core.finding import ModelIdentity
from jachai.core.progress import silent
from jachai.core.volume import Modality
from jachai.dataset.manifest import Entry, Label, read_manifest
from jachai.dataset.voxels import volume_of
from jachai.detectors.bundle import Bundle, read_bundle
from jachai.detectors.dense import load as load_dense
from jachai.detectors.dense import of_bundle
from jachai.detectors.either import Either
from jachai.detectors.region import region_model
from jachai.detectors.searching import Basis
from jachai.detectors.second_stage import SecondStage, bases_from, shipped_bases
from jachai.detectors.selfreference import SelfReference, basis_from
from jachai.detectors.selfreference import load as load_statistics
from jachai.forensics.domain import limits_of
from jachai.forensics.selfreference import measure
from jachai.metrics.detection import upper_bound
from jachai.scan import candidates
from jachai.training.classical import measured_table
from jachai.training.dense_trainer import STEPS, DenseLearner
from jachai.training.search_runs import Run, Who, judged, written
from jachai.training.search_sets import hosts_of, thick_enough
from jachai.training.simulation import Plan

NOT_SAID = "not said"
OTHERS, SHIPPED = "of the other patients", "that ship"
THRESHOLD = 0.5
FIRST = 100
"""Numbers of the trainings: those of the run itself are lower."""
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Measured:
    """What self-reference needs of one intact volume: highest z of each cue, and of a repeat."""

    patient: str
    basis: str
    highest: Peaks
    repeat: float


@dataclass(frozen=True, slots=True)
class Job:
    run: Path
    data: Path
    maker: str
    number: int
    steps: int


def intact(entries: Sequence[Entry]) -> list[Entry]:
    found = {e.path: e for e in entries if e.label is not Label.TAMPERED and e.modality == Modality.CT.value}
    return list(found.values())


def maker_of(entry: Entry) -> str:
    return entry.maker or NOT_SAID


def measured(data: Path) -> list[Measured]:
    rows = []
    for entry in intact(read_manifest(data)):
        for basis, volume in judged(volume_of(entry)):
            evidence = measure(volume)
            if not limits_of(volume, evidence):
                rows.append(Measured(entry.patient, basis, peaks(evidence), surest_repeat(volume)))
    return rows


def statistics_without(rows: Sequence[Measured], left: Who) -> SelfReference:
    bases = {}
    for basis in ("slice", "volume"):
        kept = [row for row in rows if row.basis == basis and not left(row.patient)]
        highest: dict[str, float] = defaultdict(float)
        for row in kept:
            highest[row.patient] = max(highest[row.patient], row.repeat)
        scales, patients = calibrate([(row.patient, row.highest) for row in kept])
        bases["CT", basis] = basis_from(entry_of("CT", basis, scales, patients, highest))
    return SelfReference(ModelIdentity("selfreference", "maker left out", ""), bases)


def left_out(entries: Sequence[Entry], maker: str) -> frozenset[str]:
    """Patients with a scan of that maker, or of one that is not said."""
    return frozenset(entry.patient for entry in intact(entries) if maker_of(entry) in (maker, NOT_SAID))


def folder_of(run: Path, maker: str) -> Path:
    return run / "makers" / maker.replace(" ", "-").lower()


def judges(run: Path, entries: Sequence[Entry], makers: Sequence[str], simulate: int) -> None:
    """A judge without each maker's patients → RUN/makers/MAKER/judge."""
    data = places([e for e in entries if e.modality != Modality.MR.value], simulate, 0, run / "second")
    table = measured_table(data, silent)
    said = np.array(json.loads((run / "second" / SAID).read_text()))
    for number, maker in enumerate(makers):
        out = left_out(entries, maker)
        seen = np.array([n for n, example in enumerate(data) if example.patient not in out])
        _, network = fitted(data, table, seen, number)
        kept(network, data, seen, said, {"without_maker": maker}, folder_of(run, maker) / "judge")


def bases_without(run: Path, left: Who) -> Mapping[str, Basis]:
    """The second look's thresholds by the other patients, each looked at by engines that did not see him."""
    strengths = json.loads((run / "second" / STRENGTHS).read_text())
    return bases_from(thresholds({who: one for who, one in strengths.items() if not left(who)}))


def work(job: Job, rows: Sequence[Measured]) -> list[Row]:
    torch.set_num_threads(1)
    entries = tuple(read_manifest(job.data))
    scans = intact(entries)
    out = left_out(entries, job.maker)
    hosts = [one for one in hosts_of(entries) if thick_enough(one.read())]
    run = Run(job.run, job.steps, 0, hosts, entries, Plan(()), DenseLearner())
    folder = folder_of(job.run, job.maker)
    net = replace(of_bundle(network_without(job, run, out.__contains__)), explain=False)
    judge = region_model(read_bundle(folder / "judge"))
    shipped = load_dense("dense").bases
    engines = {
        OTHERS: SecondStage(
            "without",
            Either("first", net, statistics_without(rows, out.__contains__)),
            judge,
            bases_without(job.run, out.__contains__),
        ),
        SHIPPED: SecondStage(
            "shipped", Either("first", replace(net, bases=shipped), load_statistics()), judge, shipped_bases()
        ),
    }
    told = []
    for entry in scans:
        if maker_of(entry) != job.maker:
            continue
        for basis, volume in judged(volume_of(entry)):
            for thresholds_of, engine in engines.items():
                found = engine.examine(volume)
                places = [place for place in candidates.find(volume, found) if place.score > THRESHOLD]
                about = {"maker": job.maker, "patient": entry.patient, "scan": entry.path, "basis": basis}
                told.append(
                    {
                        **about,
                        "thresholds": thresholds_of,
                        "declined": list(found.limits),
                        "evidence": float(found.evidence.max()),
                        "alarm": bool(places),
                    }
                )
    print(job.maker, len(told), flush=True)
    return told


def network_without(job: Job, run: Run, left: Who) -> Bundle:
    """RUN/makers/MAKER/network: the one that lies there after as many steps, or else a new one."""
    folder, record = folder_of(job.run, job.maker) / "network", {"without_maker": job.maker, "steps": job.steps}
    if folder.exists() and (there := read_bundle(folder)).card.training == record:
        return there
    net, _ = run.trained(left, job.number)
    return written(run, net, left, "dense", record, folder)


def line(name: str, rows: Sequence[Row]) -> str:
    cells = [name]
    for basis in ("volume", "slice"):
        here = [row for row in rows if row["basis"] == basis]
        patients = {row["patient"] for row in here}
        alarmed = [row for row in here if row["alarm"] and not row["declined"]]
        who = {row["patient"] for row in alarmed}
        above = f", at most {upper_bound(len(who), len(patients)):.0%} of patients" if patients else ""
        declined = sum(bool(row["declined"]) for row in here)
        cells += [f"{len(here)} ({len(patients)})", f"{len(alarmed)}{above}", str(declined)]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="the manifest of that training")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument(
        "--simulate", type=int, default=160, help="attacks on each intact patient that judges learn from"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    makers = sorted({maker_of(entry) for entry in intact(read_manifest(options.data))})
    jobs = [Job(options.run, options.data, maker, FIRST + n, options.steps) for n, maker in enumerate(makers)]
    known = measured(options.data)
    judges(options.run, read_manifest(options.data), makers, options.simulate)
    with ProcessPoolExecutor(options.threads, mp_context=get_context("spawn")) as pool:
        rows = [row for some in pool.map(work, jobs, [known] * len(jobs)) for row in some]
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    for thresholds_of in (OTHERS, SHIPPED):
        here = [row for row in rows if row["thresholds"] == thresholds_of]
        print(f"\n**Thresholds {thresholds_of}**\n")
        print(
            "| maker left out | series (patients) | alarms | declined | single slices (patients) | alarms | declined |"
        )
        print("|---|---|---|---|---|---|---|")
        for maker in makers:
            print(line(maker, [row for row in here if row["maker"] == maker]))
        print(line("all", here))


if __name__ == "__main__":
    main()
