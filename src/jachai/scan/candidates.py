"""Tamper map → the most suspicious places, ranked: peaks apart from each other, with box, centre, size and cues."""

from __future__ import annotations

import numpy as np

from jachai.core.finding import Cue, Finding, Kind
from jachai.core.volume import Box, Volume
from jachai.detectors.detector import Map, TamperMap
from jachai.forensics.peaks import Peak, cell_spacing_mm, peaks

JUDGED_MM = 12.0
"""A place that was judged so near to a candidate is the candidate."""
UNDECIDED = 0.15
"""A predicted kind this near to even odds is no kind."""


def score_of(evidence: Map | float) -> Map:
    """Evidence (threshold at 1) → score 0–1: 0.5 at the threshold, 0.1 at the peak of a typical intact scan (0)."""
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + 9 ** (1 - np.asarray(evidence, dtype=np.float64))))


def find(volume: Volume, found: TamperMap) -> tuple[Finding, ...]:
    """The best `MOST` places, most suspicious first."""
    spacing = cell_spacing_mm(volume, found.stride)
    return tuple(_finding(volume, found, peak) for peak in peaks(found.evidence, spacing))


def _finding(volume: Volume, found: TamperMap, peak: Peak) -> Finding:
    stride = found.stride
    k, j, i = peak.centroid
    center = (k, (j + 0.5) * stride - 0.5, (i + 0.5) * stride - 0.5)
    (k0, k1), (j0, j1), (i0, i1) = peak.box
    rows, columns = volume.shape[1:]
    box: Box = (
        (k0, k1),
        (j0 * stride, min(rows, j1 * stride)),
        (i0 * stride, min(columns, i1 * stride)),
    )
    position = None if volume.geometry is None else volume.geometry.index_to_mm(center)
    dj, di = (volume.spacing_mm or (None, 0.0, 0.0))[1:]
    diameter = 2 * float(np.sqrt(peak.area_cells * stride**2 * dj * di / np.pi)) if dj and di else None
    file = volume.provenance.file_of_slice(round(k))
    return Finding(
        kind=_kind(found, peak),
        score=float(score_of(peak.evidence)),
        center_kji=center,
        center_mm=None if position is None else (float(position[0]), float(position[1]), float(position[2])),
        box_kji=box,
        diameter_mm=diameter,
        source_file=None if file is None else str(file),
        cues=_cues(found, peak),
        same_as_kji=_twin(found, peak),
        network=found.occluded(peak.index) if found.occluded and peak.evidence > 1 else (),
        judged=_judged(found, center, cell_spacing_mm(volume, stride)),
    )


def _judged(found: TamperMap, center: tuple[float, float, float], step_mm: tuple[float, float, float]) -> float | None:
    """What a second stage says of the surest place near by; None where it looked at none."""
    voxel = np.array(step_mm) / [1, found.stride, found.stride]
    near = [
        one.altered for one in found.judged if np.linalg.norm((np.array(one.center_kji) - center) * voxel) <= JUDGED_MM
    ]
    return max(near, default=None)


def _twin(found: TamperMap, peak: Peak) -> tuple[float, float, float] | None:
    """The centre of the place that holds the same tissue as a peak; None where there is none."""
    for one in found.repeats:
        for here, there in ((one.here, one.there), (one.there, one.here)):
            cells = here // np.array([1, found.stride, found.stride])
            if (np.abs(cells - np.array(peak.index)).max(axis=1) <= 1).any():
                k, j, i = there.mean(axis=0)
                return float(k), float(j), float(i)
    return None


def _strongest(values: Map, peak: Peak) -> float:
    """Largest value in the 3 × 3 × 3 cells round the peak; −inf if none was measured."""
    around = values[tuple(slice(max(0, x - 1), x + 2) for x in peak.index)]
    return float(around[np.isfinite(around)].max()) if np.isfinite(around).any() else -np.inf


def _kind(found: TamperMap, peak: Peak) -> Kind:
    """What the detector predicts or, without that, the kind of the strongest cue; `altered` where it is undecided."""
    if found.injected is not None:
        share = float(found.injected[peak.index])
        return Kind.ALTERED if abs(share - 0.5) < UNDECIDED else (Kind.INJECTED if share > 0.5 else Kind.REMOVED)
    if not found.cue_evidence:
        return Kind.ALTERED
    shares = {name: _strongest(share, peak) for name, share in found.cue_evidence.items()}
    beyond = {found.kinds[name] for name, share in shares.items() if share > 1}
    return Kind.ALTERED if len(beyond) > 1 else found.kinds[max(shares, key=lambda name: shares[name])]


def _cues(found: TamperMap, peak: Peak) -> tuple[Cue, ...]:
    values = {name: _strongest(z, peak) for name, z in found.cues.items()}
    measured = [Cue(name, z) for name, z in values.items() if np.isfinite(z)]
    return tuple(sorted(measured, key=lambda cue: -cue.z))
