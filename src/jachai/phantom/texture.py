"""Seed → a random texture fixed to millimetres, sampled at any spacing: the same patient whatever the scan.

A texture is white noise on a lattice, spread by cubic B-splines. Planes of the lattice are drawn each from its own seed,
so a slice costs the same wherever it lies, and no part of the field repeats.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from jachai.core.volume import Voxels

FloatArray = npt.NDArray[np.float64]

HALF_EXTENT_MM = (200.0, 200.0)
"""Half width (x) and half depth (y) in mm that a texture covers: a whole body; 0 beyond."""
SPLINE_ENERGY = 151 / 315
"""Mean of the sum of squared cubic B-spline values on a lattice: the variance that spreading leaves, per axis."""
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(5)
_FIRST_PLANE = 1 << 20
"""Added to plane indices, which may be negative, to make a seed."""


def _spline(t: FloatArray) -> FloatArray:
    """Cubic B-spline at distance t (in lattice steps)."""
    t = np.abs(t)
    return np.asarray(np.where(t < 1, 2 / 3 - t**2 + t**3 / 2, np.maximum(2 - t, 0) ** 3 / 6))


def _weights(at_mm: FloatArray, first: int, count: int, step_mm: float, sigma_mm: float) -> FloatArray:
    """(n, count) share of each lattice node in samples at `at_mm`, seen through a Gaussian blur of `sigma_mm`."""
    nodes = (first + np.arange(count)) * step_mm
    total = np.zeros((len(at_mm), count))
    for node, weight in zip(_NODES, _WEIGHTS / _WEIGHTS.sum(), strict=True):
        total += weight * _spline((at_mm[:, None] + sigma_mm * node - nodes) / step_mm)
    return total


@dataclass(frozen=True, slots=True)
class Sampling:
    """Where a slice is sampled. x_mm (i,), y_mm (j,); blur_mm: in-plane, blur_z_mm: across, both standard deviations."""

    x_mm: FloatArray
    y_mm: FloatArray
    blur_mm: float
    blur_z_mm: float


class Texture:
    """A field of mean 0 and variance 1 (before blur) with structures of about twice `step_mm`."""

    def __init__(self, seed: tuple[int, ...], step_mm: float, sampling: Sampling) -> None:
        """seed: any numbers that name this texture. step_mm: distance of lattice nodes."""
        self._seed = seed
        self._step = step_mm
        self._blur_z = sampling.blur_z_mm
        nx, ny = (int(np.ceil(half / step_mm)) for half in HALF_EXTENT_MM)
        self._shape = (2 * ny + 1, 2 * nx + 1)
        norm = SPLINE_ENERGY**-0.5
        wx = norm * _weights(sampling.x_mm, -nx, self._shape[1], step_mm, sampling.blur_mm)
        wy = norm * _weights(sampling.y_mm, -ny, self._shape[0], step_mm, sampling.blur_mm)
        self._used = tuple(_extent(w) for w in (wy, wx))
        self._wy = sparse.csr_array(wy[:, self._used[0]].astype(np.float32))
        self._wx = sparse.csr_array(wx[:, self._used[1]].astype(np.float32))
        self._planes: dict[int, Voxels] = {}

    def at(self, z_mm: float) -> Voxels:
        """(j, i) values of the slice at z, float32. Quick where z grows or falls steadily."""
        reach = 2 + 3 * self._blur_z / self._step
        first = int(np.floor(z_mm / self._step - reach))
        count = int(np.ceil(z_mm / self._step + reach)) - first + 1
        weights = SPLINE_ENERGY**-0.5 * _weights(np.array([z_mm]), first, count, self._step, self._blur_z)[0]
        lattice = sum(np.float32(w) * self._plane(first + n) for n, w in enumerate(weights) if abs(w) > 1e-4)
        for stale in [p for p in self._planes if not first <= p < first + count]:
            del self._planes[stale]
        rows = self._wy @ np.asarray(lattice, dtype=np.float32)
        return np.asarray((self._wx @ rows.T).T)

    def _plane(self, index: int) -> Voxels:
        if index not in self._planes:
            rng = np.random.default_rng((*self._seed, index + _FIRST_PLANE))
            plane = rng.standard_normal(self._shape, dtype=np.float32)
            self._planes[index] = plane[self._used[0], self._used[1]]
        return self._planes[index]


def _extent(weights: FloatArray) -> slice:
    """The lattice nodes that any sample uses."""
    used = np.flatnonzero(np.abs(weights).sum(axis=0) > 0)
    return slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 1)
