"""Variants of hosts: what is simulated on."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from jachai.core.volume import AIR_HU
from jachai.tamper import ATTACKS
from jachai.training.simulation import NOISE_HU, WITHOUT, Plan, each_alike, noisier
from tests.unit.synthetic_chest import synthetic_chest


def test_a_noisier_host_has_the_noise_everywhere_in_whole_hu_and_never_below_air() -> None:
    volume = synthetic_chest()
    noisy = noisier(volume, np.random.default_rng(4))
    added = noisy.voxels - volume.voxels
    assert NOISE_HU[0] * 0.8 < added[volume.voxels > -900].std() < NOISE_HU[1] * 1.1
    assert float(noisy.voxels.min()) >= min(AIR_HU, float(volume.voxels.min()))
    assert np.array_equal(noisy.voxels, np.rint(noisy.voxels))
    assert (noisy.shape, noisy.geometry) == (volume.shape, volume.geometry)


@pytest.mark.parametrize("painters", [(), ("unet-gan:a-removal",), ("unet-gan:a-removal", "unet-gan:b-injection")])
def test_region_models_meet_every_attack_as_often_whatever_painters_there_are(painters: tuple[str, ...]) -> None:
    drawn = Counter(attack.name for attack in Plan(each_alike(painters), painters).table())
    assert set(drawn) == set(ATTACKS) - set(WITHOUT)
    assert len(set(drawn.values())) == 1
