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
GAUSSIAN_MEAN_FREQUENCY = 0.1796
"""Mean radial frequency (cycles/mm) × σ (mm) of noise with spectrum f · exp(−4π²σ²f²): filtered backprojection with a
Gaussian point spread of that σ. 1.128 / 2π, from ∫f³e^(−af²) / ∫f²e^(−af²) = 2 / √(πa)."""
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


def residual(block: Voxels, spacing_mm: Index) -> Voxels:
    """The block's noise: itself minus a Gaussian mean of DETREND_MM in the plane, vessels clipped, mean 0."""
    blurred = ndimage.gaussian_filter(block, [0, DETREND_MM / spacing_mm[1], DETREND_MM / spacing_mm[2]])
    noise = block - blurred
    sigma = robust_sigma(noise)
    noise = np.clip(noise, -OUTLIER_MADS * sigma, OUTLIER_MADS * sigma)
    return np.asarray(noise - noise.mean(), dtype=np.float32)


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
    """Standard deviation (mm, in the plane) of the point spread of the scan, from the mean frequency of its noise.

    Filtered backprojection shapes noise by f·MTF(f)², so that a softer kernel has lower noise frequencies; see
    GAUSSIAN_MEAN_FREQUENCY. Between half a pixel and 2 mm.
    """
    rows, columns = block_noise.shape[1:]
    window = np.outer(np.hanning(rows + 2)[1:-1], np.hanning(columns + 2)[1:-1]).astype(np.float32)
    power = (np.abs(fft.fft2(block_noise * window)) ** 2).mean(axis=0)
    f_j, f_i = fft.fftfreq(rows, spacing_mm[1]), fft.fftfreq(columns, spacing_mm[2])
    radius = np.hypot(f_j[:, None], f_i[None, :])
    total = float(power.sum())
    mean = float((power * radius).sum()) / total if total else 0.0
    half_pixel = 0.5 * min(spacing_mm[1:])
    return float(np.clip(GAUSSIAN_MEAN_FREQUENCY / mean if mean else 2.0, half_pixel * 0.7, 2.0))


def rician(values: Voxels, sigma: float, rng: np.random.Generator) -> Voxels:
    """The magnitude of `values` + complex normal noise of standard deviation sigma per part (Gudbjartsson 1995): MRI."""
    real = values + white(values.shape, sigma, rng)  # type: ignore[arg-type]
    imaginary = white(values.shape, sigma, rng)  # type: ignore[arg-type]
    return np.asarray(np.hypot(real, imaginary))
