"""What a search network sees: deviations from the scan, not the scanner, the padding or the place."""

from __future__ import annotations

import numpy as np
import pytest

from jachai.forensics.channels import CHANNELS, channels, noise_place, residuals, scales_of


def lung(seed: int, sigma: float = 20.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (-800 + sigma * rng.standard_normal((96, 112))).astype(np.float32)


def test_all_channels_in_their_order_and_finite() -> None:
    seen = channels(lung(0), lung(1), lung(2))
    assert seen.shape == (len(CHANNELS), 96, 112) and seen.dtype == np.float32
    assert np.isfinite(seen).all()
    assert (seen[CHANNELS.index("neighbours")] == 1).all()


def test_without_neighbours_nothing_is_said_between_slices() -> None:
    seen = channels(lung(0))
    assert not seen[CHANNELS.index("between")].any() and not seen[CHANNELS.index("neighbours")].any()


@pytest.mark.parametrize("sigma", [5.0, 20.0, 60.0])
def test_dose_cancels(sigma: float) -> None:
    spread = channels(lung(0, sigma))[:3].std(axis=(1, 2))
    assert np.allclose(spread, channels(lung(0, 20.0))[:3].std(axis=(1, 2)), rtol=0.05)


def test_what_is_noisier_than_its_own_scan_stands_out() -> None:
    slice_ = lung(0, 10.0)
    slice_[30:60, 40:70] += 40 * np.random.default_rng(5).standard_normal((30, 30)).astype(np.float32)
    seen = np.abs(channels(slice_)[0])
    assert seen[35:55, 45:65].mean() > 1.6 * seen[70:, 80:].mean()


def test_padding_says_nothing() -> None:
    """Values below air, whatever a file pads with, look the same."""
    one, two = lung(0), lung(0)
    one[:20], two[:20] = -3024, -1024
    assert np.array_equal(channels(one), channels(two))


def test_noise_is_measured_in_lung_where_there_is_some() -> None:
    slice_ = lung(0, 10.0)
    slice_[:, 60:] = 40 + 100 * np.random.default_rng(1).standard_normal((96, 52)).astype(np.float32)
    place = noise_place(slice_)
    assert place[:, :60].mean() > 0.99
    quiet = scales_of(residuals(slice_), place & (np.arange(112) < 55))
    assert scales_of(residuals(slice_), place)[1] == pytest.approx(quiet[1], rel=0.2)
