"""Volume → places as an attacker would choose them: healthy tissue to put something in, a nodule-like blob to take away.

Only a few slices are looked at, so that the cost does not grow with the scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from jachai.core.errors import UsageError
from jachai.core.volume import Box, Mask, Modality, Volume, Voxels
from jachai.forensics.tissue import COARSE, coarse_body, coarse_lung, coarse_mean
from jachai.tamper.attack import Index, Shape, Target, box_around, clipped, cut, slices, spacing_of

LOOKED_AT = 8
"""Slices drawn to find healthy tissue in."""
TESTED = 14
"""Places tested for each one that is wanted; if none passes, the best of them is taken."""
VESSEL_HU = -550.0
"""Lung smoothed over 2 mm above this is vessel, wall or nodule."""
AIRWAY_HU = -965.0
"""Lung smoothed over 2 mm below this is airway or bulla: parenchyma lies at −900…−750 HU."""
LUNG_MEAN_HU = (-940.0, -680.0)
"""Believable mean of healthy parenchyma over a clearance cube."""
VESSEL_SHARE, AIRWAY_SHARE = 0.04, 0.10
"""Tolerated shares of such voxels in the clearance cube."""
SLAB_MM = 45.0
"""Thickness searched for nodules at a time."""
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
SAME_WALL = 0.08
"""Largest difference between the shares of dense tissue of a place and its mirror image."""
BLOB_HU = -500.0
"""A nodule's middle, smoothed, is denser than this."""


@dataclass(frozen=True, slots=True)
class Blob:
    """A nodule-like place: centre voxel and rough diameter."""

    centre_kji: Shape
    diameter_mm: float


def material(volume: Volume, rng: np.random.Generator, count: int, target: Target | None) -> tuple[Shape, ...]:
    """`count` healthy places to choose from and to learn from; where the user's target lies in a scan without any (an
    abdomen, a crop), the target itself. Raises UsageError if there is neither."""
    try:
        return healthy_places(volume, rng, count)
    except UsageError:
        if target is None:
            raise
        return (target.index_in(volume),) * count


def removal_place(volume: Volume, rng: np.random.Generator, target: Target | None, healthy: Shape) -> Shape:
    """The user's target, or else a nodule-like blob, or, where a look at one slab shows none, the healthy place given."""
    if target is not None:
        return target.index_in(volume)
    blobs = nodule_like(volume, rng)
    return blobs[int(rng.integers(min(3, len(blobs))))].centre_kji if blobs else healthy


