"""Other scanners change a pair alike, carry the target along, and keep what the picture shows."""

from __future__ import annotations

import numpy as np
import pytest

from jachai.training.dense import COPIES, COPY_SHARES
from jachai.training.scanners import another_scanner, pattern, processed, regridded, with_kernel
from jachai.training.search_data import ALTERED, INTACT, SIDE


def lung(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(-850, 12, (3, SIDE, SIDE)).astype(np.float32)


def attacked(slices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    after, target = slices.copy(), np.full((SIDE, SIDE), INTACT, np.int8)
    after[:, 60:90, 70:100] += 300
    target[60:90, 70:100] = ALTERED
    return after, target


def test_every_copy_has_its_share() -> None:
    assert len(COPIES) == len(COPY_SHARES) and np.isclose(sum(COPY_SHARES), 1)


@pytest.mark.parametrize("change", [processed, another_scanner])
def test_a_pair_is_changed_alike_and_the_change_is_not_always_the_same(change) -> None:
    before = lung()
    after, target = attacked(before)
    kinds = set()
    for seed in range(12):
        one, _ = change(before, np.zeros_like(target), np.random.default_rng(seed))
        two, moved = change(after, target, np.random.default_rng(seed))
        apart = np.abs(one - two).mean(axis=0)
        assert np.isfinite(two).all() and one.shape == before.shape and one.dtype == np.float32
        assert apart[moved == ALTERED].mean() > 150
        assert apart[:20].mean() < 6 and apart[-20:].mean() < 6
        kinds.add(round(float(one.std()), 1))
    assert len(kinds) > 6


def test_the_target_moves_with_the_picture() -> None:
    picture, target = attacked(lung())
    shares = []
    for seed in range(8):
        slices, moved = regridded(picture, target, np.random.default_rng(seed))
        bright = slices[1] > -700
        shares.append((bright & (moved == ALTERED)).sum() / (bright | (moved == ALTERED)).sum())
        assert not np.array_equal(moved, target)
    assert min(shares) > 0.85


def test_a_kernel_changes_the_grain_and_not_the_brightness() -> None:
    picture = lung()
    grains = []
    for seed in range(8):
        slices = with_kernel(picture, np.random.default_rng(seed))
        assert abs(float(slices.mean() - picture.mean())) < 0.5
        grains.append(float(slices.std() / picture.std()))
    assert min(grains) < 0.9 and max(grains) > 1.1


def test_a_pattern_is_the_same_in_all_slices_and_as_strong_as_the_noise() -> None:
    quiet, noisy = lung() * 0 - 850 + (lung() + 850) / 6, lung()
    weak, strong = (
        np.median([pattern(one, np.random.default_rng(s)).std() for s in range(9)]) for one in (quiet, noisy)
    )
    assert pattern(noisy, np.random.default_rng(0)).shape == (1, SIDE, SIDE)
    assert 3 < strong / weak < 7
