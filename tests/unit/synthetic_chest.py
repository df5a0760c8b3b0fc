"""A two-minute chest for unit tests of the engine: ellipses and band-limited noise, nothing else (the phantom is richer)."""

import numpy as np
from scipy import ndimage

from jachai.core.geometry import Geometry
from jachai.core.volume import Modality, Provenance, Volume


def synthetic_chest(
    slices: int = 1, side: int = 256, seed: int = 0, sigma: float = 20.0, pixel_mm: float = 0.9
) -> Volume:
    """Body 0 HU, two lungs −850 HU, air −1000 HU; Gaussian-filtered noise: like a scanner's, empty at the highest frequencies."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side - 0.5
    body = (x / 0.45) ** 2 + (y / 0.38) ** 2 < 1
    lungs = ((np.abs(x) - 0.2) / 0.16) ** 2 + (y / 0.28) ** 2 < 1
    anatomy = np.where(lungs, -850.0, np.where(body, 0.0, -1000.0))
    voxels = np.empty((slices, side, side), np.float32)
    for k in range(slices):
        noise = ndimage.gaussian_filter(rng.normal(size=(side, side)), 0.8)
        voxels[k] = np.round(ndimage.gaussian_filter(anatomy, 0.8) + noise / noise.std() * sigma)
    geometry = Geometry.regular(slices, (2.0, pixel_mm, pixel_mm))
    return Volume(voxels, Modality.CT, geometry, Provenance("synthetic", "phantom", step=1.0))


LUNG_PLACE = (128, 77)
"""(j, i) in the middle of the left lung of a 256-pixel chest."""


def with_white_noise(volume: Volume, sigma: float = 30.0, radius: int = 14, seed: int = 1) -> Volume:
    """A removal's trace: white noise in a ball at LUNG_PLACE in the middle slices."""
    voxels = volume.voxels.copy()
    j, i = LUNG_PLACE
    y, x = np.mgrid[: voxels.shape[1], : voxels.shape[2]]
    disc = (y - j) ** 2 + (x - i) ** 2 < radius**2
    rng = np.random.default_rng(seed)
    for k in _middle(volume):
        voxels[k][disc] += np.round(rng.normal(scale=sigma, size=int(disc.sum()))).astype(np.float32)
    return volume.with_voxels(voxels)


def with_smooth_nodule(volume: Volume, radius: int = 10) -> Volume:
    """An injection's trace: a nodule with next to no grain at LUNG_PLACE in the middle slices."""
    voxels = volume.voxels.copy()
    j, i = LUNG_PLACE
    y, x = np.mgrid[: voxels.shape[1], : voxels.shape[2]]
    edge = 1 / (1 + np.exp(np.hypot(y - j, x - i) - radius))
    for k in _middle(volume):
        voxels[k] = np.round(voxels[k] * (1 - edge) + 10 * edge)
    return volume.with_voxels(voxels)


def _middle(volume: Volume) -> range:
    n = volume.shape[0]
    return range(n // 3, max(n // 3 + 1, n - n // 3))
