"""The MR images made by code that the calibration of `selfreference` knows: MRI's noise, another contrast, the grid of their source."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

from jachai.core.geometry import Geometry
from jachai.core.volume import Modality, Provenance, Volume

AIR_HU, TISSUE_HU = -1000.0, 40.0
RAYLEIGH = 1.913
"""Mean over standard deviation of a magnitude without signal: √(π / (4 − π)); Gudbjartsson and Patz, Magn. Reson. Med. 34:910, 1995."""


@pytest.fixture(scope="module")
def made_mr(benchmark_module: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark_module("made_mr")


def ball() -> Volume:
    """A ball of soft tissue in air, 8 slices of 128 × 128."""
    _, j, i = np.indices((8, 128, 128))
    inside = (j - 64) ** 2 + (i - 64) ** 2 < 30**2
    voxels = np.where(inside, TISSUE_HU, AIR_HU).astype(np.float32)
    return Volume(voxels, Modality.CT, Geometry.regular(8, (2.0, 0.8, 0.8)), Provenance("made", "phantom", step=1.0))


@pytest.mark.parametrize("seed", [1, 3, 4, 6])
def test_a_ct_becomes_an_mri_with_noise_of_a_magnitude(made_mr: ModuleType, seed: int) -> None:
    """Seeds whose noise is some steps of the stored values."""
    scan = ball()
    made = made_mr.like_mr(scan, np.random.default_rng(seed))
    assert made.modality is Modality.MR and made.geometry == scan.geometry and made.shape == scan.shape
    air, tissue = made.voxels[:, :24, :24], made.voxels[:, 52:76, 52:76]
    assert air.min() >= 0 and air.std() > 2
    assert air.mean() / air.std() == pytest.approx(RAYLEIGH, rel=0.04)
    assert tissue.mean() > 3 * air.mean()
    assert np.array_equal(made.voxels, np.rint(made.voxels))


def test_each_seed_has_its_contrast_and_gives_the_same_again(made_mr: ModuleType) -> None:
    first, again, other = (made_mr.like_mr(ball(), np.random.default_rng(seed)).voxels for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert abs(first[:, 60, 60].mean() - other[:, 60, 60].mean()) > 20


def test_of_k_space_no_more_than_the_share_acquired_is_left(made_mr: ModuleType) -> None:
    window = made_mr._window(128, 0.6, 0.5)
    frequency = np.abs(np.fft.fftfreq(128)) * 2
    assert window[0] == 1 and not window[frequency >= 0.6].any()
    assert (np.diff(window[: np.argmax(frequency >= 0.6)]) < 0).all()


def test_chests_are_taken_from_the_middle(made_mr: ModuleType) -> None:
    tall = Volume(
        np.full((70, 32, 32), TISSUE_HU, np.float32),
        Modality.CT,
        Geometry.regular(70, (2.0, 0.8, 0.8)),
        Provenance("made", "phantom", step=1.0),
    )
    [(name, made)] = made_mr.chests([tall])
    assert (name, made.shape[0]) == ("chest-0", made_mr.MOST)
