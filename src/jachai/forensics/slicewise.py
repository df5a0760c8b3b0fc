"""Volume → what a search network looks at, slice by slice: which cells, through which window, as which channels.

The cells are the coarse ones of the tissue masks (`COARSE` pixels). Every trained search model looks through here, so that
all of them see the same, in training and afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from jachai.core.volume import Mask, Volume
from jachai.forensics.channels import Channels, compressed, noise_place, residuals, scales_of, with_windows
from jachai.forensics.residual import Slice
from jachai.forensics.tissue import COARSE, coarse_body, coarse_lung

STRIDE = COARSE
"""Pixels of a cell."""
ROUND_LUNG = 3
"""Coarse cells round the lungs that are searched too: nodules on the pleura."""
ROOM = 6
"""Coarse cells of surroundings that a network is shown beyond what is searched."""
SMOOTH_MM, ACROSS_MM = 3.0, 4.0
"""Gaussian σ of a map in the plane and across slices: an altered cube is 20–40 mm wide."""
DEFAULT_PIXEL_MM = 0.7
RESIDUALS = ("corner", "diagonal", "middle")
LEVELS_OF = 12
"""Slices in which the noise level is measured."""

Map = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """Slice k through its window. cells: (rows, columns) of the coarse grid. x: (7, j, i) channels of those pixels."""

    k: int
    cells: tuple[slice, slice]
    x: Channels


def searched(volume: Volume) -> Mask:
    """(k, j', i') coarse cells that are searched: lungs and a rim. Without lungs, none: the networks learnt from nothing else, and the
    verdict is inconclusive."""
    body = coarse_body(volume)
    lung = coarse_lung(volume, body)
    if not lung.any():
        return np.zeros_like(body)
    flat = np.zeros((3, 3, 3), dtype=bool)
    flat[1] = ndimage.generate_binary_structure(2, 1)
    return np.asarray(ndimage.binary_dilation(lung, flat, iterations=ROUND_LUNG) & body)


def looks(volume: Volume, where: Mask) -> Iterator[Look]:
    """Every slice that holds a cell of `where`, in order."""
    count = len(where)
    gaps = set(volume.geometry.gaps if volume.geometry else ())
    for k in np.flatnonzero(where.any(axis=(1, 2))):
        cells = window(where[k])
        pixels = tuple(slice(c.start * STRIDE, c.stop * STRIDE) for c in cells)
        both = 0 < k < count - 1 and not {k - 1, k} & gaps
        near = [volume.voxels[n][pixels] for n in (k - 1, k + 1)] if both else [None, None]
        yield Look(int(k), cells, seen(volume.voxels[k][pixels], where[k][cells], near[0], near[1]))


def window(mask: Mask) -> tuple[slice, slice]:
    """The cells (rows, columns) that hold the mask and ROOM round it."""
    bounds = []
    for axis in (1, 0):
        filled = np.flatnonzero(mask.any(axis=axis))
        bounds.append(slice(max(0, int(filled[0]) - ROOM), min(mask.shape[1 - axis], int(filled[-1]) + 1 + ROOM)))
    return bounds[0], bounds[1]


def seen(slice_: Slice, cells: Mask, before: Slice | None, after: Slice | None) -> Channels:
    """(7, j, i) channels; the scan's own noise is measured in the lung among the searched cells."""
    bank = residuals(slice_, before, after)
    inside = cells.repeat(STRIDE, 0).repeat(STRIDE, 1)[: slice_.shape[0], : slice_.shape[1]]
    place = noise_place(slice_)
    scales = scales_of(bank, place & inside if (place & inside).any() else place)
    return with_windows(slice_, compressed(bank, scales), before is not None and after is not None)


def smoothed(values: Map, volume: Volume, in_plane_mm: float = SMOOTH_MM) -> Map:
    """Gaussian mean in the plane and, where slices are near each other, across them."""
    pixel = volume.geometry.pixel_mm if volume.geometry else (DEFAULT_PIXEL_MM, DEFAULT_PIXEL_MM)
    step = volume.geometry.slice_step_mm if volume.geometry else None
    across = ACROSS_MM / step if volume.shape[0] > 1 and step else 0.0
    sigmas = (across, in_plane_mm / (pixel[0] * STRIDE), in_plane_mm / (pixel[1] * STRIDE))
    return np.asarray(ndimage.gaussian_filter(values, sigmas, truncate=3.0), dtype=np.float32)


def noise_levels(volume: Volume, where: Mask) -> dict[str, float]:
    """Residual → the scan's own noise in it, HU: the median over up to LEVELS_OF slices that show lung; empty without."""
    ks = np.flatnonzero(where.any(axis=(1, 2)))
    rows = []
    for k in ks[:: max(1, len(ks) // LEVELS_OF)]:
        slice_ = volume.voxels[k]
        inside = where[k].repeat(STRIDE, 0).repeat(STRIDE, 1)[: slice_.shape[0], : slice_.shape[1]]
        place = noise_place(slice_) & inside
        if place.any():
            rows.append(scales_of(residuals(slice_), place)[:3])
    return dict(zip(RESIDUALS, (float(level) for level in np.median(rows, axis=0)))) if rows else {}
