"""Examinations made by hand: what the report must be able to show, without running an engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jachai.core.finding import (
    Calibration,
    Cue,
    Examination,
    Finding,
    HeatMap,
    Kind,
    ModelIdentity,
    ScanResult,
    Verdict,
)
from jachai.core.geometry import Geometry
from jachai.core.volume import Box, Modality, Provenance, Volume

MODEL = ModelIdentity("self-reference", "1", "0" * 64)
CALIBRATION = Calibration("volume", 11, 1 / 12, 0.5, 0.24)
STRIDE = 4


def volume(
    modality: Modality = Modality.CT,
    shape: tuple[int, int, int] = (40, 128, 160),
    *,
    attributes: dict[str, str] | None = None,
) -> Volume:
    """A body of soft tissue with two lungs, marked so that left, back and head can be told apart."""
    rng = np.random.default_rng(7)
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in shape), indexing="ij")
    body = (i / 0.9) ** 2 + (j / 0.8) ** 2 < 1
    lungs = (((np.abs(i) - 0.42) / 0.32) ** 2 + (j / 0.55) ** 2 + (k / 1.2) ** 2) < 1
    spine = (i / 0.1) ** 2 + ((j - 0.6) / 0.12) ** 2 < 1
    heart = ((i - 0.2) / 0.3) ** 2 + ((j + 0.2) / 0.3) ** 2 + ((k + 0.3) / 0.6) ** 2 < 1
    values = np.where(body, 40.0, -1000.0)
    values = np.where(lungs & body, -850.0, values)
    values = np.where(heart, 60.0, values)
    values = np.where(spine, 500.0, values) + rng.normal(0, 25, shape)
    if modality is not Modality.CT:
        values = values + 1000
    geometry = None if modality is Modality.PICTURE else Geometry.regular(shape[0], (2.5, 1.6, 1.6), (-128, -100, 0))
    files = tuple(Path(f"study/slice-{n:03d}.dcm") for n in range(shape[0]))
    provenance = Provenance(
        "study", "DICOM", "2.25.1", files, 1.0, attributes=attributes or {"Maker": "Made up", "Kernel": "B30f"}
    )
    return Volume(values.astype(np.float32), modality, geometry, provenance)


def finding(center: tuple[int, int, int], score: float, kind: Kind = Kind.REMOVED, *, mm: bool = True) -> Finding:
    """A place with a box of 12 × 20 × 20 voxels (one slice if center is in slice 0)."""
    k, j, i = center
    box: Box = ((max(k - 6, 0), k + 6 if k else 1), (j - 10, j + 10), (i - 10, i + 10))
    cues = (Cue("noise-level", 7.9), Cue("between-slices", -4.2), Cue("spectrum", 1.4), Cue("skewness", -0.3))
    center_mm = (i * 1.6 - 128, j * 1.6 - 100, k * 2.5) if mm else None
    return Finding(kind, score, (float(k), float(j), float(i)), center_mm, box, 32.0, f"study/slice-{k:03d}.dcm", cues)


def heat(of: Volume, places: tuple[tuple[tuple[int, int, int], float], ...]) -> HeatMap:
    """Smooth bumps of the given height at the given voxels, over a low ground."""
    k, j, i = of.shape
    grid = np.meshgrid(
        np.arange(k),
        (np.arange(-(-j // STRIDE)) + 0.5) * STRIDE,
        (np.arange(-(-i // STRIDE)) + 0.5) * STRIDE,
        indexing="ij",
    )
    values = 0.12 + 0.06 * np.random.default_rng(3).random(grid[0].shape)
    for (pk, pj, pi), height in places:
        distance = ((grid[0] - pk) / 5) ** 2 + ((grid[1] - pj) / 9) ** 2 + ((grid[2] - pi) / 9) ** 2
        values = np.maximum(values, height * np.exp(-0.5 * distance))
    return HeatMap(values.astype(np.float32), STRIDE)


def _result(verdict: Verdict, reason: str, of: Volume | None, **changes: object) -> ScanResult:
    known = (
        {}
        if of is None
        else {
            "series_uid": of.provenance.series_uid,
            "modality": of.modality.value,
            "shape_kji": of.shape,
            "spacing_mm": of.spacing_mm,
        }
    )
    return ScanResult(
        "study/CT chest", verdict, reason, MODEL, **{**known, "seconds": 4.2, "peak_mb": 640.0, **changes}
    )  # type: ignore[arg-type]


def tampered() -> Examination:
    """Two findings, everything else that a report can hold."""
    scan = volume()
    findings = (finding((22, 64, 46), 0.93), finding((12, 70, 118), 0.66, Kind.INJECTED))
    return Examination(
        _result(
            Verdict.TAMPERED,
            "Two places deviate from what this scan's own noise predicts.",
            scan,
            score=0.93,
            p_value=1 / 12,
            calibration=CALIBRATION,
            findings=findings,
            candidates=(*findings, finding((30, 40, 60), 0.31)),
            notes=("The instance UIDs are numbered 0, 1, 2: no scanner does that.",),
            warnings=("Slice 18 is missing.",),
            refused={"study/readme.txt": "No image in it.", "study/<b>x</b>.dcm": "Truncated."},
        ),
        scan,
        heat(scan, (((22, 64, 46), 0.95), ((12, 70, 118), 0.7))),
    )


def intact() -> Examination:
    """No finding, three candidates below the threshold."""
    scan = volume()
    places = (
        finding((20, 60, 110), 0.34, Kind.ALTERED),
        finding((9, 70, 40), 0.29, Kind.INJECTED),
        finding((30, 66, 90), 0.2),
    )
    return Examination(
        _result(
            Verdict.NO_SIGN,
            "No place deviates more than in intact scans.",
            scan,
            score=0.34,
            p_value=7 / 12,
            calibration=CALIBRATION,
            candidates=places,
        ),
        scan,
        heat(scan, (((20, 60, 110), 0.34), ((9, 70, 40), 0.29))),
    )


def inconclusive() -> Examination:
    """Read, but too little to say anything."""
    scan = volume(shape=(1, 64, 64))
    return Examination(
        _result(Verdict.INCONCLUSIVE, "The slice holds too little tissue to know its noise.", scan), scan, None
    )


def mr() -> Examination:
    """Examined, uncalibrated."""
    scan = volume(Modality.MR)
    place = finding((20, 60, 80), 0.41, Kind.ALTERED)
    return Examination(
        _result(
            Verdict.NO_SIGN, "No place stands out from this scan's own noise.", scan, score=0.41, candidates=(place,)
        ),
        scan,
        heat(scan, (((20, 60, 80), 0.41),)),
    )


def picture() -> Examination:
    """One slice without geometry."""
    scan = volume(Modality.PICTURE, (1, 128, 160))
    place = finding((0, 60, 80), 0.44, Kind.ALTERED, mm=False)
    return Examination(
        _result(
            Verdict.INCONCLUSIVE,
            "A picture has no Hounsfield units and may have lost detail.",
            scan,
            score=0.44,
            candidates=(place,),
            spacing_mm=None,
            series_uid=None,
        ),
        scan,
        heat(scan, (((0, 60, 80), 0.44),)),
    )


def unreadable() -> Examination:
    """A PATH that yields no volume."""
    return Examination(
        _result(
            Verdict.UNREADABLE,
            "The file ends in the middle of the pixels.",
            None,
            refused={"study/CT chest": "Truncated."},
        ),
        None,
        None,
    )


ALL = (tampered, intact, inconclusive, mr, picture, unreadable)
