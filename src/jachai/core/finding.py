"""What a scan says: Verdict, Finding, ScanResult → the JSON object of one volume."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from jachai.core.volume import Box, Volume, Voxels

SCHEMA = "jachai.scan/1"
"""Name and version of the JSON that `ScanResult.to_json` makes; its JSON Schema is `jachai/report/scan.schema.json`."""


class Verdict(StrEnum):
    """What is said of one volume. Silence or a default must never become NO_SIGN."""

    TAMPERED = "tampered"
    NO_SIGN = "no-sign"
    INCONCLUSIVE = "inconclusive"
    UNREADABLE = "unreadable"


class Kind(StrEnum):
    """What was done to a place, as far as the evidence tells."""

    INJECTED = "injected"
    REMOVED = "removed"
    ALTERED = "altered"


@dataclass(frozen=True, slots=True)
class Cue:
    """One measurement that makes a place suspicious. z: robust standard deviations from what this scan predicts."""

    name: str
    z: float


@dataclass(frozen=True, slots=True)
class Occluded:
    """Something that a network sees at a place. fall: of its logit when that is hidden, > 0."""

    name: str
    fall: float


@dataclass(frozen=True, slots=True)
class Finding:
    """A suspicious place. center_kji and box_kji (half open) in voxels; center_mm (x, y, z) LPS, None for pictures.
    same_as_kji: centre of the place where the same tissue stands a second time, None where none was found. network: what a network's
    suspicion rests on, most first; empty where none had a say. judged: probability that it was altered, as if half of
    all places were, by the model that looks again; None where it was not asked."""

    kind: Kind
    score: float
    center_kji: tuple[float, float, float]
    center_mm: tuple[float, float, float] | None
    box_kji: Box
    diameter_mm: float | None
    source_file: str | None
    cues: tuple[Cue, ...]
    same_as_kji: tuple[float, float, float] | None = None
    network: tuple[Occluded, ...] = ()
    judged: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The JSON object of this place."""
        return {
            "kind": self.kind.value,
            "score": _rounded(self.score, 4),
            "center_kji": [_rounded(c, 2) for c in self.center_kji],
            "center_mm": None if self.center_mm is None else [_rounded(c, 2) for c in self.center_mm],
            "box_kji": [list(edge) for edge in self.box_kji],
            "diameter_mm": _rounded(self.diameter_mm, 1),
            "source_file": self.source_file,
            "cues": [{"name": cue.name, "z": _rounded(cue.z, 2)} for cue in self.cues],
            "same_as_kji": None if self.same_as_kji is None else [_rounded(c, 2) for c in self.same_as_kji],
            "network": [{"name": one.name, "fall": _rounded(one.fall, 2)} for one in self.network],
            "judged": _rounded(self.judged, 3),
        }


