"""Tamper map → the most suspicious places, ranked: peaks apart from each other, with box, centre, size and cues."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from jachai.core.finding import Cue, Finding, Kind
from jachai.core.volume import Box, Mask, Volume
from jachai.detectors.detector import Map, TamperMap

MOST = 10
"""How many candidates are kept."""
APART_MM = 20.0
"""Two candidates closer than this are one place: an altered cube is 20–40 mm wide."""
REACH_MM = 24.0
"""A candidate reaches at most this far from its peak."""
BOX_SHARE = 0.5
"""The box holds what is connected to the peak above this share of its evidence."""
UNDECIDED = 0.15
"""A predicted kind this near to even odds is no kind."""
DEFAULT_SPACING_MM = (1.0, 0.7, 0.7)
"""For distances within a picture only, which has no geometry; no millimetre of it is reported."""


@dataclass(frozen=True, slots=True)
class Peak:
    """One place on the coarse grid: where, how much, and the cells that belong to it."""

    index: tuple[int, int, int]
    evidence: float
    box: Box
    centroid: tuple[float, float, float]
    area_cells: float


def score_of(evidence: Map | float) -> Map:
    """Evidence (threshold at 1) → score 0–1: 0.5 at the threshold, 0.1 at the peak of a typical intact scan (0)."""
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + 9 ** (1 - np.asarray(evidence, dtype=np.float64))))


def find(volume: Volume, found: TamperMap) -> tuple[Finding, ...]:
    """The best `MOST` places, most suspicious first."""
    spacing = cell_spacing_mm(volume, found.stride)
    return tuple(_finding(volume, found, peak) for peak in peaks(found.evidence, spacing))


def cell_spacing_mm(volume: Volume, stride: int) -> tuple[float, float, float]:
    """(k, j, i) distance between cells of the map in mm."""
    dk, dj, di = volume.spacing_mm or DEFAULT_SPACING_MM
    return dk or DEFAULT_SPACING_MM[0], dj * stride, di * stride


def peaks(evidence: Map, spacing_mm: tuple[float, float, float]) -> list[Peak]:
    """Local maxima, greedily, each at least APART_MM from the ones before."""
    local = (evidence == ndimage.maximum_filter(evidence, size=3)) & np.isfinite(evidence)
    places = np.argwhere(local)
    order = np.argsort(-evidence[local], kind="stable")
    step = np.asarray(spacing_mm)
    chosen: list[Peak] = []
    for place in places[order]:
        if len(chosen) == MOST:
            break
        if all(np.linalg.norm((place - peak.index) * step) >= APART_MM for peak in chosen):
            chosen.append(_peak(evidence, (int(place[0]), int(place[1]), int(place[2])), step))
    return chosen


def _peak(evidence: Map, index: tuple[int, int, int], step: np.ndarray) -> Peak:
    height = float(evidence[index])
    reach = np.maximum(1, np.round(REACH_MM / step)).astype(int)
    low = np.maximum(0, np.array(index) - reach)
    high = np.minimum(evidence.shape, np.array(index) + reach + 1)
    window = evidence[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    region = _connected(window >= _foot(height), tuple(np.array(index) - low))
    cells = np.argwhere(region) + low
    first, last = cells.min(axis=0), cells.max(axis=0) + 1
    weights = evidence[tuple(cells.T)] - min(0.0, float(evidence[tuple(cells.T)].min())) + 1e-6
    centre = np.average(cells, axis=0, weights=weights)
    box: Box = ((int(first[0]), int(last[0])), (int(first[1]), int(last[1])), (int(first[2]), int(last[2])))
    area = float(region.sum(axis=(1, 2)).max())
    return Peak(index, height, box, (float(centre[0]), float(centre[1]), float(centre[2])), area)


def _foot(height: float) -> float:
    """Evidence above which a cell belongs to a peak; also right for peaks below zero."""
    return height - (1 - BOX_SHARE) * max(abs(height), 0.2)


def _connected(above: Mask, seed: tuple[int, ...]) -> Mask:
    labels, _ = ndimage.label(above)
    return np.asarray(labels == labels[seed])


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
    )


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
