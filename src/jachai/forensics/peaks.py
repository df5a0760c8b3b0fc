"""A map on the coarse grid → its peaks, most suspicious first, apart from each other, each with the cells that belong to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from jachai.core.volume import Box, Mask, Volume

Map = npt.NDArray[np.float32]
MOST = 10
"""How many peaks are kept."""
APART_MM = 20.0
"""Two peaks closer than this are one place: an altered cube is 20–40 mm wide."""
REACH_MM = 24.0
"""A peak reaches at most this far from its peak."""
BOX_SHARE = 0.5
"""The box holds what is connected to the peak above this share of its evidence."""
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
