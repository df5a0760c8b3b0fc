"""Laws and oracles of joints, harmonic functions, quantisation, splines and noise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from jachai.core.volume import Volume
from jachai.phantom import ct_noise
from jachai.tamper import noise
from jachai.tamper.blend import Blend, Joint, depth_mm, harmonic, quantised
from jachai.tamper.finish import own_noise
from jachai.tamper.resample import zoomed
from jachai.tamper.targets import healthy_places

JOINTS: tuple[Joint, ...] = ("box", "ellipsoid", "feathered", "poisson")
SPACING = (2.0, 0.7, 0.8)
shapes = st.tuples(st.integers(1, 7), st.integers(1, 12), st.integers(1, 12))


def block(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(-800, 40, shape).astype(np.float32)


@given(shapes, st.sampled_from(JOINTS), st.sampled_from([2, 3]), st.integers(0, 99))
def test_what_is_equal_stays_equal(shape: tuple[int, int, int], joint: Joint, dims: int, seed: int) -> None:
    original = block(shape, seed)
    assert np.array_equal(Blend(joint, dims).merged(original, original.copy(), SPACING), original)
    weights = Blend(joint, dims).weights(shape, SPACING)
    assert weights.shape == shape and weights.min() >= 0 and weights.max() <= 1


@pytest.mark.parametrize("dims", [2, 3])
def test_harmonic_is_harmonic_and_keeps_the_rim(dims: int) -> None:
    values = block((9, 14, 11), 3)
    out = harmonic(values, dims)
    inner = (slice(1, -1), slice(1, -1), slice(1, -1))
    rim = np.ones(values.shape, bool)
    rim[inner if dims == 3 else (slice(None), *inner[1:])] = False
    assert np.array_equal(out[rim], values[rim])
    axes = (0, 1, 2) if dims == 3 else (1, 2)
    laplace = sum(np.roll(out, 1, a) + np.roll(out, -1, a) - 2 * out for a in axes)
    assert np.abs(laplace[inner]).max() < 0.02, "not a solution of the Laplace equation"
    assert values[rim].min() <= out.min() and out.max() <= values[rim].max(), "the maximum lies on the rim"


def test_harmonic_of_a_plane_is_the_plane() -> None:
    z, y, x = np.mgrid[:6, :9, :8].astype(np.float32)
    plane = 3 * x - 2 * y + z
    assert np.allclose(harmonic(plane), plane, atol=1e-4)


def test_poisson_meets_the_rim_and_keeps_the_gradient_of_a_shift() -> None:
    original, content = block((8, 16, 16), 1), block((8, 16, 16), 1) + 55
    assert np.allclose(Blend("poisson").merged(original, content, SPACING), original, atol=1e-2)


def test_2d_joints_end_at_once_in_z() -> None:
    flat, round_ = (
        Blend("feathered", 2).weights((8, 30, 30), SPACING),
        Blend("feathered", 3).weights((8, 30, 30), SPACING),
    )
    assert np.ptp(flat, axis=0).max() == 0 and flat[0].max() > 0.9
    assert round_[0].max() < 0.5
    assert depth_mm((8, 30, 30), SPACING)[0, 0, 0] < 0


@given(
    st.sampled_from([1.0, 0.5, 2.0, 0.25]),
    st.floats(-1024, 100),
    st.floats(-60, 60),
    st.sampled_from(["floor", "zero", "nearest"]),
)
def test_quantised(step: float, start: float, by: float, rounding: str) -> None:
    before = np.full((1, 1, 1), np.round(start / step) * step, np.float32)
    after = before + np.float32(by)
    got = float(quantised(before, after, step, rounding, -1024.0)[0, 0, 0])  # type: ignore[arg-type]
    wanted = max(float(after[0, 0, 0]), -1024.0)
    assert got % step == 0 and got >= -1024
    if rounding == "nearest":
        assert abs(got - wanted) <= step / 2
    elif rounding == "floor" or wanted > 0:
        assert got <= wanted + 1e-3 and wanted - got < step + 1e-3
    else:
        assert got >= wanted - 1e-3 and got - wanted < step + 1e-3


def test_unknown_step_is_left_alone() -> None:
    before, after = block((2, 3, 4), 0), block((2, 3, 4), 1)
    assert np.array_equal(quantised(before, after, None, "floor", -1024.0), after)


@pytest.mark.parametrize("order", [0, 1, 3, 5])
@pytest.mark.parametrize("shape", [(32, 32, 32), (9, 40, 17), (1, 5, 60)])
def test_zoom_against_scipy(order: int, shape: tuple[int, ...]) -> None:
    values = block((13, 22, 18), 2) if shape[0] > 1 else block((1, 22, 18), 2)
    factors = [b / a for a, b in zip(values.shape, shape)]
    oracle = ndimage.zoom(values, factors, order=order, mode="nearest")
    assert np.abs(zoomed(values, shape, order) - oracle).max() < (1e-2 if order else 1e-6)


def test_noise_like_has_the_spectrum_of_the_block() -> None:
    spacing = (1.0, 0.75, 0.75)
    own = ct_noise((24, 40, 40), spacing, "standard", np.random.default_rng(1)) * 20
    made = noise.like(own.astype(np.float32), (24, 40, 40), np.random.default_rng(2))
    assert made.std() == pytest.approx(own.std(), rel=0.15)
    for axis in range(3):
        neighbours = [
            np.corrcoef(np.delete(f, -1, axis).ravel(), np.delete(f, 0, axis).ravel())[0, 1] for f in (own, made)
        ]
        assert neighbours[1] == pytest.approx(neighbours[0], abs=0.12)
    assert abs(np.corrcoef(own.ravel(), made.ravel())[0, 1]) < 0.1


def test_grain() -> None:
    rng = np.random.default_rng(0)
    fine, coarse = noise.grained((30, 30, 30), 10, 1.0, rng), noise.grained((30, 30, 30), 10, 2.0, rng)
    assert fine.std() == pytest.approx(10, rel=0.05)
    assert np.corrcoef(coarse[:, :, 1:].ravel(), coarse[:, :, :-1].ravel())[0, 1] > 0.5
    assert 4 < coarse.std() < 9


def test_point_spread_follows_the_kernel(right_lungs: dict[str, Volume]) -> None:
    sigmas = []
    for kernel in ("soft", "standard", "sharp"):
        volume = right_lungs[kernel]
        place = healthy_places(volume, np.random.default_rng(0), 1)[0]
        sigmas.append(noise.psf_sigma_mm(own_noise(volume, place), (1.0, 0.75, 0.75)))
    assert sigmas[0] > sigmas[1] > sigmas[2] and sigmas[2] > 0.2 and sigmas[0] < 1.2


def test_rician_noise_of_nothing_is_rayleigh() -> None:
    values = noise.rician(np.zeros((20, 20, 20), np.float32), 5.0, np.random.default_rng(0))
    assert values.min() >= 0 and values.mean() == pytest.approx(5 * np.sqrt(np.pi / 2), rel=0.03)
