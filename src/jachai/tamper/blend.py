"""Original and altered region → the region that is written: seams, harmonic joints, quantisation. Shared by all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import fft

from jachai.core.geometry import FloatArray
from jachai.core.volume import Mask, Voxels
from jachai.tamper.attack import Index, Shape

Rounding = Literal["floor", "zero", "nearest"]
"""How a float becomes a stored integer. floor: truncation of stored values, which are not negative in CT with an
intercept (CT-GAN). zero: truncation towards 0 of the value itself. nearest: rounding."""
Joint = Literal["box", "ellipsoid", "feathered", "poisson"]


@dataclass(frozen=True, slots=True)
class Blend:
    """How a region is joined to its surroundings.

    joint: 'box' hard edges; 'ellipsoid' hard edges on the ellipsoid inside the box; 'feathered' an ellipsoid that fades
    out over feather_mm; 'poisson' a box whose rim is met by adding the harmonic function of the difference (Pérez et al.
    2003). dims: 3, or 2: every slice alike and joined alone, box ends in z.
    """

    joint: Joint = "feathered"
    dims: int = 3
    feather_mm: float = 4.0

    def merged(self, original: Voxels, content: Voxels, spacing_mm: Index) -> Voxels:
        """original, content: float32 (k, j, i) of the region → joined. Where they are equal the result is equal."""
        if self.joint == "poisson":
            return content + harmonic(original - content, self.dims)
        return original + self.weights(original.shape, spacing_mm) * (content - original)  # type: ignore[arg-type]

    def weights(self, shape: Shape, spacing_mm: Index) -> Voxels:
        """Share of the content, 0…1, float32 of `shape` (1 everywhere for box and poisson)."""
        if self.joint in ("box", "poisson"):
            return np.ones(shape, dtype=np.float32)
        inside_mm = depth_mm(shape, spacing_mm, self.dims)
        if self.joint == "ellipsoid":
            return (inside_mm > 0).astype(np.float32)
        ramp = np.clip(inside_mm / self.feather_mm, 0, 1)
        return np.asarray((3 - 2 * ramp) * ramp**2, dtype=np.float32)


def depth_mm(shape: Shape, spacing_mm: Index, dims: int = 3) -> Voxels:
    """How deep every voxel lies inside the largest ellipsoid of the box, in mm (about); below 0 outside."""
    axes = [np.linspace(-1 + 1 / n, 1 - 1 / n, n, dtype=np.float32) for n in shape]
    if dims == 2 or shape[0] == 1:
        axes[0] = np.zeros(shape[0], dtype=np.float32)
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    used = [n * s / 2 for n, s in zip(shape, spacing_mm)][0 if dims == 3 and shape[0] > 1 else 1 :]
    return np.asarray((1 - np.sqrt(x * x + y * y + z * z)) * min(used), dtype=np.float32)


def dome(rows: int, columns: int, reach: float) -> Voxels:
    """CT-GAN's kernel k (`field.md` §3 step 7): exp(−(x² + y²)/4), x and y from −reach to reach, scaled to 0…1.

    reach 3 (injection): a peak, 0.10 at the middle of an edge. reach 0.1 (removal): a paraboloid, 0.5 there.
    """
    y = np.linspace(-reach, reach, rows)[:, None]
    x = np.linspace(-reach, reach, columns)[None, :]
    k = np.exp(-(x * x + y * y) / 4)
    span = float(np.ptp(k))
    return np.asarray((k - k.min()) / span if span else np.ones_like(k), dtype=np.float32)


def harmonic(values: Voxels, dims: int = 3) -> Voxels:
    """The inside of the box replaced by the harmonic function of its outermost voxels: float32, same shape.

    Solved exactly with sine transforms (the boundary voxels enter as sources of the discrete Laplace equation).
    dims 2, or a box thinner than 3 slices: each slice alone.
    """
    flat = dims == 2 or values.shape[0] < 3
    axes = (1, 2) if flat else (0, 1, 2)
    if min(values.shape[a] for a in axes) < 3:
        return values.copy()
    inner = tuple(slice(1, -1) if a in axes else slice(None) for a in range(3))
    source = np.zeros_like(values[inner])
    for axis in axes:
        for end, rim in ((0, 0), (-1, -1)):
            face = tuple(end if a == axis else slice(None) for a in range(3))
            outer = tuple(rim if a == axis else inner[a] for a in range(3))
            source[face] += values[outer]
    spectrum = fft.dstn(source, type=1, axes=axes, norm="ortho")
    eigen = np.zeros((1, 1, 1), dtype=np.float32)
    for axis in axes:
        n = source.shape[axis]
        wave = (2 - 2 * np.cos(np.pi * np.arange(1, n + 1) / (n + 1))).astype(np.float32)
        eigen = eigen + np.expand_dims(wave, [a for a in range(3) if a != axis])
    out = values.copy()
    out[inner] = fft.idstn(spectrum / eigen, type=1, axes=axes, norm="ortho")
    return out


def quantised(before: Voxels, after: Voxels, step: float | None, rounding: Rounding, low: float) -> Voxels:
    """`after` on the grid of stored values that `before` lies on: before + a whole number of steps; float32.

    step None (unknown, or floating-point values as in processed MRI): not rounded. Nothing falls below `low`, unless it
    lay there before.
    """
    after = np.maximum(after, np.minimum(before, np.float32(low)))
    if not step:
        return np.asarray(after, dtype=np.float32)
    steps = (after.astype(np.float64) - before) / step
    whole = np.maximum(_rounded(steps, after >= 0, rounding), np.minimum(np.ceil((low - before) / step), 0))
    return np.asarray(before + whole * step, dtype=np.float32)


def _rounded(steps: FloatArray, positive: Mask, rounding: Rounding) -> FloatArray:
    if rounding == "nearest":
        return np.asarray(np.rint(steps))
    if rounding == "floor":
        return np.asarray(np.floor(steps))
    return np.asarray(np.where(positive, np.floor(steps), np.ceil(steps)))
