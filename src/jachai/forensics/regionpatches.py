"""Volume + places → patches on the native grid as region networks see them: HU and residuals in units of the scan's noise.

A network sees no header, no padding and no scale: values are clipped, what is not body becomes air, and each residual is
divided by what is usual in the same slice, so that dose and kernel cancel to first order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from jachai.core.volume import AIR_HU, Mask, Volume, Voxels
from jachai.forensics.residual import IN_PLANE, Slice
from jachai.forensics.tissue import coarse_body, coarse_lung, on_fine_grid

Place = tuple[float, float, float]
"""(k, j, i) in voxels."""
Patches = npt.NDArray[np.float32]
TOP_HU = 600.0
"""Values are clipped to AIR_HU…TOP_HU (no more of bone matters) and scaled to −1…1."""
CHANNELS = ("hu", *IN_PLANE)
"""What a network may see of a slice, in the order of its first layer."""
CLIP = 6.0
"""Residuals are cut at so many times the usual strength of their slice, then divided by half of it: −2…2."""
AERATED_HU = -400.0
"""Strengths are taken where the lung is aerated; without lung, in the whole body."""
INSIDE = 3
"""In-plane pixels that the tissue must reach round a pixel whose residual counts: half the longest filter."""
LEAST_PIXELS = 500
"""Fewer pixels of lung than that say nothing about the noise."""
TO_SIGMA = 0.6745
"""Median of |x| of a normal distribution of standard deviation 1."""
TINY = 1e-3
"""HU. A strength below it is that of a constant picture."""


@dataclass(frozen=True, eq=False)
class SliceView:
    """One slice of a CT as models see it. hu: (j, i) clipped, air where there is no body. body, lung: (j, i).

    pixel_mm: (j, i) for distances only.
    """

    hu: Slice
    body: npt.NDArray[np.bool_]
    lung: npt.NDArray[np.bool_]
    pixel_mm: tuple[float, float]

    @cached_property
    def residuals(self) -> dict[str, Slice]:
        """Name → residual in HU."""
        return {name: residual(self.hu) for name, residual in IN_PLANE.items()}

    @cached_property
    def quiet(self) -> npt.NDArray[np.bool_]:
        """(j, i) where residuals are noise: aerated lung, INSIDE pixels from its edge; without lung the body."""
        aerated = self.lung & (self.hu < AERATED_HU)
        inside = ndimage.binary_erosion(aerated, iterations=INSIDE)
        if np.count_nonzero(inside) >= LEAST_PIXELS:
            return np.asarray(inside)
        return np.asarray(ndimage.binary_erosion(self.body, iterations=INSIDE))

    @cached_property
    def strength(self) -> dict[str, float]:
        """Name → usual size of the residual in the quiet places of the slice: a robust standard deviation in HU."""
        where = self.quiet
        return {
            name: max(float(np.median(np.abs(r[where]))) / TO_SIGMA if where.any() else TINY, TINY)
            for name, r in self.residuals.items()
        }

    @cached_property
    def channels(self) -> Voxels:
        """(CHANNELS, j, i) float32, −2…2."""
        middle = (AIR_HU + TOP_HU) / 2
        planes = [(self.hu - middle) / (TOP_HU - middle)]
        for name, residual in self.residuals.items():
            planes.append(np.clip(residual / self.strength[name], -CLIP, CLIP) / (CLIP / 2))
        return np.stack(planes).astype(np.float32)


class SliceViews:
    """The slices of one volume as models see them, made when they are asked for; the last few are kept."""

    def __init__(self, volume: Volume, keep: int = 64) -> None:
        self._volume, self._keep = volume, keep
        self._made: dict[int, SliceView] = {}

    @property
    def shape(self) -> tuple[int, int, int]:
        """(k, j, i)."""
        return self._volume.shape

    def __getitem__(self, k: int) -> SliceView:
        if k not in self._made:
            while len(self._made) >= self._keep:
                del self._made[next(iter(self._made))]
            self._made[k] = slice_view(self._volume, k)
        return self._made[k]

    def nearest(self, k: float) -> SliceView:
        """The slice nearest to a position along k."""
        return self[int(np.clip(round(k), 0, self.shape[0] - 1))]


def slice_view(volume: Volume, k: int) -> SliceView:
    """Slice k of a CT. Everything is measured within the slice, so that a single slice and a stack agree."""
    geometry = volume.geometry
    alone = replace(
        volume,
        voxels=volume.voxels[k : k + 1],
        geometry=None if geometry is None else geometry.cropped(((k, k + 1), (0, 1), (0, 1))),
    )
    rough = coarse_body(alone)
    body, lung = _fine(rough, alone), _fine(coarse_lung(alone, rough), alone)
    hu = np.where(body, np.clip(alone.voxels[0], AIR_HU, TOP_HU), np.float32(AIR_HU))
    spacing = volume.spacing_mm or (None, 0.7, 0.7)
    return SliceView(np.asarray(hu, dtype=np.float32), body, lung, (spacing[1], spacing[2]))


def _fine(mask: Mask, volume: Volume) -> npt.NDArray[np.bool_]:
    return np.asarray(on_fine_grid(mask, volume.shape)[0])


def flat_patches(views: SliceViews, places: Sequence[Place], side: int, channels: Sequence[str] = CHANNELS) -> Patches:
    """(n, channels, side, side): the slice of each place, mirrored at its borders."""
    rows = [CHANNELS.index(name) for name in channels]
    cut = [_window(views.nearest(k).channels[rows], j, i, side) for k, j, i in places]
    return np.stack(cut) if cut else np.zeros((0, len(rows), side, side), dtype=np.float32)


def deep_patches(views: SliceViews, places: Sequence[Place], side: int, channels: Sequence[str] = CHANNELS) -> Patches:
    """(n, channels, side, side, side) on the native grid; slices beyond the ends are mirrored."""
    rows = [CHANNELS.index(name) for name in channels]
    cubes = []
    for k, j, i in places:
        ks = mirrored(np.arange(side) + round(k) - side // 2, views.shape[0])
        made = {int(one): _window(views[int(one)].channels[rows], j, i, side) for one in np.unique(ks)}
        cubes.append(np.stack([made[int(one)] for one in ks], axis=1))
    return np.stack(cubes) if cubes else np.zeros((0, len(rows), side, side, side), dtype=np.float32)


def _window(planes: Voxels, j: float, i: float, side: int) -> Voxels:
    rows = mirrored(np.arange(side) + round(j) - side // 2, planes.shape[1])
    columns = mirrored(np.arange(side) + round(i) - side // 2, planes.shape[2])
    return np.asarray(planes[:, rows[:, None], columns])


def mirrored(index: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.int64]:
    """Indices beyond the ends folded back: … 2 1 0 1 2 … n−1 n−2 …"""
    if n == 1:
        return np.zeros_like(index)
    return np.asarray(n - 1 - np.abs(n - 1 - np.abs(index) % (2 * (n - 1))))
