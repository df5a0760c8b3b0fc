"""What a network's suspicion rests on: networks that go by one known thing are told apart by hiding it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from tests.unit.synthetic_chest import LUNG_PLACE, synthetic_chest, with_smooth_nodule, with_white_noise

from jachai.core.volume import Volume
from jachai.detectors.detector import Map
from jachai.detectors.occlusion import GROUPS, occluded
from jachai.forensics.channels import CHANNELS, Channels
from jachai.forensics.slicewise import STRIDE, searched


def by_strength_of(*names: str) -> Callable[[Channels], Map]:
    """A network whose logit is the mean magnitude of some channels in each cell."""

    def network(x: Channels) -> Map:
        size = np.abs(x[[CHANNELS.index(name) for name in names]]).mean(axis=0)
        rows, columns = (-(-n // STRIDE) for n in size.shape)
        padded = np.pad(size, ((0, rows * STRIDE - size.shape[0]), (0, columns * STRIDE - size.shape[1])), mode="edge")
        return np.asarray(padded.reshape(rows, STRIDE, columns, STRIDE).mean(axis=(1, 3)))

    return network


def told(volume: Volume, network: Callable[[Channels], Map], k: int) -> dict[str, float]:
    where = searched(volume)
    rng = np.random.default_rng(0)
    logits = rng.standard_normal(where.shape, dtype=np.float32)
    j, i = (c // STRIDE for c in LUNG_PLACE)
    return {one.name: one.fall for one in occluded(network, volume, where, logits, (k, j, i))}


@pytest.mark.parametrize("name", ["corner", "diagonal", "middle"])
def test_only_what_the_network_goes_by_is_named(name: str) -> None:
    found = told(with_white_noise(synthetic_chest(1)), by_strength_of(name), 0)
    assert list(found) == [name] and found[name] > 0.3


def test_the_larger_fall_comes_first_and_channels_of_a_group_are_hidden_together() -> None:
    found = told(with_smooth_nodule(synthetic_chest(1)), by_strength_of("lung window", "soft window"), 0)
    assert list(found) == ["brightness"] and found["brightness"] > 0.2
    both = told(
        with_white_noise(synthetic_chest(1)),
        lambda x: by_strength_of("corner")(x) + 3 * by_strength_of("diagonal")(x),
        0,
    )
    assert list(both) == ["diagonal", "corner"] and both["diagonal"] > 1.5 * both["corner"]


def test_differences_between_slices_need_neighbours() -> None:
    volume = with_white_noise(synthetic_chest(9))
    assert list(told(volume, by_strength_of("between"), 4)) == ["between"]
    assert told(volume, by_strength_of("between"), 0) == {}


def test_an_intact_place_rests_on_nothing_much() -> None:
    assert all(fall < 0.3 for fall in told(synthetic_chest(1), by_strength_of("corner"), 0).values())


def test_without_another_place_nothing_is_said() -> None:
    volume = with_white_noise(synthetic_chest(1))
    where = np.zeros_like(searched(volume))
    j, i = (c // STRIDE for c in LUNG_PLACE)
    where[0, j, i] = True
    assert occluded(by_strength_of("corner"), volume, where, np.zeros(where.shape, np.float32), (0, j, i)) == ()


def test_every_group_is_made_of_channels_and_none_is_left_out() -> None:
    named = [name for group in GROUPS.values() for name in group]
    assert sorted([*named, "neighbours"]) == sorted(CHANNELS)
