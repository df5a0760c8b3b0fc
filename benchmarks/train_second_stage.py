"""Places, real and altered → the second look's judges, each without a fifth of the patients, and its calibration from intact series.

    python benchmarks/train_second_stage.py --run RUN --data MANIFEST [--simulate 160] [--out DIR] [--write]

RUN is the folder of a dense training (`jachai train dense --out RUN`). A judge (gradient-boosted trees, as `jachai train boosting --name
nodules`) is trained without each fifth of the patients, and asked about the intact series of that fifth, after the
network that did not see it either. Its strongest candidate and its strongest nodule in each patient are the
calibration. DIR (RUN/second): `part-K/bundle`, and `part-K/calibration.json`, which knows nothing of that fifth's patients; `said.json`, what
was said of places, and `strengths.json`, of intact patients, by judges that did not see them: other benchmarks leave out others.
Prints how each judge does on the places of patients left out, and which intact patients would alarm if the others alone had
set the thresholds. With --write the file in the package is replaced.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jachai.core.progress import silent
from jachai.core.volume import Modality
from jachai.dataset.manifest import Entry, read_manifest
from jachai.detectors import load
from jachai.detectors.bundle import write_bundle
from jachai.detectors.either import Either
from jachai.detectors.region import MeasuredInput, RegionModel, region_model
from jachai.detectors.second_stage import CALIBRATION_FILE, CANDIDATE, CLIP, NODULE, logit, looked
from jachai.forensics.domain import STACK
from jachai.training.classical import MODELS, exported, measured_table
from jachai.training.region_data import RegionExample, RegionPlan, region_data
from jachai.training.search_runs import PARTS, intact_volumes, part_of
from jachai.training.simulated_regions import simulated_regions
from jachai.training.trainer import (
    area_under_roc,
    balanced_weights,
    calibration,
    classes_in,
    countable,
    region_card,
)

ARCHITECTURE = "boosting"
MARGINS = {CANDIDATE: 0.3, NODULE: 2.5}
"""The threshold lies so far above the strongest place of the intact patients: units of the first stage, logits of the judge."""
NONE = {CANDIDATE: -10.0, NODULE: logit(CLIP)}
"""Strength of a patient in whom there was nothing to look at."""
Strengths = dict[str, dict[str, float]]
"""Patient → reason → the strongest place."""


SAID, STRENGTHS = "said.json", "strengths.json"


def places(entries: Sequence[Entry], simulate: int, seed: int, folder: Path) -> list[RegionExample]:
    """What judges learn from: labelled places and those that match them, and simulated ones, which are kept in the folder."""
    labelled = region_data(entries, RegionPlan(seed=seed)).examples
    return [*labelled, *simulated_regions(entries, simulate, seed, folder / "simulated")]


def fitted(
    data: Sequence[RegionExample], table: npt.NDArray[np.float32], seen: npt.NDArray[np.int64], seed: int
) -> tuple[Any, bytes]:
    """(the trees, the same as ONNX) learnt from the places with these numbers. table: their measurements."""
    classes = classes_in(data)
    mine = [data[int(n)] for n in seen]
    labels = np.array([classes.index(example.label) for example in mine], dtype=np.int64)
    model = MODELS[ARCHITECTURE].fitted(table[seen], labels, balanced_weights(mine), seed)
    return model, exported(model, table[seen], classes)


def kept(
    network: bytes,
    data: Sequence[RegionExample],
    seen: npt.NDArray[np.int64],
    said: npt.NDArray[np.float64],
    without: Mapping[str, Any],
    folder: Path,
    rated: npt.NDArray[np.int64] | None = None,
) -> RegionModel:
    """The judge in a bundle, its probabilities calibrated on what judges that did not see a place `said` of the labelled ones.

    seen: places that it learnt from. rated: places that calibrate it, where these are others: among them must be altered ones."""
    chosen = np.zeros(len(data), dtype=bool)
    chosen[seen if rated is None else rated] = True
    chosen &= countable(data)
    truth = np.array([example.altered for example in data])
    card = region_card(
        folder.parent.name,
        ARCHITECTURE,
        network,
        [data[int(n)] for n in seen],
        inputs=MeasuredInput().told(),
        calibration=calibration(truth[chosen], said[chosen], f"{PARTS} parts by patient, without those left out"),
        training=dict(without),
        figures={},
    )
    return region_model(write_bundle(folder, network, card))


def judges(data: Sequence[RegionExample], out: Path) -> list[RegionModel]:
    """One without the patients of each part."""
    classes = classes_in(data)
    parts = np.array([part_of(example.patient) for example in data])
    truth = np.array([example.altered for example in data])
    simulated = np.array([example.simulated for example in data])
    counted = countable(data)
    table = measured_table(data, silent)
    said = np.zeros(len(data))
    networks = []
    for part in range(PARTS):
        model, network = fitted(data, table, np.flatnonzero(parts != part), part)
        networks.append(network)
        columns = [n for n, label in enumerate(model.classes_) if classes[int(label)] in ("FB", "FM")]
        said[parts == part] = model.predict_proba(table[parts == part])[:, columns].sum(axis=1)
    for name, chosen in (("labelled", counted), ("simulated", simulated)):
        print(
            f"{name} places of patients left out: AUC {area_under_roc(truth[chosen], said[chosen]):.3f} ({chosen.sum()})"
        )
    for family in sorted({data[int(n)].source for n in np.flatnonzero(simulated)}):
        chosen = np.array([example.source == family for example in data])
        print(f"  {family}: AUC {area_under_roc(truth[chosen], said[chosen]):.3f} ({truth[chosen].sum()} attacks)")
    out.mkdir(parents=True, exist_ok=True)
    (out / SAID).write_text(json.dumps(said.tolist()))
    return [
        kept(
            networks[part],
            data,
            np.flatnonzero(parts != part),
            said,
            {"without_part": part},
            out / f"part-{part}" / "bundle",
        )
        for part in range(PARTS)
    ]


def strengths_of(run: Path, part: int, judge: RegionModel, entries: Sequence[Entry]) -> Strengths:
    """Of the intact series of a part's patients, by engines that saw none of them."""
    first = Either("first", load(f"{run}/part-{part}/bundle"), load("selfreference"))
    found: Strengths = defaultdict(lambda: dict(NONE))
    for patient, volume in intact_volumes(entries, lambda who: part_of(who) == part):
        if volume.shape[0] >= STACK:
            for place in looked(volume, first.examine(volume), judge)[1]:
                found[patient][place.because] = max(found[patient][place.because], place.strength)
    return found


