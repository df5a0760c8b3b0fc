"""CT noise against its designed spectrum and slice overlap; Rician noise against its moments; the level against theory."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jachai.core.errors import UsageError
from jachai.phantom.noise import (
    DOSE_MODULATION,
    KERNELS,
    WATER_PER_MM,
    NoiseLevel,
    ct_noise,
    enlarged,
    folded_nps,
    rician,
    scanned_noise_slices,
    slice_correlation,
    slice_weights,
)

PIXEL = 0.7


def ring_mean(power: np.ndarray, pixel: float) -> tuple[np.ndarray, np.ndarray]:
    """Full-plane power → frequency of rings up to Nyquist and the mean power in each."""
    n = power.shape[0]
    f = np.hypot(np.fft.fftfreq(n, pixel)[:, None], np.fft.fftfreq(n, pixel)[None, :])
    edges = np.linspace(0.03, 0.5 / pixel, 24)
    ring = np.digitize(f, edges)
    values = np.array([power[ring == r].mean() for r in range(1, len(edges))])
    return (edges[1:] + edges[:-1]) / 2, values


def measured_nps(noise: np.ndarray) -> np.ndarray:
    """Mean periodogram of the slices, full plane, tapered against leakage."""
    window = np.hanning(noise.shape[1])[:, None] * np.hanning(noise.shape[2])[None, :]
    return np.mean(np.abs(np.fft.fft2(noise * window)) ** 2, axis=0) / (window**2).sum()


@pytest.mark.parametrize("name", KERNELS)
def test_noise_has_the_designed_spectrum(name: str) -> None:
    noise = ct_noise((24, 160, 160), (2.5, PIXEL, PIXEL), name, np.random.default_rng(1))
    frequency, measured = ring_mean(measured_nps(noise), PIXEL)
    half = folded_nps(KERNELS[name], (160, 160), (PIXEL, PIXEL))
    full = np.concatenate([half, half[:, 1:-1][np.r_[0, 159:0:-1]][:, ::-1]], axis=1)
    _, designed = ring_mean(full, PIXEL)
    assert np.corrcoef(measured, designed)[0, 1] > 0.99
    assert np.allclose(measured, designed, rtol=0.12, atol=0.03 * designed.max())
    assert abs(frequency[measured.argmax()] - frequency[designed.argmax()]) < 0.07


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("spacing", [(2.5, 0.7, 0.7), (1.0, 1.4, 1.1)])
def test_noise_has_mean_zero_and_variance_one(name: str, spacing: tuple[float, float, float]) -> None:
    noise = ct_noise((20, 150, 131), spacing, name, np.random.default_rng(2))
    assert noise.dtype == np.float32
    assert abs(noise.mean()) < 0.01
    assert noise.var() == pytest.approx(1, abs=0.02)


def test_sharper_kernels_have_finer_noise() -> None:
    peak = {}
    for name in KERNELS:
        noise = ct_noise((16, 192, 192), (2.5, 0.5, 0.5), name, np.random.default_rng(3))
        frequency, power = ring_mean(measured_nps(noise), 0.5)
        peak[name] = frequency[power.argmax()]
    assert peak["soft"] < peak["standard"] < peak["sharp"]
    for name in ("soft", "standard"):  # f · exp(-4π²σ²f²) is largest at 1 / (√8 π σ)
        assert peak[name] == pytest.approx(1 / (np.sqrt(8) * np.pi * KERNELS[name].psf_mm), abs=0.05)
    assert all(kernel.nps(np.zeros(1))[0] == 0 and kernel.mtf(np.zeros(1))[0] == 1 for kernel in KERNELS.values())


def test_folding_is_what_taking_every_second_pixel_does() -> None:
    """Oracle: noise made at half the pixel size, then thinned out."""
    fine = ct_noise((24, 360, 360), (5.0, 0.4, 0.4), "sharp", np.random.default_rng(4))
    coarse = ct_noise((24, 120, 120), (5.0, 1.2, 1.2), "sharp", np.random.default_rng(5))
    thinned, direct = measured_nps(fine[:, ::3, ::3]), measured_nps(coarse)
    assert np.allclose(ring_mean(thinned, 1.2)[1], ring_mean(direct, 1.2)[1], rtol=0.12, atol=0.03)
    for axis in (0, 1):
        assert np.allclose(thinned.mean(axis=axis), direct.mean(axis=axis), rtol=0.2)


@pytest.mark.parametrize("width", [8, 9])
def test_folded_power_has_mean_one_over_the_full_plane(width: int) -> None:
    half = folded_nps(KERNELS["soft"], (6, width), (0.7, 0.9))
    mirrored = half[:, 1 : (width + 1) // 2]
    assert (half.sum() + mirrored.sum()) / (6 * width) == pytest.approx(1, rel=1e-12)


@given(lag=st.floats(0, 8), thickness=st.floats(0.2, 6))
def test_slice_correlation_is_the_overlap_of_the_profiles(lag: float, thickness: float) -> None:
    """Oracle: two Gaussian profiles of that full width at half maximum, multiplied and summed."""
    z = np.linspace(-30, 30, 6001)
    profile, shifted = (np.exp(-4 * np.log(2) * ((z - at) / thickness) ** 2) for at in (0, lag))
    overlap = (profile * shifted).sum() / (profile**2).sum()
    assert slice_correlation(lag, thickness) == pytest.approx(overlap, abs=1e-6)


@pytest.mark.parametrize("thickness", [0.5, 2.0, 4.0, 6.0])
def test_slices_correlate_as_their_profiles_overlap(thickness: float) -> None:
    step = 2.0
    noise = ct_noise((40, 128, 128), (step, 0.7, 0.7), "standard", np.random.default_rng(6), thickness)
    for lag in (1, 2, 3):
        measured = float(np.mean(noise[lag:] * noise[:-lag]))
        assert measured == pytest.approx(float(slice_correlation(lag * step, thickness)), abs=0.02)


@given(step=st.floats(0.3, 8), thickness=st.floats(0, 10))
def test_slice_weights_have_the_correlation_they_are_made_for(step: float, thickness: float) -> None:
    weights = slice_weights(step, thickness)
    assert (weights**2).sum() == pytest.approx(1)
    assert np.allclose(weights, weights[::-1])
    achieved = np.correlate(weights, weights, "full")[len(weights) - 1 :]
    wanted = slice_correlation(np.arange(len(achieved)) * step, thickness)
    assert np.allclose(achieved, wanted, atol=5e-3)


def test_nothing_repeats() -> None:
    """No slice resembles another beyond the overlap, no edge its opposite, no tile the next."""
    noise = ct_noise((10, 128, 128), (2.5, 0.7, 0.7), "standard", np.random.default_rng(7), 2.5)
    flat = noise.reshape(10, -1)
    apart = np.corrcoef(flat)[np.triu_indices(10, 3)]
    assert np.abs(apart).max() < 0.05
    assert abs(np.mean(noise[:, 0] * noise[:, -1])) < 0.1
    assert abs(np.mean(noise[:, :, 0] * noise[:, :, -1])) < 0.1
    spectrum = np.fft.fft2(noise)
    surface = np.fft.ifft2(np.abs(spectrum) ** 2).real.mean(axis=0)
    surface /= surface[0, 0]
    assert np.abs(surface[20:-20, 20:-20]).max() < 0.05


@given(shape=st.tuples(st.integers(1, 4), st.integers(1, 40), st.integers(1, 40)), seed=st.integers(0, 9))
def test_any_shape_and_the_same_seed_the_same_noise(shape: tuple[int, int, int], seed: int) -> None:
    one = ct_noise(shape, (1.0, 0.9, 0.8), "soft", np.random.default_rng(seed))
    two = ct_noise(shape, (1.0, 0.9, 0.8), "soft", np.random.default_rng(seed))
    assert one.shape == shape
    assert np.isfinite(one).all()
    assert np.array_equal(one, two)


def test_an_unknown_kernel_is_named_with_the_choices() -> None:
    with pytest.raises(UsageError, match=r"soft, standard, sharp.*standard"):
        ct_noise((1, 4, 4), (1, 1, 1), "standrad", np.random.default_rng(0))


@pytest.mark.parametrize("sigma", [0.5, 20.0])
def test_rician_background_and_bright_signal(sigma: float) -> None:
    """Gudbjartsson and Patz 1995: Rayleigh without signal, about Gaussian around √(A² + σ²) far above the noise."""
    rng = np.random.default_rng(8)
    dark = rician(np.zeros((400, 400), dtype=np.float32), sigma, rng)
    assert dark.mean() == pytest.approx(sigma * np.sqrt(np.pi / 2), rel=0.01)
    assert dark.var() == pytest.approx((2 - np.pi / 2) * sigma**2, rel=0.02)
    signal = 30 * sigma
    bright = rician(np.full((400, 400), signal, dtype=np.float32), sigma, rng)
    assert bright.mean() == pytest.approx(np.hypot(signal, sigma), rel=0.001)
    assert bright.var() == pytest.approx(sigma**2, rel=0.02)
    assert (bright**2).mean() == pytest.approx(signal**2 + 2 * sigma**2, rel=0.001)


def test_rician_without_noise_is_the_signal() -> None:
    signal = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert np.array_equal(rician(signal, 0.0, np.random.default_rng(0)), signal)


def cylinder(radius: float) -> tuple[NoiseLevel, np.ndarray, np.ndarray]:
    x = np.arange(-200.0, 201, 4)
    inside = np.hypot(x[:, None], x[None, :]) < radius
    return NoiseLevel(x, x), np.where(inside, 0, -1000).astype(np.float32), inside


@pytest.mark.parametrize("radius", [80.0, 140.0])
def test_level_in_the_middle_of_a_water_cylinder_is_what_theory_says(radius: float) -> None:
    level, hu, _ = cylinder(radius)
    wanted = np.exp(DOSE_MODULATION * WATER_PER_MM * 2 * radius / 2)
    assert level.of(hu)[50, 50] == pytest.approx(wanted, rel=0.08)


def test_noise_is_highest_in_the_middle_and_lowest_in_air() -> None:
    level, hu, _ = cylinder(150)
    sigma = level.of(hu)
    assert sigma[50, 50] > 1.1 * sigma[50, 50 + 33] > 1.2 * sigma[2, 50]
    larger, smaller = cylinder(160)[1], cylinder(120)[1]
    assert level.of(larger)[50, 50] > level.of(smaller)[50, 50]


def body(across: float, down: float) -> np.ndarray:
    """An ellipse of water with these half axes in mm, 256 × 256 pixels of 1.5 mm, six slices."""
    y, x = (np.indices((256, 256)) - 127.5) * 1.5
    return np.where((x / across) ** 2 + (y / down) ** 2 < 1, 0, -1000).astype(np.float32)[None].repeat(6, 0)


def scanned(hu: np.ndarray, modulation: float = 1.0) -> np.ndarray:
    spacing = (2.0, 1.5, 1.5)
    return np.stack(list(scanned_noise_slices(hu, spacing, KERNELS["sharp"], np.random.default_rng(2), modulation)))


def test_scanned_noise_is_strong_where_rays_meet_much_of_the_body() -> None:
    noise = scanned(body(150, 150))
    middle, rim, outside = (noise[:, 120:136, i : i + 16].std() for i in (120, 215, 236))
    assert middle > 1.5 * rim > 1.5 * outside
    assert scanned(body(150, 150), 0.0)[:, 120:136, 120:136].std() == pytest.approx(1, rel=0.1), (
        "no modulation: even noise"
    )


def test_scanned_noise_streaks_along_the_longest_rays() -> None:
    """Behind both shoulders at once: a wide, flat body has streaks across, a deep one from front to back."""

    def runs(noise: np.ndarray) -> tuple[float, float]:
        part = noise[:, 112:144, 112:144]
        across = np.corrcoef(part[:, :, 2:].ravel(), part[:, :, :-2].ravel())[0, 1]
        down = np.corrcoef(part[:, 2:].ravel(), part[:, :-2].ravel())[0, 1]
        return float(across), float(down)

    flat, deep, round_ = (runs(scanned(body(*axes))) for axes in ((180, 90), (90, 180), (140, 140)))
    assert flat[0] > flat[1] + 0.1
    assert deep[1] > deep[0] + 0.1
    assert abs(round_[0] - round_[1]) < 0.05


def test_blur_smooths_the_noise_far_from_the_isocentre_only() -> None:
    def fineness(noise: np.ndarray, i: int) -> float:
        part = noise[:, 112:144, i : i + 24]
        return float(np.diff(part, axis=2).std() / part.std())

    air = np.full((6, 256, 256), -1000, np.float32)
    sharp, blurred = (
        np.stack(
            list(scanned_noise_slices(air, (2.0, 0.7, 0.7), KERNELS["sharp"], np.random.default_rng(2), 0.0, blur))
        )
        for blur in (0.0, 1.0)
    )
    assert fineness(blurred, 116) == pytest.approx(fineness(sharp, 116), rel=0.05)
    assert fineness(blurred, 228) < 0.97 * fineness(sharp, 228)
    assert blurred[:, 112:144, 228:252].std() < 0.8 * sharp[:, 112:144, 228:252].std()


def test_scanned_noise_without_a_body_is_that_of_the_kernel() -> None:
    noise = np.stack(
        list(
            scanned_noise_slices(
                np.full((6, 256, 256), -1000, np.float32),
                (2.0, 0.7, 0.7),
                KERNELS["standard"],
                np.random.default_rng(3),
                0.0,
            )
        )
    )
    plain = ct_noise((6, 256, 256), (2.0, 0.7, 0.7), "standard", np.random.default_rng(3))
    assert noise == pytest.approx(plain, abs=1e-4), "the sectors together are the whole spectrum"


def test_enlarged_is_linear_between_coarse_pixels() -> None:
    ramp = np.arange(8, dtype=np.float32)[:, None] + np.zeros((8, 6), np.float32)
    fine = enlarged(ramp, (64, 50))
    assert fine.shape == (64, 50)
    assert np.allclose(np.diff(fine[4:-4, 0]), 1 / 8, atol=1e-5)
    assert (float(fine.min()), float(fine.max())) == (0.0, 7.0)
