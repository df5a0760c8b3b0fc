"""A slab of a CT → round dense blobs in the lung, most nodule-like first: where a reader would see a nodule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from jachai.core.volume import Mask, Voxels

Index = tuple[float, float, float]
Shape = tuple[int, int, int]
BLOB_GRID_MM = 2.0
"""Grid on which blobs are sought; nodules below 5 mm are missed."""
BLOB_SIGMAS_MM = (1.8, 3.0, 5.0)
"""Gaussians whose neighbours are subtracted: blobs of some 5–10 and 10–18 mm."""
BLOB_CONTRAST_HU = 60.0
"""Least difference of two such Gaussians at a nodule's middle."""
LUNG_WALL_HU = -400.0
BLOB_APART_MM = 12.0
"""Of two blobs closer than this the better one is kept."""
ROUNDNESS = 0.5
"""Smallest over largest curvature of a blob: vessels (0) fail, balls (1) pass."""
BLOB_ROOM_MM, BLOB_LUNG = 13.0, 0.75
"""At least this share of the voxels within that distance is lung: not at the hilum, not in the wall."""
BLOB_HU = -500.0
"""A nodule's middle, smoothed, is denser than this."""


@dataclass(frozen=True, slots=True)
class Signs:
    """What makes a blob a nodule: roundness 0…1 (vessel … ball), contrast_hu against its surroundings, room: share of lung
    round it."""

    roundness: float
    contrast_hu: float
    room: float


@dataclass(frozen=True, slots=True)
class Blob:
    """A nodule-like place: centre voxel, rough diameter, and its signs."""

    centre_kji: Shape
    diameter_mm: float
    signs: Signs


def blobs_in(slab: Voxels, spacing: Index, first: int, slices: int) -> list[Blob]:
    """Blobs of a slab (k, j, i) in HU that begins at slice `first` of a scan of `slices`. spacing: (k, j, i) in mm."""
    pooled, cell = _pooled(slab, spacing)
    if not pooled.size:
        return []
    grid = tuple(s * c for s, c in zip(spacing, cell))
    shape = (slices, *slab.shape[1:])
    return [Blob(_voxel(place, cell, first, shape), diameter, signs) for place, diameter, signs in _blobs(pooled, grid)]


def _pooled(slab: Voxels, spacing: Index) -> tuple[Voxels, Shape]:
    """Means over cells of about BLOB_GRID_MM, and the cell's voxels (k, j, i)."""
    cell: Shape = tuple(max(1, round(BLOB_GRID_MM / s)) for s in spacing)  # type: ignore[assignment]
    k, j, i = (n // c for n, c in zip(slab.shape, cell))
    trimmed = slab[: k * cell[0], : j * cell[1], : i * cell[2]]
    rows = trimmed.reshape(k * cell[0], j, cell[1], i * cell[2]).mean(axis=2)
    return np.asarray(rows.reshape(k, cell[0], j, i, cell[2]).mean(axis=(1, 4))), cell


def _blobs(slab: Voxels, grid: tuple[float, ...]) -> list[tuple[tuple[int, ...], float, Signs]]:
    """(cell, diameter in mm, signs) of round dense maxima enclosed by lung, most nodule-like first.

    Differences of Gaussians at two scales find them; the ratio of curvatures tells balls from vessels.
    """
    lung = _enclosed(slab < LUNG_WALL_HU)
    if not lung.any():
        return []
    where = ndimage.find_objects(lung.astype(np.int8))[0]
    offset = [s.start for s in where]
    slab, lung = slab[where], lung[where]
    density = np.minimum(slab, np.float32(100))
    blurred = [ndimage.gaussian_filter(density, [sigma / g for g in grid], truncate=3) for sigma in BLOB_SIGMAS_MM]
    room = ndimage.uniform_filter(
        (slab < BLOB_HU).astype(np.float32), [max(1, round(2 * BLOB_ROOM_MM / g)) for g in grid]
    )
    allowed = lung & (room > BLOB_LUNG) & (slab > BLOB_HU)
    found = []
    for fine, coarse, sigma in zip(blurred, blurred[1:], BLOB_SIGMAS_MM[1:]):
        contrast = fine - coarse
        peaks = allowed & (contrast > BLOB_CONTRAST_HU) & (contrast == ndimage.maximum_filter(contrast, 3))
        places = np.argwhere(peaks)
        for place, curvature in zip(places, np.linalg.eigvalsh(_hessians(fine, places, grid))):
            roundness = float(curvature[2] / curvature[0]) if curvature[2] < 0 else 0.0
            if roundness > ROUNDNESS:
                cell = tuple(int(c) + start for c, start in zip(place, offset))
                seen = Signs(roundness, float(contrast[tuple(place)]), float(room[tuple(place)]))
                found.append((roundness * seen.contrast_hu, cell, 3 * sigma, seen))
    found.sort(key=lambda one: one[:3], reverse=True)
    apart: list[tuple[tuple[int, ...], float, Signs]] = []
    for _, cell, diameter, seen in found:
        if all(_distance(cell, other, grid) > BLOB_APART_MM for other, _, _ in apart):
            apart.append((cell, diameter, seen))
    return apart


def _distance(a: tuple[int, ...], b: tuple[int, ...], grid: tuple[float, ...]) -> float:
    return float(np.linalg.norm([(x - y) * g for x, y, g in zip(a, b, grid)]))


def _enclosed(dark: Mask) -> Mask:
    """Dark places that do not touch the slab's sides, with what they surround filled in, slice by slice."""
    out = np.zeros_like(dark)
    for k, slice_ in enumerate(dark):
        labels, _ = ndimage.label(slice_)
        rim = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
        keep = np.ones(labels.max() + 1, dtype=bool)
        keep[rim] = False
        keep[0] = False
        out[k] = ndimage.binary_fill_holes(keep[labels])
    return out


def _hessians(field: Voxels, places: npt.NDArray[np.int64], grid: tuple[float, ...]) -> npt.NDArray[np.float64]:
    """(n, 3, 3) second differences per mm² at n cells."""
    padded = np.pad(field, 1, mode="edge").astype(np.float64)
    unit = np.eye(3, dtype=np.int64)

    def at(offset: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        k, j, i = (places + 1 + offset).T
        return np.asarray(padded[k, j, i])

    out = np.empty((len(places), 3, 3))
    for a in range(3):
        for b in range(a, 3):
            if a == b:
                second = at(unit[a]) - 2 * at(0 * unit[a]) + at(-unit[a])
            else:
                same, cross = unit[a] + unit[b], unit[a] - unit[b]
                second = (at(same) + at(-same) - at(cross) - at(-cross)) / 4
            out[:, a, b] = out[:, b, a] = second / (grid[a] * grid[b])
    return out


def _voxel(place: tuple[int, ...], cell: Shape, first: int, shape: Shape) -> Shape:
    """Cell → its middle voxel in the scan."""
    k, j, i = (min(p * c + c // 2, n - 1) for p, c, n in zip(place, cell, shape))
    return min(k + first, shape[0] - 1), j, i
