"""Intact scans → the calibration of the self-reference engine, and how it would have judged patients left out.

    python benchmarks/calibrate_selfreference.py [--data ../shared/data] [--write]

For CT: single slices (every sixth of each series) and whole series, apart, each with every patient's most suspicious
place, and the surest repeat of tissue in it. For MR: the same on the few studies there are, marked as uncalibrated; the scales of its
cues and its threshold also know intact images made by code (`made_mr.py`), which are no patients. Uses intact scans only; tampered slices play
no part. With --write the file in the package is replaced.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import made_mr
import numpy as np
import pydicom

from jachai.core.volume import Volume
from jachai.detectors.selfreference import CALIBRATION_FILE, REPEAT_LEAST, REPEAT_MARGIN, threshold_of
from jachai.forensics import repeats
from jachai.forensics.domain import STACK, limits_of
from jachai.forensics.selfreference import Evidence, measure
from jachai.io.files import Refusal, read
from jachai.training.search_sets import slab

EVERY = 6
"""Every sixth slice of a series stands for its single slices."""
MADE = "made "
"""Begins the name of an image that was made by code."""
Peaks = dict[str, float]
"""Cue → its highest z in one volume."""


def patient_of(path: Path, folder: str, manifest: dict[str, str]) -> str:
    patient = manifest.get(folder, folder)
    return str(pydicom.dcmread(path, stop_before_pixels=True).PatientID) if patient.endswith("patients") else patient


def units(data: Path, modality: str, basis: str, manifest: dict[str, str]) -> Iterator[tuple[str, Path]]:
    """(patient, path) of everything to examine: single files, or whole folders."""
    root = data / modality.lower()
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        files = sorted(folder.glob("*.dcm"))
        name = f"{modality.lower()}/{folder.name}"
        if basis == "slice":
            for file in files if manifest.get(name, "").endswith("patients") else files[::EVERY]:
                yield patient_of(file, name, manifest), file
        elif not manifest.get(name, "").endswith("patients") and len(files) >= STACK:
            yield patient_of(files[0], name, manifest), folder


def volumes(path: Path) -> Iterator[Volume]:
    for item in read(path):
        if isinstance(item, Refusal):
            raise SystemExit(f"{path}: {item.reason}")
        yield item


def made(data: Path, basis: str) -> Iterator[tuple[str, Volume]]:
    """(name, volume) of the MR images made by code, or of their single slices."""
    series = [volume for folder in sorted((data / "ct").iterdir()) for volume in volumes(folder)]
    chests = made_mr.chests(volume for volume in series if volume.shape[0] >= STACK)
    for name, volume in (*made_mr.heads(), *chests):
        if basis == "volume":
            yield f"{MADE}{name}", volume
        else:
            yield from ((f"{MADE}{name}", slab(volume, k, k + 1)) for k in range(0, volume.shape[0], EVERY))


def peaks(evidence: Evidence) -> Peaks:
    return {d.cue.name: float(np.nanmax(d.z)) for d in evidence.deviations if np.isfinite(d.z).any()}


def surest_repeat(volume: Volume) -> float:
    return max((one.z for one in repeats.find(volume, repeats.measured(volume))), default=0.0)


def alarming_repeats(highest: dict[str, float]) -> list[str]:
    """Patients whose surest repeat would have alarmed, had the calibration never seen them."""
    return [
        f"{patient} ({z:.1f})"
        for patient, z in highest.items()
        if z > max(REPEAT_LEAST, REPEAT_MARGIN * max(other for who, other in highest.items() if who != patient))
    ]


def calibrate(rows: list[tuple[str, Peaks]]) -> tuple[dict[str, tuple[float, float]], dict[str, float]]:
    """Peaks of intact volumes → (cue scales, highest evidence of each patient)."""
    by_cue: dict[str, list[float]] = defaultdict(list)
    for _, row in rows:
        for name, value in row.items():
            by_cue[name].append(value)
    scales = {name: (float(np.median(v)), float(np.percentile(v, 95))) for name, v in by_cue.items()}
    patients: dict[str, float] = {}
    for patient, row in rows:
        patients[patient] = max(patients.get(patient, -np.inf), evidence_of(row, scales))
    return scales, patients


def evidence_of(row: Peaks, scales: dict[str, tuple[float, float]]) -> float:
    return max(
        ((z - scales[n][0]) / max(scales[n][1] - scales[n][0], 0.1) for n, z in row.items() if n in scales),
        default=-np.inf,
    )


def left_out(rows: list[tuple[str, Peaks]], basis: str) -> dict[str, float]:
    """Patient → highest evidence over the threshold, had the calibration never seen him; above 1 he would alarm."""
    ratios = {}
    for patient in sorted({p for p, _ in rows}):
        scales, others = calibrate([row for row in rows if row[0] != patient])
        real = [score for who, score in others.items() if not who.startswith(MADE)]
        limit = threshold_of(basis, real, [score for who, score in others.items() if who.startswith(MADE)])
        ratios[patient] = max(evidence_of(row, scales) for who, row in rows if who == patient) / limit
    return ratios


def entry_of(
    modality: str,
    basis: str,
    scales: dict[str, tuple[float, float]],
    patients: dict[str, float],
    highest: dict[str, float],
) -> dict[str, Any]:
    """What the file of the calibration holds of a modality and basis. highest: patient → z of the surest repeat."""
    order = sorted((who for who in patients if not who.startswith(MADE)), key=lambda patient: patients[patient])
    by_code = sorted(round(score, 4) for who, score in patients.items() if who.startswith(MADE))
    return {
        "modality": modality,
        "basis": basis,
        "calibrated": modality == "CT",
        "scales": {name: [round(low, 4), round(high, 4)] for name, (low, high) in sorted(scales.items())},
        "patients": {f"patient-{n}": round(patients[who], 4) for n, who in enumerate(order, 1)},
        **({"made": by_code} if by_code else {}),
        "repeats": {f"patient-{n}": round(highest[who], 2) for n, who in enumerate(order, 1)},
    }


def main() -> None:
    here = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=here.parent / "shared" / "data")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    manifest = {row["folder"]: row["patient"] for row in csv.DictReader((options.data / "manifest.csv").open())}
    target = here / "src" / "jachai" / "detectors" / CALIBRATION_FILE
    shipped = json.loads(target.read_text())["bases"]
    bases = []
    for modality in ("CT", "MR"):
        for basis in ("slice", "volume"):
            rows = []
            highest: dict[str, float] = defaultdict(float)
            for patient, path in units(options.data, modality, basis, manifest):
                for volume in volumes(path):
                    evidence = measure(volume)
                    if not limits_of(volume, evidence):
                        rows.append((patient, peaks(evidence)))
                        highest[patient] = max(highest[patient], surest_repeat(volume))
            if len({patient for patient, _ in rows}) < 2:
                print(f"{modality} {basis}: fewer than two patients, kept as it was")
                bases += [entry for entry in shipped if (entry["modality"], entry["basis"]) == (modality, basis)]
                continue
            for name, volume in made(options.data, basis) if modality == "MR" else ():
                evidence = measure(volume)
                if not limits_of(volume, evidence):
                    rows.append((name, peaks(evidence)))
            scales, patients = calibrate(rows)
            ratios = left_out(rows, basis)
            alarms = [f"{patient} ({ratio:.2f})" for patient, ratio in ratios.items() if ratio > 1]
            print(
                f"{modality} {basis}: {len(rows)} volumes of {len(highest)} patients and {len(patients) - len(highest)} images made by code; "
                f"left out, {len(alarms)} would alarm: {alarms}"
            )
            print(f"  repeats: z up to {max(highest.values()):.1f}; left out, would alarm: {alarming_repeats(highest)}")
            bases.append(entry_of(modality, basis, scales, patients, highest))
    if options.write:
        target.write_text(
            json.dumps({"about": "intact scans of shared/data (CC BY, MIT)", "bases": bases}, indent=1) + "\n"
        )
        print(f"written: {target.name}")


if __name__ == "__main__":
    main()