def thresholds(strengths: Strengths) -> dict[str, dict[str, Any]]:
    """What the file of the calibration holds: reason → typical, threshold and the patients' strengths."""
    told: dict[str, dict[str, Any]] = {}
    for because, margin in MARGINS.items():
        values = sorted(one[because] for one in strengths.values())
        there = [value for value in values if value > NONE[because]]
        told[because] = {
            "typical": round(float(np.median(there or values)), 4),
            "threshold": round(values[-1] + margin, 4),
            "patients": [round(value, 4) for value in values],
        }
    return told


def alarming(strengths: Strengths) -> Mapping[str, list[str]]:
    """Reason → patients who would alarm, had the thresholds been set by the others."""
    return {
        because: [
            who
            for who, one in strengths.items()
            if one[because] > max(other[because] for name, other in strengths.items() if name != who) + margin
        ]
        for because, margin in MARGINS.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="the manifest of that training")
    parser.add_argument("--simulate", type=int, default=160, help="attacks on each intact patient")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    out = options.out or options.run / "second"
    entries = [entry for entry in read_manifest(options.data) if entry.modality != Modality.MR.value]
    strengths: Strengths = {}
    for part, judge in enumerate(judges(places(entries, options.simulate, options.seed, out), out)):
        strengths |= strengths_of(options.run, part, judge, entries)
    (out / STRENGTHS).write_text(json.dumps(strengths, indent=1))
    for part in range(PARTS):
        others = {who: one for who, one in strengths.items() if part_of(who) != part}
        (out / f"part-{part}" / "calibration.json").write_text(json.dumps(thresholds(others), indent=1))
    told = thresholds(strengths)
    print(json.dumps(told))
    print("left out, would alarm:", dict(alarming(strengths)))
    if options.write:
        target = Path(__file__).resolve().parent.parent / "src" / "jachai" / "detectors" / CALIBRATION_FILE
        target.write_text(json.dumps({"about": "intact series of shared/data (CC BY)", **told}, indent=1) + "\n")
        print(f"written: {target.name}")


if __name__ == "__main__":
    main()
