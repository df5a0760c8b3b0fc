"""Trees of vessels: laws of branching. Tubes: against a cylinder sampled finely and blurred by scipy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from jachai.phantom.texture import Sampling
from jachai.phantom.tubes import Tubes, draw
from jachai.phantom.vessels import BRONCHUS_WALL_MM, RADIUS_POWER, SMALLEST_BRONCHUS_MM, bronchi, grow

ROOT, HEADING = np.array([0.0, 0, 0]), np.array([5.0, 0, 0])


@given(n=st.integers(1, 300), seed=st.integers(0, 99))
def test_a_tree_reaches_every_point_and_shares_its_flow(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.uniform([10, -40, -60], [90, 40, 60], (n, 3))
    tree = grow(points, ROOT, HEADING, 6.0, rng)
    distance = np.linalg.norm(tree.end[:, None] - points[None], axis=2)
    assert distance.min(axis=0).max() < 1e-6
    child = tree.parent >= 0
    assert (tree.parent[child] < np.flatnonzero(child)).all()
    assert np.allclose(tree.start[child], tree.end[tree.parent[child]])
    flow = tree.radius**RADIUS_POWER
    received = np.bincount(tree.parent[child], flow[child], len(flow))
    divides = received > 0
    assert np.allclose(received[divides], flow[divides])
    assert tree.radius[0] == 6.0


def test_bronchi_follow_the_arteries_and_taper() -> None:
    rng = np.random.default_rng(5)
    tree = grow(rng.uniform([10, -40, -60], [90, 40, 60], (2000, 3)), ROOT, HEADING, 6.0, rng)
    wall, lumen = bronchi(tree, np.array([0.0, 1, 0]))
    assert 10 < len(lumen) < len(tree.radius)
    assert lumen.r1.min() >= SMALLEST_BRONCHUS_MM
    assert (lumen.r0 >= lumen.r1 - 1e-9).all()
    assert (wall.r1 - lumen.r1 >= BRONCHUS_WALL_MM - 1e-9).all()


def grid(step: float, half: float, blur: float, blur_z: float) -> tuple[Sampling, np.ndarray]:
    axis = np.arange(-half, half + step / 2, step)
    return Sampling(axis, axis, blur, blur_z), axis


@pytest.mark.parametrize("radius", [0.4, 0.8, 1.5, 4.0])
@pytest.mark.parametrize("direction", [(0, 0, 1), (1, 0, 0), (1, 1, 1)])
def test_a_drawn_tube_is_a_blurred_cylinder(radius: float, direction: tuple[int, int, int]) -> None:
    """Oracle: the cylinder on a grid of 0.2 mm, blurred by scipy's Gaussian."""
    step, blur = 0.2, 0.7
    sampling, axis = grid(step, 8.0, blur, blur)
    u = np.array(direction) / np.linalg.norm(direction)
    cover = draw(Tubes.along([-30 * u, 30 * u], radius), sampling, axis)
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    along = x * u[0] + y * u[1] + z * u[2]
    distance = np.sqrt(np.maximum(x**2 + y**2 + z**2 - along**2, 0))
    solid = np.clip(0.5 - (distance - radius) / step, 0, 1)
    oracle = ndimage.gaussian_filter(solid, blur / step)
    inner = (slice(20, -20),) * 3
    assert np.abs(cover[inner] - oracle[inner]).max() < 0.035
    assert cover[inner].sum() == pytest.approx(oracle[inner].sum(), rel=0.05 if radius > 0.5 else 0.1)


@given(
    st.tuples(*[st.floats(-30, 30)] * 3),
    st.tuples(*[st.floats(-30, 30)] * 3),
    st.floats(0.2, 12),
    st.integers(1, 12),
)
def test_coverage_stays_between_zero_and_one_wherever_a_tube_lies(
    a: tuple[float, float, float], b: tuple[float, float, float], radius: float, slices: int
) -> None:
    sampling, _ = grid(2.0, 16.0, 0.9, 1.1)
    z = np.arange(slices) * 2.5 - 10
    cover = draw(Tubes.along([a, b], [radius, radius / 2]), sampling, z)
    assert cover.shape == (slices, 17, 17)
    assert cover.min() >= 0
    assert cover.max() <= 1.001
    each = np.stack([draw(Tubes.along([a, b], [radius, radius / 2]), sampling, z[k : k + 1])[0] for k in range(slices)])
    # Beyond MARGIN less than 1 % is left, drawn only where a box was rounded up.
    assert np.allclose(cover, each, atol=0.01)
