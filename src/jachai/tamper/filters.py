"""A slab of slices → the slab filtered, as scanners, workstations and viewers do: each is a `Filter`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from jachai.core.volume import Voxels
from jachai.tamper.attack import Index
from jachai.tamper.noise import robust_sigma
from jachai.tamper.painters import bilateral as bilateral_mean

Filter = Callable[[Voxels, float, Index, str], Voxels]
"""filter(slab of voxels, strength, spacing (k, j, i) in mm, choice) → float32 of the same shape, not yet quantised."""


def gaussian(slab: Voxels, sigma_mm: float, spacing: Index, choice: str) -> Voxels:
    """In the plane ('2d') or in space ('3d')."""
    across = sigma_mm / spacing[0] if choice == "3d" else 0.0
    return np.asarray(ndimage.gaussian_filter(slab, [across, sigma_mm / spacing[1], sigma_mm / spacing[2]], truncate=3))


def median(slab: Voxels, strength: float, spacing: Index, choice: str) -> Voxels:
    """Median of 3 × 3 in the plane, mixed with the scan: strength is the median's share."""
    return np.asarray(slab + np.float32(strength) * (ndimage.median_filter(slab, (1, 3, 3)) - slab))


def bilateral(slab: Voxels, strength: float, spacing: Index, choice: str) -> Voxels:
    """Range σ = strength × the slab's own noise; 3 × 3 in the plane."""
    sigma = _own_noise(slab)
    return np.stack([bilateral_mean(slice_[None], 1, strength * sigma)[0] for slice_ in slab])


def non_local(slab: Voxels, strength: float, spacing: Index, choice: str) -> Voxels:
    """A small non-local mean (Buades et al. 2005): patches of 3 × 3 within ± 2 pixels of the same slice;
    falls off over strength × the slab's own noise."""
    sigma = _own_noise(slab)
    total, weight = slab.copy(), np.ones_like(slab)
    for dj in range(-2, 3):
        for di in range(-2, 3):
            if dj or di:
                shifted = np.roll(slab, (dj, di), axis=(1, 2))
                apart = ndimage.uniform_filter((slab - shifted) ** 2, (1, 3, 3))
                share = np.exp(-np.maximum(apart - 2 * sigma**2, 0) / (strength * sigma) ** 2)
                total += share * shifted
                weight += share
    return total / weight


def sharpened(slab: Voxels, strength: float, spacing: Index, choice: str) -> Voxels:
    """Unsharp mask: strength × what a Gaussian of 1 mm takes away is added."""
    smooth = ndimage.gaussian_filter(slab, [0, 1 / spacing[1], 1 / spacing[2]], truncate=3)
    return np.asarray(slab + np.float32(strength) * (slab - smooth))


def kernel(slab: Voxels, strength: float, spacing: Index, choice: str) -> Voxels:
    """Another reconstruction kernel: 'softer' multiplies the spectrum by exp(−(f/f₀)²), 'sharper' by up to 1.6 × between,
    with f₀ = 0.5 / strength cycles per mm; slice by slice."""
    rows, columns = slab.shape[1:]
    f = np.hypot(np.fft.fftfreq(rows, spacing[1])[:, None], np.fft.rfftfreq(columns, spacing[2])[None, :])
    hump = np.exp(-((f * strength / 0.5) ** 2))
    gain = hump if choice == "softer" else 1 + 0.6 * (1 - hump) * np.exp(-((f / 0.9) ** 4))
    spectrum = np.fft.rfft2(slab) * gain
    return np.fft.irfft2(spectrum, s=(rows, columns)).astype(np.float32)


def _own_noise(slab: Voxels) -> float:
    """Robust standard deviation of what is finer than 5 pixels, over the brighter four fifths (not the clipped air)."""
    fine = (slab - ndimage.uniform_filter(slab, (1, 5, 5)))[slab > np.percentile(slab[:1], 20)]
    return max(robust_sigma(fine), 1e-3) if fine.size else 1e-3
