"""A scan's own noise → noise fields of a given shape: white, grained, copied, or with the scan's own spectrum."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from jachai.core.volume import Voxels
from jachai.tamper.attack import Index, Shape
from jachai.tamper.resample import sampled

NoiseKind = Literal["none", "white", "spectrum", "copied"]
DETREND_MM = 4.0
"""Noise is what is finer than this (Gaussian σ, mm): larger structure of the lung is anatomy."""
MRI_DETREND_MM = 1.2
"""The same for MRI, whose tissues have texture of a few millimetres."""
FINE_PER_MM, POWER_FLOOR, MOST_PSF_MM = 0.25, 1e-3, 1.0
"""Cycles per mm from where noise is fitted; share of the largest power that counts; softest kernel believed in."""
OUTLIER_MADS = 4.0
"""Residuals beyond this many robust standard deviations are vessels and edges, not noise: they are clipped."""
MAD_TO_SIGMA = 1.4826
"""Median absolute deviation → standard deviation of a normal distribution."""


def white(shape: Shape, sigma: float, rng: np.random.Generator) -> Voxels:
    """Independent normal noise, float32."""
    return rng.standard_normal(shape, dtype=np.float32) * np.float32(sigma)


def grained(shape: Shape, sigma: float, grain: float, rng: np.random.Generator) -> Voxels:
    """White noise of standard deviation sigma, enlarged `grain` times by cubic splines and cut to `shape`.

    grain 1: white. Above 1 coarser grain and, as interpolation between the samples averages, a lower standard deviation;
    below 1 every (1/grain)-th place of a finer field, which is white again (CT-GAN's touch-up, `field.md` §3 step 7).
    """
    if grain == 1:
        return white(shape, sigma, rng)
    small: Shape = tuple(max(2, int(np.ceil(n / grain)) + 1) if n > 1 else 1 for n in shape)  # type: ignore[assignment]
    steps = tuple(1 / grain if n > 1 else 1.0 for n in shape)
    return sampled(white(small, sigma, rng), steps, shape, order=3 if grain > 1 else 1)


def residual(block: Voxels, spacing_mm: Index, detrend_mm: float = DETREND_MM) -> Voxels:
    """The block's noise: itself minus a Gaussian mean of detrend_mm in the plane, vessels and edges clipped, mean 0, its
    standard deviation the robust one of the residual (so that what was clipped does not count as noise)."""
    noise = block - ndimage.gaussian_filter(block, [0, detrend_mm / spacing_mm[1], detrend_mm / spacing_mm[2]])
    sigma = robust_sigma(noise)
    noise = np.clip(noise, -OUTLIER_MADS * sigma, OUTLIER_MADS * sigma)
    noise -= noise.mean()
    spread = float(noise.std())
    return np.asarray(noise * (sigma / spread if spread else 0.0), dtype=np.float32)


def robust_sigma(values: npt.NDArray[np.float32]) -> float:
    """Standard deviation from the median absolute deviation; 0 for constant values."""
    return MAD_TO_SIGMA * float(np.median(np.abs(values - np.median(values))))


def like(block_noise: Voxels, shape: Shape, rng: np.random.Generator) -> Voxels:
    """Noise of `shape` with the spectrum and standard deviation of `block_noise` (Galerne et al. 2011, random-phase
    noise: white noise convolved with the block, windowed so that its ends leave no trace)."""
    window = block_noise.copy()
    for axis, n in enumerate(window.shape):
        if n > 3:
            window *= np.expand_dims(np.hanning(n + 2)[1:-1], [a for a in range(3) if a != axis]).astype(np.float32)
    size = [fft.next_fast_len(a + b - 1, real=True) for a, b in zip(shape, window.shape)]
    transfer = fft.rfftn(window, size)
    field = fft.irfftn(fft.rfftn(rng.standard_normal(size, dtype=np.float32)) * transfer, size)
    energy = float(np.sqrt((window**2).sum()))
    sigma = float(block_noise.std())
    return np.asarray(field[tuple(slice(n) for n in shape)] * (sigma / energy if energy else 0.0), dtype=np.float32)


def psf_sigma_mm(block_noise: Voxels, spacing_mm: Index) -> float:
    """Standard deviation (mm, in the plane) of the point spread of the scan, from how its noise falls off.

    Filtered backprojection with a Gaussian point spread of σ shapes noise by f · exp(−4π²σ²f²) (Kijewski and Judy 1987),
    so that log(power / f) falls by 4π²σ² per f². Fitted above FINE_PER_MM, where lung structure is faint, as far as the
    power stands above its floor. At least a third of a pixel, at most MOST_PSF_MM.
    """
    rows, columns = block_noise.shape[1:]
    least = min(spacing_mm[1:]) / 3
    if min(rows, columns) < 12:
        return 2 * least
    window = np.outer(np.hanning(rows + 2)[1:-1], np.hanning(columns + 2)[1:-1]).astype(np.float32)
    power = np.median(np.abs(fft.fft2(block_noise * window)) ** 2, axis=0)
    f = np.hypot(fft.fftfreq(rows, spacing_mm[1])[:, None], fft.fftfreq(columns, spacing_mm[2])[None, :])
    edges = np.arange(FINE_PER_MM, 0.5 / max(spacing_mm[1:]), 0.05)
    rings = [power[(f >= low) & (f < low + 0.05)] for low in edges]
    level = np.array([float(ring.mean()) if ring.size else 0.0 for ring in rings])
    used = level > POWER_FLOOR * level.max(initial=0)
    if used.sum() < 3:
        return least if not len(edges) else MOST_PSF_MM
    middle = edges[used] + 0.025
    slope = float(np.polyfit(middle**2, np.log(level[used] / middle), 1)[0])
    return float(np.clip(np.sqrt(max(-slope, 0.0)) / (2 * np.pi), least, MOST_PSF_MM))


def rician(values: Voxels, sigma: float, rng: np.random.Generator) -> Voxels:
    """The magnitude of `values` + complex normal noise of standard deviation sigma per part (Gudbjartsson 1995): MRI."""
    real = values + white(values.shape, sigma, rng)  # type: ignore[arg-type]
    imaginary = white(values.shape, sigma, rng)  # type: ignore[arg-type]
    return np.asarray(np.hypot(real, imaginary))
