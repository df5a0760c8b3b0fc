"""Tapering tubes in mm → how much of every voxel of a slab they fill, seen through the scanner's blur."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jachai.core.volume import Voxels
from jachai.phantom.texture import Sampling

FloatArray = npt.NDArray[np.float64]

LOGISTIC = 1.702
"""1 / (1 + exp(-1.702 x)) is the normal distribution function within 0.01 (Haley 1952)."""
MARGIN = 2.6
"""Standard deviations of blur beyond a tube's wall after which it is no longer drawn."""
BOX_SIDES = np.array([1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 26, 32, 42, 54, 70, 90, 120, 160, 220, 300, 400, 600])
"""Tubes are drawn in boxes of these sides (voxels), many of one size at a time."""
BATCH = 300_000
"""Voxels evaluated at a time (a few MB per intermediate array)."""


@dataclass(frozen=True, slots=True, eq=False)
class Tubes:
    """n straight tubes. start, end: (n, 3) x, y, z in mm. r0, r1: (n,) radius in mm at start and end."""

    start: FloatArray
    end: FloatArray
    r0: FloatArray
    r1: FloatArray

    def __len__(self) -> int:
        return len(self.r0)

    def take(self, chosen: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Tubes:
        """Those tubes only."""
        return Tubes(self.start[chosen], self.end[chosen], self.r0[chosen], self.r1[chosen])

    def scaled(self, factor: float, plus_mm: float = 0.0) -> Tubes:
        """The same tubes with radii × factor + plus_mm."""
        return Tubes(self.start, self.end, self.r0 * factor + plus_mm, self.r1 * factor + plus_mm)

    @staticmethod
    def joined(parts: list[Tubes]) -> Tubes:
        """All tubes of all parts."""
        return Tubes(
            np.concatenate([p.start for p in parts]),
            np.concatenate([p.end for p in parts]),
            np.concatenate([p.r0 for p in parts]),
            np.concatenate([p.r1 for p in parts]),
        )

    @staticmethod
    def along(points_mm: npt.ArrayLike, radii_mm: npt.ArrayLike) -> Tubes:
        """A chain of tubes through (n, 3) points with (n,) radii, or one radius for all."""
        points = np.asarray(points_mm, dtype=np.float64)
        radii = np.broadcast_to(np.asarray(radii_mm, dtype=np.float64), len(points))
        return Tubes(points[:-1], points[1:], radii[:-1].copy(), radii[1:].copy())


def draw(tubes: Tubes, sampling: Sampling, z_mm: FloatArray) -> Voxels:
    """(k, j, i) share 0…1 of the voxels of slices at z_mm (even) that the tubes fill, blurred; float32."""
    x, y = sampling.x_mm, sampling.y_mm
    cover = np.zeros((len(z_mm), len(y), len(x)), dtype=np.float32)
    sigma = _blur_across(tubes, sampling)
    reach = np.maximum(tubes.r0, tubes.r1) + MARGIN * sigma
    low, size = _boxes(tubes, reach, (z_mm, y, x))
    seen = np.flatnonzero((size > 0).all(axis=1))
    if not len(seen):
        return cover
    rounded = BOX_SIDES[np.minimum(np.searchsorted(BOX_SIDES, size[seen]), len(BOX_SIDES) - 1)]
    shapes, group = np.unique(rounded, axis=0, return_inverse=True)
    for number, shape in enumerate(shapes):
        members = seen[group.ravel() == number]
        batch = max(1, BATCH // int(shape.prod()))
        for first in range(0, len(members), batch):
            some = members[first : first + batch]
            _draw_boxes(cover, tubes.take(some), sigma[some], low[some], shape, (z_mm, y, x))
    return cover


def _blur_across(tubes: Tubes, sampling: Sampling) -> FloatArray:
    """(n,) blur across each tube: the mean of the two variances at right angles to it."""
    along = tubes.end - tubes.start
    z_share = along[:, 2] ** 2 / np.maximum((along**2).sum(axis=1), 1e-9)
    xy, z = sampling.blur_mm**2, sampling.blur_z_mm**2
    return np.asarray(np.sqrt((2 * xy + z - z_share * z - (1 - z_share) * xy) / 2))


def _boxes(
    tubes: Tubes, reach: FloatArray, axes: tuple[FloatArray, FloatArray, FloatArray]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """First voxel (n, 3) and number of voxels (n, 3) in k, j, i of the box round each tube, cut to the slab."""
    low = np.empty((len(tubes), 3), dtype=np.intp)
    size = np.empty((len(tubes), 3), dtype=np.intp)
    for axis, at in enumerate(axes):
        step = float(at[1] - at[0]) if len(at) > 1 else 1.0
        a, b = tubes.start[:, 2 - axis], tubes.end[:, 2 - axis]
        first = np.ceil((np.minimum(a, b) - reach - at[0]) / step)
        last = np.floor((np.maximum(a, b) + reach - at[0]) / step)
        low[:, axis] = np.clip(first, 0, len(at))
        size[:, axis] = np.clip(last, -1, len(at) - 1) + 1 - low[:, axis]
    return low, size


def _draw_boxes(
    cover: Voxels,
    tubes: Tubes,
    sigma: FloatArray,
    low: npt.NDArray[np.intp],
    shape: npt.NDArray[np.intp],
    axes: tuple[FloatArray, FloatArray, FloatArray],
) -> None:
    """Raise `cover` to what the tubes fill, each in a box of the same `shape` from its own `low` corner."""
    along = tubes.end - tubes.start
    length = np.maximum(np.sqrt((along**2).sum(axis=1)), 1e-6)
    square = np.zeros((), dtype=np.float32)
    forward = np.zeros((), dtype=np.float32)
    flat = np.zeros((), dtype=np.intp)
    for axis, at in enumerate(axes):
        index = low[:, axis, None] + np.arange(shape[axis])
        inside = np.minimum(index, len(at) - 1)
        offset = at[inside] - tubes.start[:, 2 - axis, None]
        view = [len(tubes), 1, 1, 1]
        view[axis + 1] = int(shape[axis])
        square = square + (offset**2).astype(np.float32).reshape(view)
        forward = forward + (offset * (along[:, 2 - axis] / length)[:, None]).astype(np.float32).reshape(view)
        flat = flat * len(at) + inside.reshape(view)
    column = (len(tubes), 1, 1, 1)
    size = length.astype(np.float32).reshape(column)
    t = np.clip(forward, 0, size)
    distance = np.sqrt(np.maximum(square + t * (t - 2 * forward), 0))
    taper = ((tubes.r1 - tubes.r0) / length).astype(np.float32).reshape(column)
    radius = tubes.r0.astype(np.float32).reshape(column) + taper * t
    value = _profile(distance, radius, sigma.astype(np.float32).reshape(column))
    keep = value > 0.004
    np.maximum.at(cover.ravel(), np.broadcast_to(flat, value.shape)[keep], value[keep])


def _profile(distance: Voxels, radius: Voxels, sigma: Voxels) -> Voxels:
    """Share filled at a distance from the axis of a cylinder seen through a Gaussian blur.

    At the axis this is exact, 1 - exp(-r² / 2σ²); away from it the shape is that of a slab of half thickness r, which is
    right where r ≫ σ (a blurred edge) and where r ≪ σ (the blur itself).
    """
    scale = np.float32(LOGISTIC) / sigma
    near = _logistic((radius - distance) * scale) + _logistic((radius + distance) * scale) - 1
    middle = 2 * _logistic(radius * scale) - 1
    return np.asarray((1 - np.exp(-((radius / sigma) ** 2) / 2)) * near / middle)


def _logistic(x: Voxels) -> Voxels:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -30, 30))))
