"""Intact MR images made by code: heads drawn with an MR scanner's noise, and chest CTs given the contrast, resolution and noise of MRI.

A handful of real studies says little about how far a cue varies in intact MRI. These images vary what scanners vary: weighting, noise,
pixel and slice size, how much of k-space was acquired and how it was filtered, coil shading, and the step between stored values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from jachai.core.volume import Modality, Volume
from jachai.phantom.brain import SEQUENCES_MS, BrainPhantom, brain
from jachai.training.search_sets import slab

PHANTOMS = 14
SIDES = {0.5: 384, 0.8: 256, 1.0: 224, 1.2: 192}
"""Pixel in mm → pixels: the head fits."""
SLICES_MM, HEAD_MM = (1.0, 2.0, 3.0, 5.0), 60.0
NOISE, SHADING = (0.01, 0.07), (0.05, 0.2)
MOST = 50
"""Slices taken from the middle of a CT."""
CURVE_HU = (-1000, -700, -120, -60, 0, 40, 80, 200, 1000)
"""Hounsfield units that are given a brightness by chance: lung dark, soft tissues in any order, bone darker."""
BLUR = (0.6, 1.0, 1.0)
"""σ in slices and pixels: the noise of the CT goes first."""
ACQUIRED, FILTERED, NOISE_SD, STEPS = (0.5, 1.0), (0.0, 0.7), (4.0, 60.0), (0.1, 0.5, 1.0, 2.0)
"""Share of k-space that was acquired; how far it was apodised; standard deviation of its noise, tissue being some 100 to 1,000;
stored steps for each unit."""


def heads() -> Iterator[tuple[str, Volume]]:
    """(name, head) in the weightings there are."""
    for n in range(PHANTOMS):
        rng = np.random.default_rng((5, n))
        pixel, step = float(rng.choice(list(SIDES))), float(rng.choice(SLICES_MM))
        shape = (max(12, int(HEAD_MM / step)), SIDES[pixel], SIDES[pixel])
        noise, shading = float(np.exp(rng.uniform(*np.log(NOISE)))), float(rng.uniform(*SHADING))
        weighting = list(SEQUENCES_MS)[n % len(SEQUENCES_MS)]
        settings = BrainPhantom(shape, (step, pixel, pixel), seed=n, weighting=weighting, noise=noise, shading=shading)
        yield f"head-{n}", brain(settings)


def chests(scans: Iterable[Volume]) -> Iterator[tuple[str, Volume]]:
    """(name, image like an MRI) of each CT."""
    for n, scan in enumerate(scans):
        low = max(0, scan.shape[0] // 2 - MOST // 2)
        yield f"chest-{n}", like_mr(slab(scan, low, min(scan.shape[0], low + MOST)), np.random.default_rng((9, n)))


def like_mr(scan: Volume, rng: np.random.Generator) -> Volume:
    """A CT as an MR image: another contrast, Rician noise, a part of k-space, filled up with zeros."""
    dark, soft, bone = rng.uniform(0, 100, 2), rng.uniform(100, 1000, 5), rng.uniform(50, 300)
    brightness = (0.0, dark[0], *soft, bone, dark[1])
    signal = np.interp(ndimage.gaussian_filter(scan.voxels, BLUR), CURVE_HU, brightness)
    share = float(rng.uniform(*ACQUIRED))
    filtered, sigma = float(rng.uniform(*FILTERED)), float(np.exp(rng.uniform(*np.log(NOISE_SD))))
    along = [
        _window(n, share * narrower, filtered) for n, narrower in zip(scan.shape[1:], (1.0, rng.choice([1.0, 0.8])))
    ]
    noise = sigma * (rng.standard_normal(signal.shape) + 1j * rng.standard_normal(signal.shape))
    acquired = np.fft.fft2(signal + noise, axes=(1, 2)) * along[0][:, None] * along[1]
    magnitude = np.abs(np.fft.ifft2(acquired, axes=(1, 2)))
    stored = np.rint(magnitude * float(rng.choice(STEPS))).astype(np.float32)
    return replace(scan, voxels=stored, modality=Modality.MR)


def _window(count: int, share: float, filtered: float) -> npt.NDArray[np.float64]:
    """(count,) weights of the frequencies along an axis: 0 outside of the share acquired."""
    frequency = np.abs(np.fft.fftfreq(count)) * 2
    hann = 0.5 + 0.5 * np.cos(np.pi * np.minimum(frequency / share, 1))
    return np.where(frequency < share, 1 - filtered + filtered * hann, 0.0)