def healthy_places(
    volume: Volume, rng: np.random.Generator, count: int, clearance_mm: float = 6.0, room_mm: float = 16.0
) -> tuple[Shape, ...]:
    """`count` voxels in healthy lung (CT) or in quiet tissue inside the body (MR), best first where none is perfect.

    Free of vessels, airways and walls within clearance_mm; room_mm from the first and last slice where the scan allows.
    Raises UsageError if there is no lung, or no body, in the slices looked at.
    """
    spacing = spacing_of(volume)
    cells = _cells(volume, rng, room_mm / spacing[0])
    tested = cells[rng.permutation(len(cells))[: max(TESTED, TESTED * count // 2)]]
    scored = []
    for k, j, i in tested:
        jitter = rng.integers(0, COARSE, 2)
        place = (int(k), min(int(j + jitter[0]), volume.shape[1] - 1), min(int(i + jitter[1]), volume.shape[2] - 1))
        cost = _unfitness(volume, place, spacing, clearance_mm)
        scored.append((cost, place))
        if sum(c == 0 for c, _ in scored) >= count:
            break
    scored.sort(key=lambda pair: pair[0])
    return tuple(scored[n % len(scored)][1] for n in range(count))


def nodule_like(volume: Volume, rng: np.random.Generator) -> list[Blob]:
    """Round dense blobs inside the lung in a slab of SLAB_MM drawn by chance, most nodule-like first. CT only."""
    if volume.modality is not Modality.CT:
        return []
    spacing = spacing_of(volume)
    thick = min(volume.shape[0], max(3, round(SLAB_MM / spacing[0])))
    first = int(rng.integers(volume.shape[0] - thick + 1))
    if thick * spacing[0] < SLAB_MM / 3:
        return []
    slab, cell = _pooled(volume.voxels[first : first + thick], spacing)
    grid = tuple(s * c for s, c in zip(spacing, cell))
    blobs = _blobs(slab, grid)
    return [Blob(_voxel(place, cell, first, volume.shape), diameter) for place, diameter in blobs]


def cleanest(volume: Volume, places: Sequence[Shape], side_mm: float, count: int) -> tuple[Shape, ...]:
    """The `count` places round which a cube of that side holds the least chest wall or vessels (CT), or is most even
    (MRI): whoever copies tissue takes it from there."""
    sides: Shape = tuple(max(1, round(side_mm / s)) for s in spacing_of(volume))  # type: ignore[assignment]
    return tuple(sorted(places, key=lambda place: _uncleanness(volume, box_around(place, sides)))[:count])


def _uncleanness(volume: Volume, box: Box) -> float:
    """CT: share of voxels denser than VESSEL_HU, or outside the scan. MRI: spread over mean."""
    block = cut(volume.voxels, box)
    if volume.modality is not Modality.CT:
        return float(block.std()) / max(float(np.abs(block).mean()), 1e-6)
    outside = 1 - np.prod([(b - a) / (hi - lo) for (lo, hi), (a, b) in zip(box, clipped(box, volume.shape))])
    return float((block > VESSEL_HU).mean()) + float(outside)


def has_as_much_wall(volume: Volume, place: Shape, other: Shape, side_mm: float) -> bool:
    """Do the cubes round both places hold about the same share of dense tissue?"""
    sides: Shape = tuple(max(1, round(side_mm / s)) for s in spacing_of(volume))  # type: ignore[assignment]
    shares = [_uncleanness(volume, box_around(one, sides)) for one in (place, other)]
    return abs(shares[0] - shares[1]) < SAME_WALL


def is_healthy(volume: Volume, place: Shape, clearance_mm: float = 6.0) -> bool:
    """True if the voxel lies in healthy tissue by the rule of `healthy_places`."""
    return _unfitness(volume, place, spacing_of(volume), clearance_mm) == 0


def densest_place(volume: Volume, rng: np.random.Generator, near: Target | None = None, reach_mm: float = 9.0) -> Shape:
    """The densest place, smoothed over 3 mm, within reach of a place in healthy tissue (or, without any, of `near`): a
    vessel."""
    spacing = spacing_of(volume)
    centre = material(volume, rng, 1, near)[0]
    sides: Shape = tuple(max(1, 2 * round(reach_mm / s) + 1) for s in spacing)  # type: ignore[assignment]
    box = clipped(box_around(centre, sides), volume.shape)
    smooth = ndimage.uniform_filter(volume.voxels[slices(box)], [max(1, round(3 / s)) for s in spacing])
    k, j, i = (int(c) + lo for c, (lo, _) in zip(np.unravel_index(int(np.argmax(smooth)), smooth.shape), box))
    return k, j, i


def _cells(volume: Volume, rng: np.random.Generator, room: float) -> npt.NDArray[np.int64]:
    """(n, 3) voxels (k, j, i): first voxels of coarse cells well inside lung or body, in LOOKED_AT slices."""
    n = volume.shape[0]
    margin = min(int(np.ceil(room)), (n - 1) // 2)
    ks = np.arange(margin, n - margin)
    for _ in range(2):
        drawn = np.sort(rng.choice(ks, min(LOOKED_AT, len(ks)), replace=False))
        few = Volume(np.ascontiguousarray(volume.voxels[drawn]), volume.modality, None, volume.provenance)
        inside = _inside(few)
        if inside.any():
            found = np.argwhere(inside)
            return np.stack([drawn[found[:, 0]], found[:, 1] * COARSE, found[:, 2] * COARSE], axis=1)
        ks = np.arange(n)
    what = "lung" if volume.modality is Modality.CT else "body"
    raise UsageError(f"No {what} was found in this scan.", "Give the place yourself, in voxels or in mm.")


def _inside(few: Volume) -> Mask:
    """Coarse cells of lung (CT) or body (MR), without their rim. Of a CT that shows no enclosed lung (a narrow field of
    view), cells as dense as parenchyma."""
    ct = few.modality is Modality.CT
    mask = coarse_lung(few) if ct else coarse_body(few)
    if ct and not mask.any():
        mean = coarse_mean(few.voxels)
        mask = (mean > LUNG_MEAN_HU[0]) & (mean < LUNG_MEAN_HU[1])
    flat = np.zeros((3, 3, 3), dtype=bool)
    flat[1] = True
    rim = 2 if ct else 4
    inner = ndimage.binary_erosion(mask, flat, iterations=rim, border_value=0)
    return np.asarray(inner if inner.any() else mask)


def _unfitness(volume: Volume, place: Shape, spacing: Index, clearance_mm: float) -> float:
    """0 for a healthy place, growing with what speaks against it."""
    sides: Shape = tuple(max(1, 2 * round(clearance_mm / s) + 1) for s in spacing)  # type: ignore[assignment]
    block = cut(volume.voxels, box_around(place, sides))
    smooth = ndimage.uniform_filter(block, [max(1, round(2 / s)) for s in spacing])
    if volume.modality is not Modality.CT:
        level = max(float(np.abs(smooth).mean()), 1e-6)
        return max(0.0, float(smooth.std()) / level - 0.12)
    mean = float(block.mean())
    low, high = LUNG_MEAN_HU
    vessel = max(0.0, float((smooth > VESSEL_HU).mean()) - VESSEL_SHARE)
    airway = max(0.0, float((smooth < AIRWAY_HU).mean()) - AIRWAY_SHARE)
    return vessel + airway + max(0.0, low - mean, mean - high) / 100


def _pooled(slab: Voxels, spacing: Index) -> tuple[Voxels, Shape]:
    """Means over cells of about BLOB_GRID_MM, and the cell's voxels (k, j, i)."""
    cell: Shape = tuple(max(1, round(BLOB_GRID_MM / s)) for s in spacing)  # type: ignore[assignment]
    k, j, i = (n // c for n, c in zip(slab.shape, cell))
    trimmed = slab[: k * cell[0], : j * cell[1], : i * cell[2]]
    rows = trimmed.reshape(k * cell[0], j, cell[1], i * cell[2]).mean(axis=2)
    return np.asarray(rows.reshape(k, cell[0], j, i, cell[2]).mean(axis=(1, 4))), cell


def _blobs(slab: Voxels, grid: tuple[float, ...]) -> list[tuple[tuple[int, ...], float]]:
    """(cell, diameter in mm) of round dense maxima enclosed by lung, most nodule-like first.

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
                found.append((roundness * float(contrast[tuple(place)]), cell, 3 * sigma))
    found.sort(reverse=True)
    apart: list[tuple[tuple[int, ...], float]] = []
    for _, cell, diameter in found:
        if all(_distance(cell, other, grid) > BLOB_APART_MM for other, _ in apart):
            apart.append((cell, diameter))
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
