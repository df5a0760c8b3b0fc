"""Nodules have the size, density, rim and branches that their parameters say, wherever they lie."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jachai.tamper.nodule import HU_RANGES, NoduleShape, draw_lesion, draw_nodule

SHAPE, MM = (48, 64, 64), (1.0, 0.7, 0.7)
MIDDLE = (24.0, 32.0, 32.0)
VOXEL = float(np.prod(MM))


@pytest.mark.parametrize("diameter", [4.0, 8.0, 15.0, 30.0])
def test_volume_is_that_of_the_ball(diameter: float) -> None:
    alpha, _ = NoduleShape(diameter, margin_mm=0.15).rendered(SHAPE, MM, MIDDLE)
    assert float(alpha.sum()) * VOXEL == pytest.approx(np.pi / 6 * diameter**3, rel=0.08)


@given(st.integers(0, 2**32 - 1))
def test_drawn_nodules_are_believable(seed: int) -> None:
    nodule = draw_nodule(np.random.default_rng(seed), (4.0, 30.0))
    alpha, value = nodule.rendered(SHAPE, MM, MIDDLE)
    assert 4 <= nodule.diameter_mm <= 30 and nodule.density in HU_RANGES
    assert alpha.min() >= 0 and alpha.max() <= 1 and alpha.dtype == value.dtype == np.float32
    assert alpha[24, 32, 32] > 0.5, "its middle is not nodule"
    core = float(np.median(value[alpha > 0.9])) if (alpha > 0.9).any() else nodule.hu
    assert -1000 < core < 300
    again = nodule.rendered(SHAPE, MM, MIDDLE)
    assert np.array_equal(alpha, again[0]) and np.array_equal(value, again[1])


@given(st.integers(0, 2**32 - 1), st.tuples(*[st.floats(-30, 90)] * 3))
def test_nothing_lies_beyond_its_reach(seed: int, centre: tuple[float, float, float]) -> None:
    nodule = draw_nodule(np.random.default_rng(seed))
    alpha, _ = nodule.rendered(SHAPE, MM, centre)
    z, y, x = (np.abs((np.arange(n) - c) * s) for n, c, s in zip(SHAPE, centre, MM))
    far = np.maximum(np.maximum(z[:, None, None], y[None, :, None]), x[None, None, :]) > nodule.reach_mm + 1
    assert not alpha[far].any()


def test_spicules_and_tail_reach_out() -> None:
    plain = NoduleShape(12.0, margin_mm=0.2, seed=3)
    spiked = replace(plain, spikes=14, spike_mm=(6.0, 1.6))
    tailed = replace(plain, tail_mm=(8.0, 2.0), tail_to=(0.0, 1.0, 0.0))
    bodies = [nodule.rendered(SHAPE, MM, MIDDLE)[0] for nodule in (plain, spiked, tailed)]
    assert bodies[1].sum() > bodies[0].sum() and bodies[2].sum() > bodies[0].sum()
    assert bodies[2][24, 32 + round(10 / 0.7), 32] > 0.3 > bodies[0][24, 32 + round(10 / 0.7), 32]
    assert bodies[2][24, 32 - round(10 / 0.7), 32] < 0.05


def test_part_solid_has_a_dense_core_in_a_thin_halo() -> None:
    nodule = NoduleShape(16.0, "part-solid", hu=20, halo_hu=-600, core_share=0.5, texture_hu=0)
    _, value = nodule.rendered(SHAPE, MM, MIDDLE)
    assert value[24, 32, 32] == pytest.approx(20, abs=5)
    assert value[24, 32, 32 + round(6.5 / 0.7)] == pytest.approx(-600, abs=30)


@given(st.integers(0, 999), st.floats(50, 2000))
def test_lesions_stand_out_and_stay_positive(seed: int, level: float) -> None:
    lesion = draw_lesion(np.random.default_rng(seed), level, 0.05 * level)
    assert lesion.hu > 0 and abs(lesion.hu - level) > 0.15 * level and not lesion.spikes
