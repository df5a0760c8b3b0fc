"""Volume + detector → Examination: candidates, findings, score, p-value, verdict and heat map."""

from __future__ import annotations

import time

import numpy as np

from jachai.core.finding import Examination, Finding, HeatMap, ScanResult
from jachai.core.progress import Progress, silent
from jachai.core.volume import Volume
from jachai.detectors import nodules
from jachai.detectors.detector import Detector, TamperMap
from jachai.scan import candidates, verdict


def examine(volume: Volume, detector: Detector, *, progress: Progress = silent) -> Examination:
    """Examine one volume. `refused` and `peak_mb` of the result are for the caller to fill in, who knows the files."""
    started = time.perf_counter()
    found = detector.examine(volume, progress)
    places = candidates.find(volume, found)
    score = places[0].score if places else None
    findings = tuple(place for place in places if place.score > verdict.THRESHOLD)
    decision, reason = verdict.decide(volume, score, found.reference, findings, found.limits)
    honest = score is not None and found.reference.calibrated and not found.limits
    result = ScanResult(
        input=volume.provenance.input,
        verdict=decision,
        reason=reason,
        model=found.spoke or detector.identity,
        series_uid=volume.provenance.series_uid,
        modality=volume.modality.value,
        shape_kji=volume.shape,
        spacing_mm=volume.spacing_mm,
        score=score,
        p_value=_p_value(found, places) if honest else None,
        calibration=verdict.calibration_of(found.reference) if found.reference.calibrated else None,
        findings=findings,
        candidates=places,
        nodules=nodules.examined_nodules(volume, nodules.judge(), progress) if found.nodules is None else found.nodules,
        notes=volume.provenance.notes,
        warnings=volume.provenance.warnings,
        seconds=time.perf_counter() - started,
    )
    return Examination(result, volume, heat_map(found))


def _p_value(found: TamperMap, places: tuple[Finding, ...]) -> float:
    return found.reference.p_value(float(found.evidence.max())) if places else 1.0


def heat_map(found: TamperMap) -> HeatMap:
    """Evidence as scores on the map's own grid; 0 where nothing was measured."""
    scores = candidates.score_of(np.nan_to_num(found.evidence, nan=-1e3, neginf=-1e3, posinf=1e3))
    return HeatMap(np.asarray(np.where(np.isfinite(found.evidence), scores, 0), dtype=np.float32), found.stride)
