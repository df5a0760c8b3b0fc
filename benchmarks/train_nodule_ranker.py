"""Chest CT without tampering → the small ranker of nodules: parametric nodules put in, against everything else found there.

    python benchmarks/train_nodule_ranker.py --data DIR [--write]

Prints how many nodules are found and how they rank among the ten best, by leaving series out. The true lesions of
`nodules.csv` are never trained on: blobs near them are left out, and their rank is printed at the end.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

from jachai.core.errors import JachaiError
from jachai.core.progress import silent
from jachai.core.volume import Volume
from jachai.detectors.nodules import RANKER_FILE, SIGNS, Ranker, _slabs, ranked_blobs, signs_of
from jachai.io.files import read
from jachai.tamper import ATTACKS

SERIES = ("lidc-0314", "cmb-01068", "lungfcp-0001", "4dlung-113")
EACH, TRIES = 8, 24
NEAR_MM, APART_MM = 8.0, 30.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with ct/ and nodules.csv")
    parser.add_argument("--write", action="store_true", help="replace the ranker in the package")
    options = parser.parse_args()
    sets = {}
    for name in SERIES:
        volume = next(one for one in read(options.data / "ct" / name) if isinstance(one, Volume))
        sets[name] = examples(volume, lesions(options.data, name), np.random.default_rng(0))
        print(name, f"{int(sets[name][1].sum())} nodules found among {len(sets[name][1])} blobs", flush=True)
    for left in sets:
        ranker = fitted([one for name, one in sets.items() if name != left])
        table, truth = sets[left][0], sets[left][1]
        said = score(ranker, table)
        ranks = [int((said > said[n]).sum()) + 1 for n in np.flatnonzero(truth)]
        print(f"left out {left}: ranks of the nodules {sorted(ranks)}")
    ranker = fitted(list(sets.values()))
    print(ranker)
    for row in csv.DictReader((options.data / "nodules.csv").open()):
        if float(row["diameter_mm"]) <= 30:
            volume = next(one for one in read(options.data / row["folder"]) if isinstance(one, Volume))
            print(row["folder"], row["diameter_mm"], "mm: rank", rank_of(volume, ranker, row))
    if options.write:
        text = {name: dict(zip(SIGNS, np.round(getattr(ranker, name), 5))) for name in ("mean", "spread", "weights")}
        told = {"schema": "jachai.nodule-ranker/1", **text, "intercept": round(ranker.intercept, 5)}
        told["trained"] = f"{EACH} parametric nodules in each of {', '.join(SERIES)}; benchmarks/train_nodule_ranker.py"
        target = Path(__file__).parents[1] / "src" / "jachai" / "detectors" / RANKER_FILE
        target.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        print(f"Written: {target}")


def examples(volume: Volume, known: list[np.ndarray], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(signs, is it a nodule that was put in) of every blob that is not near a true lesion."""
    voxels, places = volume.voxels.copy(), []
    for _ in range(TRIES):
        if len(places) == EACH:
            break
        try:
            record = ATTACKS["nodule"].sample(volume, rng)
        except JachaiError:
            continue
        if any(np.linalg.norm((np.array(record.target_kji) - one) * volume.spacing_mm) < APART_MM for one in places):
            continue
        where = tuple(slice(*edge) for edge in record.box_kji)
        voxels[where] = ATTACKS["nodule"].forged(volume, record)
        places.append(np.array(record.target_kji))
    blobs = [blob for slab in _slabs(volume.with_voxels(voxels), silent) for blob in slab]
    rows, truth = [], []
    for blob in blobs:
        if not near(volume, blob.centre_kji, known, 30.0):
            rows.append(signs_of(blob))
            truth.append(near(volume, blob.centre_kji, places, NEAR_MM))
    print(len(places), "nodules put in", end=", ")
    return np.array(rows), np.array(truth)


def near(volume: Volume, place: tuple[int, int, int], others: list[np.ndarray], mm: float) -> bool:
    return any(np.linalg.norm((np.array(place) - one) * volume.spacing_mm) <= mm for one in others)


def lesions(data: Path, name: str) -> list[np.ndarray]:
    """(k, j, i) of the true lesions of a series whose files are named by their slice."""
    rows = [row for row in csv.DictReader((data / "nodules.csv").open()) if row["folder"] == f"ct/{name}"]
    return [np.array([int(Path(row["file"]).stem), int(row["y"]), int(row["x"])]) for row in rows]


def fitted(sets: list[tuple[np.ndarray, np.ndarray]]) -> Ranker:
    table, truth = (np.concatenate(parts) for parts in zip(*sets))
    mean, spread = table.mean(axis=0), table.std(axis=0) + 1e-6
    model = LogisticRegression(C=1.0, class_weight="balanced").fit((table - mean) / spread, truth)
    return Ranker(tuple(mean), tuple(spread), tuple(model.coef_[0]), float(model.intercept_[0]))


def score(ranker: Ranker, table: np.ndarray) -> np.ndarray:
    return (table - ranker.mean) / np.array(ranker.spread) @ np.array(ranker.weights)


def rank_of(volume: Volume, ranker: Ranker, row: dict[str, str]) -> str:
    place = np.array([int(Path(row["file"]).stem), int(row["y"]), int(row["x"])])
    for n, (blob, likeness) in enumerate(ranked_blobs(volume, ranker), 1):
        if near(volume, blob.centre_kji, [place], 12.0):
            return f"{n} (likeness {likeness:.2f})"
    return "not among those listed"


if __name__ == "__main__":
    main()
