"""Lesions that were there when a scan was taken: added to the anatomy, under the scanner's own noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from jachai.core.volume import Volume
from jachai.training.lesions import with_lesions
from tests.unit.synthetic_chest import synthetic_chest


def fine(volume: Volume) -> np.ndarray:
    return volume.voxels - ndimage.gaussian_filter(volume.voxels, (0, 1.2, 1.2))


def test_lesions_brighten_lung_round_their_centres_and_nothing_else() -> None:
    chest = synthetic_chest(9)
    scan, lesions = with_lesions(chest, 5, np.random.default_rng(1))
    change = scan.voxels - chest.voxels
    assert len(lesions) == 5 and (change > 300).any() and change.min() >= -1
    away = np.full(chest.shape, np.inf)
    for centre, diameter in lesions:
        steps = [(index - c) * mm for index, c, mm in zip(np.indices(chest.shape), centre, chest.spacing_mm or ())]
        np.minimum(away, np.sqrt(sum(step**2 for step in steps)) / diameter, out=away)
    assert np.abs(change[away > 2.5]).max() == 0 and change[away < 0.2].mean() > 100
    again, _ = with_lesions(chest, 5, np.random.default_rng(1))
    assert np.array_equal(scan.voxels, again.voxels) and scan.voxels is not chest.voxels


def test_the_noise_of_the_scanner_stays_as_strong_inside_a_lesion() -> None:
    chest = synthetic_chest(9)
    ratios = []
    for seed in range(6):
        scan, _ = with_lesions(chest, 1, np.random.default_rng(seed))
        inside = ndimage.binary_erosion(scan.voxels - chest.voxels > 400, iterations=3)
        if inside.sum() > 200:
            ratios.append(fine(scan)[inside].std() / fine(chest)[inside].std())
    assert len(ratios) >= 2 and 0.9 < np.median(ratios) < 1.3


def test_a_scan_without_lungs_stays_as_it_is() -> None:
    chest = synthetic_chest(3)
    belly = replace(chest, voxels=np.maximum(chest.voxels, np.where(chest.voxels > -950, 0, -1000)).astype(np.float32))
    scan, lesions = with_lesions(belly, 3, np.random.default_rng(0))
    assert scan is belly and lesions == []
