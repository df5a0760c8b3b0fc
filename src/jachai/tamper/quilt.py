"""Blocks of healthy tissue + a region with a hole → the hole filled with patches that fit each other and the rim."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from jachai.core.volume import Mask, Voxels
from jachai.tamper.attack import Shape

CANDIDATES = 160
"""Patches compared at each position: enough for a fit on lung texture, few enough for 0.1 s."""
TRIES = 3
"""One of this many best-fitting patches is taken, so that nothing is repeated exactly (Efros and Freeman 2001)."""
COARSE_SHARE = 0.25
"""Patches are split into coarse and fine by a Gaussian of this share of their side: coarse parts are averaged where they
overlap, fine parts are summed so that the variance of the noise is kept."""


@dataclass(frozen=True, slots=True, eq=False)
class Patches:
    """Candidates: `whole`, and `coarse` (smoothed), each (n, pk, pj, pi)."""

    whole: Voxels
    coarse: Voxels

    @staticmethod
    def drawn(sources: npt.NDArray[np.float32], side: Shape, rng: np.random.Generator) -> Patches:
        """CANDIDATES patches from random places of `sources` (m, k, j, i), half of them mirrored."""
        size: Shape = tuple(min(n, limit) for n, limit in zip(side, sources.shape[1:]))  # type: ignore[assignment]
        sigma = [COARSE_SHARE * n if n > 1 else 0 for n in size]
        coarse = [ndimage.gaussian_filter(block, sigma) for block in sources]
        whole_patches, coarse_patches = [], []
        for _ in range(CANDIDATES):
            m = int(rng.integers(len(sources)))
            start = [int(rng.integers(n - p + 1)) for n, p in zip(sources.shape[1:], size)]
            where = tuple(slice(a, a + p) for a, p in zip(start, size))
            mirror = (slice(None), slice(None), slice(None, None, int(rng.choice((-1, 1)))))
            whole_patches.append(sources[m][where][mirror])
            coarse_patches.append(coarse[m][where][mirror])
        return Patches(np.stack(whole_patches), np.stack(coarse_patches))

    @property
    def side(self) -> Shape:
        """Voxels of one patch."""
        _, k, j, i = self.whole.shape
        return k, j, i

    def best(self, values: Voxels, known: Mask, rng: np.random.Generator) -> int:
        """The number of a patch that fits `values` where `known` well."""
        thin = tuple(slice(None, None, 2 if n > 4 else 1) for n in self.side)
        mask = known[thin]
        if not mask.any():
            return int(rng.integers(len(self.whole)))
        misfit = ((self.coarse[(slice(None), *thin)] - values[thin]) ** 2)[:, mask].sum(axis=1)
        return int(np.argsort(misfit)[int(rng.integers(min(TRIES, len(misfit))))])


def quilted(
    region: Voxels, hole: Mask, sources: npt.NDArray[np.float32], side: Shape, rng: np.random.Generator
) -> Voxels:
    """region: float32 (k, j, i), hole: bool of its shape, sources: (m, k', j', i') healthy blocks of the same grid.

    Returns the region with the hole (and nothing else) filled.
    """
    if not hole.any():
        return region.copy()
    fits: Shape = tuple(min(a, b) for a, b in zip(side, region.shape))  # type: ignore[assignment]
    patches = Patches.drawn(sources, fits, rng)
    size = patches.side
    window = _window(size)
    canvas = ndimage.gaussian_filter(region, [COARSE_SHARE * n if n > 1 else 0 for n in size])
    known = ~hole
    coarse, fine = np.zeros_like(region), np.zeros_like(region)
    weight, energy = np.full_like(region, 1e-6), np.full_like(region, 1e-6)
    for start in _positions(hole, size, region.shape):  # type: ignore[arg-type]
        where = tuple(slice(a, a + p) for a, p in zip(start, size))
        n = patches.best(canvas[where], known[where], rng)
        coarse[where] += window * patches.coarse[n]
        fine[where] += window * (patches.whole[n] - patches.coarse[n])
        weight[where] += window
        energy[where] += window**2
        fresh = hole[where]
        canvas[where][fresh] = (coarse[where] / weight[where])[fresh]
        known[where] = True
    filled = coarse / weight + fine / np.sqrt(energy)
    return np.where(hole, filled, region)


def _window(size: Shape) -> Voxels:
    """A raised cosine over the patch, nowhere 0."""
    out = np.ones((1, 1, 1), dtype=np.float32)
    for axis, n in enumerate(size):
        ramp = np.sin(np.pi * (np.arange(n) + 0.5) / n).astype(np.float32) if n > 2 else np.ones(n, dtype=np.float32)
        out = out * np.expand_dims(ramp, [a for a in range(3) if a != axis])
    return out


def _positions(hole: Mask, size: Shape, shape: Shape) -> list[tuple[int, ...]]:
    """First voxels of patches that cover the hole and overlap by about half, from the rim inwards."""
    box = ndimage.find_objects(hole.astype(np.int8))[0]
    axes = []
    for where, p, n in zip(box, size, shape):
        first, last = min(max(0, where.start - p // 2), n - p), min(n - p, where.stop - p + p // 2)
        count = max(1, int(np.ceil((max(last, first) - first) / max(1, (p + 1) // 2))) + 1)
        axes.append(sorted({round(a) for a in np.linspace(first, max(first, last), count)}))
    middle = [(where.start + where.stop - p) / 2 for where, p in zip(box, size)]
    starts = list(product(*axes))
    return sorted(starts, key=lambda start: -max(abs(a - m) / p for a, m, p in zip(start, middle, size)))
