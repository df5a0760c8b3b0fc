"""The residual bank: unit gain for white noise, blind to what anatomy mostly is."""

import numpy as np
import pytest

from jachai.forensics import residual


@pytest.mark.parametrize("name", residual.IN_PLANE)
def test_white_noise_keeps_its_size(name: str) -> None:
    noise = np.random.default_rng(3).normal(scale=17, size=(256, 256)).astype(np.float32)
    assert residual.IN_PLANE[name](noise)[8:-8, 8:-8].std() == pytest.approx(17, rel=0.06)


def test_noise_independent_between_slices_keeps_its_size() -> None:
    a, b, c = np.random.default_rng(4).normal(scale=9, size=(3, 256, 256)).astype(np.float32)
    assert residual.between(a, b, c)[8:-8, 8:-8].std() == pytest.approx(9, rel=0.06)
    assert residual.between(a, a, a).std() == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("name", ["corner", "diagonal"])
def test_straight_edges_and_slopes_leave_nothing(name: str) -> None:
    y, x = np.mgrid[:64, :64].astype(np.float32)
    for picture in (np.where(x > 30, 1000, 0), np.where(y > 30, 1000, 0), 3 * x + 2 * y):
        left = residual.IN_PLANE[name](picture.astype(np.float32))
        assert np.abs(left[8:-8, 8:-8]).max() < 1e-2


def test_corner_sees_only_the_highest_frequencies() -> None:
    y, x = np.mgrid[:128, :128]

    def gain(f: float) -> float:
        wave = (np.sin(np.pi * f * x) * np.sin(np.pi * f * y)).astype(np.float32)
        return float(residual.corner(wave)[16:-16, 16:-16].std() / wave.std())

    assert gain(0.3) < 0.01 < 0.3 < gain(0.8)
