"""Painters paint whole cubes, fill holes with tissue, and touch nothing of what they get."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from jachai.core.errors import UsageError
from jachai.core.volume import Volume, Voxels
from jachai.tamper.anatomy import wall
from jachai.tamper.canvas import Canvas
from jachai.tamper.nodule import NoduleShape
from jachai.tamper.painters import INJECTORS, PAINTERS, REMOVERS, bilateral, painter
from jachai.tamper.quilt import quilted

MM = (1.0, 1.0, 1.0)


def encoded(values: Voxels) -> Voxels:
    return np.clip((values + 500) / 1200, -0.5, 0.5).astype(np.float32)


def decoded(values: Voxels) -> Voxels:
    return (values * 1200 - 500).astype(np.float32)


def lung(seed: int, n: int = 24) -> Voxels:
    rng = np.random.default_rng(seed)
    return (-850 + 60 * ndimage.gaussian_filter(rng.normal(size=(n, n, n)), 0.7)).astype(np.float32)


def canvas(nodule: NoduleShape | None = None, seed: int = 0) -> Canvas:
    """Lung with a ball of soft tissue in the middle, and a hole round it."""
    n = 24
    z, y, x = np.mgrid[:n, :n, :n] - (n - 1) / 2
    cube = lung(99)
    cube[np.sqrt(x * x + y * y + z * z) < 5] = 40
    hole = np.zeros((n, n, n), bool)
    hole[4:-4, 4:-4, 4:-4] = True
    examples = np.stack([encoded(lung(s)) for s in range(5)])
    nothing = np.zeros_like(hole)
    return Canvas(
        encoded(cube), hole, nothing, lambda: examples, MM, encoded, decoded, nodule, np.random.default_rng(seed)
    )


@pytest.mark.parametrize("name", PAINTERS)
@pytest.mark.parametrize("nodule", [None, NoduleShape(9.0)], ids=["removal", "injection"])
def test_every_painter(name: str, nodule: NoduleShape | None) -> None:
    given_ = canvas(nodule)
    before = given_.cube.copy()
    out = painter(name).paint(given_)
    assert out.shape == before.shape and out.dtype == np.float32 and np.isfinite(out).all()
    assert np.array_equal(given_.cube, before), "the cube it got was touched"
    assert np.array_equal(out, painter(name).paint(canvas(nodule))), "not the same for the same seed"


@pytest.mark.parametrize("name", REMOVERS)
def test_removers_leave_lung(name: str) -> None:
    given_ = canvas()
    middle = decoded(painter(name).paint(given_))[10:14, 10:14, 10:14]
    assert decoded(given_.cube)[10:14, 10:14, 10:14].mean() > 0
    assert -950 < middle.mean() < -720


@pytest.mark.parametrize("name", INJECTORS)
def test_injectors_put_the_nodule_there(name: str) -> None:
    plain = canvas()
    empty = Canvas(
        encoded(lung(7)),
        plain.hole,
        plain.wall,
        plain.examples,
        MM,
        encoded,
        decoded,
        NoduleShape(9.0, hu=50),
        plain.rng,
    )
    out = decoded(painter(name).paint(empty))
    assert out[10:14, 10:14, 10:14].mean() > -100
    assert out[:3].mean() < -800


@given(st.tuples(*[st.integers(4, 14)] * 3), st.tuples(*[st.integers(1, 7)] * 3), st.integers(0, 9))
def test_quilting_fills_the_hole_and_nothing_else(
    shape: tuple[int, int, int], side: tuple[int, int, int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    hole = np.zeros(shape, bool)
    hole[1:-1, 1:-1, 1:-1] = rng.random([n - 2 for n in shape]) < 0.7
    region = rng.normal(0, 1, shape).astype(np.float32)
    region[hole] = 1000
    sources = rng.normal(0, 1, (2, *shape)).astype(np.float32)
    out = quilted(region, hole, sources, side, rng)
    assert np.array_equal(out[~hole], region[~hole])
    assert not hole.any() or np.abs(out[hole]).max() < 20


@pytest.mark.parametrize("corner", [(0, 0, 0), (0, 0, -1), (0, -1, 0), (0, -1, -1)])
def test_quilting_fills_a_hole_at_the_edge(corner: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(1)
    region, hole = rng.normal(0, 9, (1, 20, 20)).astype(np.float32), np.zeros((1, 20, 20), bool)
    hole[corner] = True
    filled = quilted(region, hole, rng.normal(0, 9, (2, 1, 20, 20)).astype(np.float32), (1, 5, 5), rng)
    assert np.isfinite(filled).all()
    assert np.array_equal(filled[~hole], region[~hole])


def test_quilting_keeps_the_noise() -> None:
    region, sources = lung(1, 30), np.stack([lung(s, 30) for s in range(2, 6)])
    hole = np.zeros(region.shape, bool)
    hole[5:-5, 5:-5, 5:-5] = True
    out = quilted(region, hole, sources, (9, 9, 9), np.random.default_rng(0))

    def fine(a: Voxels) -> float:
        return float((a - ndimage.uniform_filter(a, 3))[hole].std())

    assert fine(out) == pytest.approx(fine(region), rel=0.2)
    assert abs(float(out[hole].mean() - region.mean())) < 10


def test_wall_is_what_goes_on_outside() -> None:
    block = lung(3, 40)
    block[:, :12] = 40
    block[15:27, 24:34, 15:27] = 40
    block[:, 20, 20] = 40
    found = wall(block, MM)
    assert found[20, 4, 20] and not found[20, 29, 20] and not found[20, 20, 20]
    assert not wall(lung(3, 40), MM).any()


def test_bilateral_keeps_edges_and_smooths_noise() -> None:
    step = np.zeros((1, 20, 20), np.float32)
    step[:, :, 10:] = 100
    noisy = step + np.random.default_rng(0).normal(0, 3, step.shape).astype(np.float32)
    out = bilateral(noisy, 1, 15.0)
    assert (out - step).std() < 0.6 * (noisy - step).std()


def test_unknown_painter_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="'patches'"):
        painter("patch")


def test_canvas_masks_the_hole(thorax: Volume) -> None:
    given_ = canvas()
    assert not given_.masked[given_.hole].any()
    assert np.array_equal(given_.masked[~given_.hole], given_.cube[~given_.hole])
