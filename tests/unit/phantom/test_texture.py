"""A texture belongs to millimetres: the same place has the same value, however and in whatever order it is sampled."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jachai.phantom.texture import Sampling, Texture


def sampling(x: np.ndarray, y: np.ndarray, blur: float = 0.0, blur_z: float = 0.0) -> Sampling:
    return Sampling(x, y, blur, blur_z)


@given(st.integers(0, 99), st.floats(1, 15), st.floats(-300, 300))
def test_a_place_has_one_value(seed: int, step: float, z: float) -> None:
    coarse = Texture((seed, 1), step, sampling(np.arange(-40.0, 41, 8), np.arange(-60.0, 30, 6)))
    fine = Texture((seed, 1), step, sampling(np.arange(-40.0, 41, 2), np.arange(-60.0, 30, 3)))
    fine.at(z + 3 * step)
    assert np.allclose(coarse.at(z), fine.at(z)[::2, ::4], atol=1e-4)


@pytest.mark.parametrize("step", [1.7, 9.0])
def test_mean_zero_variance_one_and_less_through_blur(step: float) -> None:
    axis = np.arange(-190.0, 190, 1.3)
    sharp, soft = (Texture((3, 1), step, sampling(axis, axis, b, b)) for b in (0.0, step))
    values = np.stack([sharp.at(z) for z in np.arange(0, 40 * step, 3.1 * step)])
    assert abs(values.mean()) < 0.06
    assert values.var() == pytest.approx(1, abs=0.1)
    assert np.stack([soft.at(z) for z in np.arange(0, 40 * step, 3.1 * step)]).var() < 0.2


def test_neither_planes_nor_seeds_repeat() -> None:
    axis = np.arange(-100.0, 100, 2.0)
    texture = Texture((1, 1), 4.0, sampling(axis, axis))
    slices = np.stack([texture.at(z).ravel() for z in np.arange(-200.0, 200, 20)])
    slices = np.concatenate([slices, Texture((2, 1), 4.0, sampling(axis, axis)).at(0.0).reshape(1, -1)])
    assert np.abs(np.corrcoef(slices)[np.triu_indices(len(slices), 1)]).max() < 0.15