@dataclass(frozen=True, slots=True)
class Nodule:
    """A place that looks like a nodule. likeness: 0…1, against a vessel. altered: probability that it is not real, None
    where it was not judged. Never a diagnosis."""

    center_kji: tuple[float, float, float]
    center_mm: tuple[float, float, float] | None
    diameter_mm: float
    likeness: float
    altered: float | None
    source_file: str | None

    def to_json(self) -> dict[str, Any]:
        """The JSON object of this nodule."""
        return {
            "center_kji": [_rounded(c, 2) for c in self.center_kji],
            "center_mm": None if self.center_mm is None else [_rounded(c, 2) for c in self.center_mm],
            "diameter_mm": _rounded(self.diameter_mm, 1),
            "likeness": _rounded(self.likeness, 3),
            "altered": _rounded(self.altered, 3),
            "source_file": self.source_file,
        }


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Which engine spoke: name, version, SHA-256 of its bundle (for the untrained engine: of its calibration file)."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a p-value rests on. n_patients: intact patients it was compared with; basis: 'slice' or 'volume'.

    p_floor: 1/(n + 1), the smallest p that n patients allow. false_alarm_upper: one-sided 95 % upper bound of the
    false-alarm rate when none of the n alarmed.
    """

    basis: str
    n_patients: int
    p_floor: float
    threshold: float
    false_alarm_upper: float

    def to_json(self) -> dict[str, Any]:
        """The JSON object of this calibration."""
        return {
            "basis": self.basis,
            "n_patients": self.n_patients,
            "p_floor": _rounded(self.p_floor, 4),
            "threshold": _rounded(self.threshold, 4),
            "false_alarm_upper": _rounded(self.false_alarm_upper, 4),
        }


@dataclass(frozen=True, slots=True)
class ScanResult:
    """Everything that is said of one volume, or of one PATH that yielded none (`unreadable`).

    score: 0–1, higher = more suspicious, None where not examined. p_value: None where uncalibrated. `findings` lie above
    the threshold, `candidates` are the best ten always. `refused` maps path → reason; `complete` is False if one
    of them may hold a part of a scan (an index, a localizer, a report or a text file does not). nodules: places that look
    like one, None where they could not be looked for. ledger: what the ledger
    says of it, as JSON (`ledger.answer.SeriesAnswer.to_json`), None where none was asked.
    """

    input: str
    verdict: Verdict
    reason: str
    model: ModelIdentity
    series_uid: str | None = None
    modality: str | None = None
    shape_kji: tuple[int, int, int] | None = None
    spacing_mm: tuple[float | None, float, float] | None = None
    score: float | None = None
    p_value: float | None = None
    calibration: Calibration | None = None
    findings: tuple[Finding, ...] = ()
    candidates: tuple[Finding, ...] = ()
    nodules: tuple[Nodule, ...] | None = None
    notes: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    complete: bool = True
    warnings: tuple[str, ...] = ()
    ledger: Mapping[str, Any] | None = None
    seconds: float = 0.0
    peak_mb: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The JSON object of this result: plain types only, NaN-free, keys always present."""
        return {
            "schema": SCHEMA,
            "input": self.input,
            "series_uid": self.series_uid,
            "modality": self.modality,
            "shape_kji": None if self.shape_kji is None else list(self.shape_kji),
            "spacing_mm": None if self.spacing_mm is None else [_rounded(s, 5) for s in self.spacing_mm],
            "verdict": self.verdict.value,
            "reason": self.reason,
            "score": _rounded(self.score, 4),
            "p_value": _rounded(self.p_value, 4),
            "calibration": None if self.calibration is None else self.calibration.to_json(),
            "findings": [finding.to_json() for finding in self.findings],
            "candidates": [candidate.to_json() for candidate in self.candidates],
            "nodules": None if self.nodules is None else [nodule.to_json() for nodule in self.nodules],
            "ledger": None if self.ledger is None else dict(self.ledger),
            "notes": list(self.notes),
            "refused": dict(self.refused),
            "complete": self.complete,
            "warnings": list(self.warnings),
            "model": {"name": self.model.name, "version": self.model.version, "sha256": self.model.sha256},
            "seconds": _rounded(self.seconds, 3),
            "peak_mb": _rounded(self.peak_mb, 1),
        }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(float(value), digits)


@dataclass(frozen=True, slots=True, eq=False)
class HeatMap:
    """How suspicious every place is. values: float32 (k, j', i'), 0…1, on a grid coarser in the plane by `stride`.

    values[k, a, b] stands for voxels [k, a·stride : (a + 1)·stride, b·stride : (b + 1)·stride] (k is not coarsened).
    Zero outside the examined region. Values are comparable between scans: 0.5 is the threshold of the verdict.
    """

    values: Voxels
    stride: int

    def on_grid(self, shape_kji: tuple[int, int, int]) -> Voxels:
        """The map on the volume's own grid: float32 (k, j, i), nearest value."""
        return np.stack([self.slice_on_grid(k, shape_kji[1:]) for k in range(shape_kji[0])])

    def slice_on_grid(self, k: int, shape_ji: tuple[int, int]) -> npt.NDArray[np.float32]:
        """Slice k of the map on the volume's own grid: float32 (j, i), nearest value."""
        rows = np.minimum(np.arange(shape_ji[0]) // self.stride, self.values.shape[1] - 1)
        columns = np.minimum(np.arange(shape_ji[1]) // self.stride, self.values.shape[2] - 1)
        return np.asarray(self.values[k][np.ix_(rows, columns)])


@dataclass(frozen=True, slots=True, eq=False)
class Examination:
    """A result together with what a report or viewer needs to show it. heatmap is None where nothing was examined."""

    result: ScanResult
    volume: Volume | None
    heatmap: HeatMap | None
