"""Variants of hosts: what is simulated on."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from jachai.core.geometry import Geometry
from jachai.core.volume import AIR_HU, Modality, Provenance, Volume
from jachai.tamper import ATTACKS
from jachai.training.simulation import NOISE_HU, WITHOUT, Plan, each_alike, noisier
from tests.unit.synthetic_chest import synthetic_chest


def test_a_noisier_host_has_uneven_noise_in_whole_hu_and_never_below_air() -> None:
    volume = synthetic_chest()
    noisy = noisier(volume, np.random.default_rng(4))
    added = noisy.voxels - volume.voxels
    lung = (volume.voxels > -950) & (volume.voxels < -600)
    assert NOISE_HU[0] * 0.8 < added[lung].std() < NOISE_HU[1] * 1.3
    assert float(noisy.voxels.min()) >= min(AIR_HU, float(volume.voxels.min()))
    assert np.array_equal(noisy.voxels, np.rint(noisy.voxels))
    assert (noisy.shape, noisy.geometry) == (volume.shape, volume.geometry)


def test_the_noise_of_a_noisier_host_is_stronger_deep_in_the_body() -> None:
    y, x = (np.indices((256, 256)) - 127.5) * 1.5
    hu = np.where((x / 180) ** 2 + (y / 110) ** 2 < 1, 40.0, -1000.0)
    for side in (-80, 80):
        hu[(x - side) ** 2 + y**2 < 50**2] = -850.0
    volume = Volume(
        hu.astype(np.float32)[None].repeat(6, 0),
        Modality.CT,
        Geometry.regular(6, (2.0, 1.5, 1.5)),
        Provenance("a", "b"),
    )
    added = [noisier(volume, np.random.default_rng(seed)).voxels - volume.voxels for seed in range(4)]
    assert np.mean([one[:, 118:138, 118:138].std() / one[:, 58:68, 110:146].std() for one in added]) > 1.1


@pytest.mark.parametrize("painters", [(), ("unet-gan:a-removal",), ("unet-gan:a-removal", "unet-gan:b-injection")])
def test_region_models_meet_every_attack_as_often_whatever_painters_there_are(painters: tuple[str, ...]) -> None:
    drawn = Counter(attack.name for attack in Plan(each_alike(painters), painters).table())
    assert set(drawn) == set(ATTACKS) - set(WITHOUT)
    assert len(set(drawn.values())) == 1
