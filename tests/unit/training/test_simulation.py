"""Variants of hosts: what is simulated on."""

from __future__ import annotations

import numpy as np

from jachai.core.volume import AIR_HU
from jachai.training.simulation import NOISE_HU, noisier
from tests.unit.synthetic_chest import synthetic_chest


def test_a_noisier_host_has_the_noise_everywhere_in_whole_hu_and_never_below_air() -> None:
    volume = synthetic_chest()
    noisy = noisier(volume, np.random.default_rng(4))
    added = noisy.voxels - volume.voxels
    assert NOISE_HU[0] * 0.8 < added[volume.voxels > -900].std() < NOISE_HU[1] * 1.1
    assert float(noisy.voxels.min()) >= min(AIR_HU, float(volume.voxels.min()))
    assert np.array_equal(noisy.voxels, np.rint(noisy.voxels))
    assert (noisy.shape, noisy.geometry) == (volume.shape, volume.geometry)
