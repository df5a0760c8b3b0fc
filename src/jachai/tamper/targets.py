"""Volume → places as an attacker would choose them: healthy tissue to put something in, a nodule-like blob to take away.

Only a few slices are looked at, so that the cost does not grow with the scan.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from jachai.core.errors import UsageError
from jachai.core.volume import Box, Mask, Modality, Volume
from jachai.forensics.blobs import Blob, blobs_in
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
SAME_WALL = 0.08
"""Largest difference between the shares of dense tissue of a place and its mirror image."""


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
    return blobs_in(volume.voxels[first : first + thick], spacing, first, volume.shape[0])


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
