"""Is an attack found in a whole series of a patient that nothing was trained on? Every engine, every family, every patient.

    python benchmarks/whole_volumes.py --run RUN --data MANIFEST [--attacks 4] [--json FILE]

RUN is the folder of a dense training (`jachai train dense --out RUN`). Each of its networks that left out a fifth of the patients
(`RUN/part-K/bundle`) is asked about the whole series of that fifth, as they are and attacked with a seed that no training used: alone, with
the self-reference engine, and as the default engine does, with a second look by a judge that has not seen them either (`RUN/second/part-K`, of
`train_second_stage.py`). Self-reference learns from no attack, but its thresholds were set by these patients. Of series of more
than MOST slices, the middle is taken. The score of a scan is its highest evidence; *found*: it lies above the threshold **and** within 20 mm of
the attacked box's centre. Painters are those of the user's shelf. Intervals: bootstrap by patient.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from jachai.core.errors import JachaiError
from jachai.core.finding import ModelIdentity
from jachai.core.progress import Progress, silent
from jachai.core.volume import Modality, Volume
from jachai.dataset.manifest import read_manifest
from jachai.detectors import load
from jachai.detectors.bundle import read_bundle
from jachai.detectors.detector import Detector, TamperMap
from jachai.detectors.either import Either
from jachai.detectors.region import region_model
from jachai.detectors.second_stage import SecondStage, bases_from
from jachai.metrics.detection import auc
from jachai.metrics.intervals import Indices, Interval, by_patient
from jachai.scan import candidates
from jachai.tamper.attack import Attack, AttackRecord, spacing_of
from jachai.training.search_runs import part_of
from jachai.training.search_sets import hosts_of, slab, thick_enough
from jachai.training.simulation import Plan, attacks_without, trained_painters

SEED = 2003
MOST = 100
HIT_MM = 20.0
Row = dict[str, Any]


class Once:
    """A detector that is not asked twice about the same volume."""

    def __init__(self, detector: Detector) -> None:
        self.detector = detector
        self.last: tuple[Volume, TamperMap] | None = None

    @property
    def identity(self) -> ModelIdentity:
        return self.detector.identity

    def examine(self, volume: Volume, progress: Progress = silent) -> TamperMap:
        if self.last is None or self.last[0] is not volume:
            self.last = volume, self.detector.examine(volume, progress)
        return self.last[1]


def families() -> dict[str, list[Attack]]:
    plan = Plan(attacks_without(frozenset()), trained_painters())
    found: dict[str, list[Attack]] = {}
    for attack in plan.table():
        found.setdefault(attack.family, []).append(attack)
    return found


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


def middle_of(volume: Volume) -> Volume:
    low = max(0, (volume.shape[0] - MOST) // 2)
    return slab(volume, low, min(volume.shape[0], low + MOST))


def judged(volume: Volume, found: TamperMap, record: AttackRecord | None) -> tuple[float, bool]:
    """(highest evidence, whether a place above the threshold lies at the attack; of an intact scan, anywhere)."""
    places = [place for place in candidates.find(volume, found) if place.score > 0.5]
    highest = float(found.evidence.max(initial=-np.inf))
    if record is None:
        return highest, bool(places)
    spacing = np.array(spacing_of(volume))
    away = [np.linalg.norm((np.array(place.center_kji) - record.target_kji) * spacing) for place in places]
    return highest, bool(away and min(away) <= HIT_MM)


def engines_of(network: Path, judge: Path, calibration: Path) -> dict[str, Detector]:
    """Bundles of a network and of a judge, and the second look's calibration → the engines that are compared."""
    alone, statistics = Once(load(str(network))), Once(load("selfreference"))
    both = Once(Either("either", alone, statistics))
    bases = bases_from(json.loads(calibration.read_text()))
    default = SecondStage("default", both, region_model(read_bundle(judge)), bases)
    return {"network alone": alone, "selfreference": statistics, "both": both, "default": default}


