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
_RADIUS = np.array([0.0, 0.1, 0.3, 0.5, 0.7, 1.0, 1.3, 1.6, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0, 20.0])
_SLAB = np.array([0.58, 0.59, 0.63, 0.69, 0.786, 0.962, 1.18, 1.43, 1.786, 2.28, 2.81, 3.87, 5.92, 7.94, 20.0])
"""Radius of a cylinder → half thickness of the slab whose blurred profile is nearest to it, both in units of the blur:
fitted to the exact profile, a noncentral χ² distribution; the largest error is 0.02."""
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
    share = t / size
    radius, slab = (
        (a[:, None, None, None] + share * (b - a)[:, None, None, None]).astype(np.float32)
        for a, b in ((tubes.r0 / sigma, tubes.r1 / sigma), (_slab(tubes.r0 / sigma), _slab(tubes.r1 / sigma)))
    )
    value = _profile((distance / sigma.reshape(column)).astype(np.float32), radius, slab)
    keep = value > 0.004
    np.maximum.at(cover.ravel(), np.broadcast_to(flat, value.shape)[keep], value[keep])


def _slab(radius: FloatArray) -> FloatArray:
    """Half thickness of the slab that looks like a cylinder, both in units of the blur."""
    return np.asarray(radius + np.interp(radius, _RADIUS, _SLAB - _RADIUS))


def _profile(distance: Voxels, radius: Voxels, slab: Voxels) -> Voxels:
    """Share filled at a distance from the axis of a cylinder seen through a Gaussian blur, all in units of the blur.

    At the axis it is exact, 1 - exp(-r² / 2); away from it the shape is that of a slab of half thickness `slab`.
    """
    scale = np.float32(LOGISTIC)
    near = _logistic((slab - distance) * scale) + _logistic((slab + distance) * scale) - 1
    middle = 2 * _logistic(slab * scale) - 1
    return np.asarray((1 - np.exp(-(radius**2) / 2)) * near / middle)


def _logistic(x: Voxels) -> Voxels:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -30, 30))))