def asked(engines: Mapping[str, Detector], scan: Volume, record: AttackRecord | None, about: Row) -> list[Row]:
    """What each engine says of a scan. about: what stands in every row."""
    said = {engine: judged(scan, detector.examine(scan), record) for engine, detector in engines.items()}
    return [{**about, "engine": engine, "score": score, "found": hit} for engine, (score, hit) in said.items()]


def work(job: tuple[Path, Path, str, int]) -> list[Row]:
    run, data, name, attacks = job
    entries = [entry for entry in read_manifest(data) if entry.modality != Modality.MR.value]
    index, host = next((n, one) for n, one in enumerate(hosts_of(entries)) if one.name == name)
    whole = host.read()
    if not thick_enough(whole):
        return []
    volume = middle_of(whole)
    part = f"part-{part_of(host.patient)}"
    second = run / "second" / part
    engines = engines_of(run / part / "bundle", second / "bundle", second / "calibration.json")
    about = {"patient": host.patient, "scan": name}
    rows = asked(engines, volume, None, {**about, "family": "", "attack": ""})
    for number, (family, some) in enumerate(families().items()):
        rng = np.random.default_rng((SEED, index, number))
        for forged, record in attacked(volume, some, attacks, rng):
            rows += asked(engines, forged, record, {**about, "family": family, "attack": record.attack})
    print(name, len(rows), flush=True)
    return rows


def figures(rows: Sequence[Row], what: str, value: str) -> dict[str, Interval]:
    cases = [row for row in rows if row[what] in ("", value)]
    scores, found = (np.array([row[key] for row in cases], dtype=float) for key in ("score", "found"))
    altered = np.array([row[what] == value for row in cases])

    def statistic(chosen: Indices) -> dict[str, float]:
        hit = found[chosen][altered[chosen]]
        return {"AUC": auc(scores[chosen], altered[chosen]), "found": float(hit.mean()) if len(hit) else np.nan}

    return by_patient(statistic, [row["patient"] for row in cases], altered)


def tables(rows: Sequence[Row]) -> str:
    """Markdown: of each engine, intact series that alarm, and what it makes of each family and attack."""
    lines = []
    for engine in dict.fromkeys(row["engine"] for row in rows):
        mine = [row for row in rows if row["engine"] == engine]
        intact = [row for row in mine if not row["family"]]
        lines += ["", f"**{engine}**: {sum(row['found'] for row in intact)} of {len(intact)} intact series alarm"]
        for what in ("family", "attack"):
            lines += ["", f"| {what} | attacks | scan AUC | found |", "|---|---|---|---|"]
            for name in dict.fromkeys(row[what] for row in mine if row[what]):
                said = figures(mine, what, name)
                cells = (f"{one.value:.2f} ({one.low:.2f}–{one.high:.2f})" for one in (said["AUC"], said["found"]))
                lines.append(f"| {name} | {sum(row[what] == name for row in mine)} | " + " | ".join(cells) + " |")
    return "\n".join(lines[1:]) + "\n"


def measured(options: argparse.Namespace) -> list[Row]:
    entries = [entry for entry in read_manifest(options.data) if entry.modality != Modality.MR.value]
    jobs = [(options.run, options.data, host.name, options.attacks) for host in hosts_of(entries)]
    with ProcessPoolExecutor(options.threads, mp_context=get_context("spawn")) as pool:
        return [row for some in pool.map(work, jobs) for row in some]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="the manifest of that training")
    parser.add_argument("--attacks", type=int, default=4, help="on each series, of each family")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="keep what was measured; where the file exists, it is tabled again")
    options = parser.parse_args()
    if options.json and options.json.exists():
        rows = json.loads(options.json.read_text())
        print(f"Nothing was measured: these are the rows of {options.json}.\n")
    else:
        rows = measured(options)
        if options.json:
            options.json.write_text(json.dumps(rows, indent=1))
    print(tables(rows), end="")


if __name__ == "__main__":
    main()
