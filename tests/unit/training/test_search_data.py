"""Samples for search networks: pairs that differ only where the attack was, kept apart by patient, the same for a seed."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from jachai.core.errors import ModelError
from jachai.tamper import ATTACKS
from jachai.training.search_data import (
    ALTERED,
    CHANGED_HU,
    INTACT,
    SIDE,
    UNSURE,
    Host,
    Samples,
    from_attacks,
    neighbours,
    target_of,
    window,
)
from tests.unit.synthetic_chest import synthetic_chest, with_white_noise

ATTACK = [ATTACKS["ctgan-removal"], ATTACKS["nodule"]]


@pytest.fixture(scope="module")
def samples() -> Samples:
    volume = with_white_noise(synthetic_chest(12, side=224))
    return from_attacks(Host("P1", "series", volume), ATTACK, 4, np.random.default_rng(1))


def test_the_first_of_a_pair_is_the_altered_one(samples: Samples) -> None:
    brighter = [
        float(altered[target == ALTERED].mean() - intact[target == ALTERED].mean())
        for altered, intact, target, origin in zip(
            samples.slices[::2, 1].astype(float), samples.slices[1::2, 1], samples.targets[::2], samples.origins[::2]
        )
        if origin.attack == "nodule"
    ]
    assert brighter and min(brighter) > 20


def test_pairs_differ_only_where_something_was_altered(samples: Samples) -> None:
    assert len(samples) >= 4 and len(samples) % 2 == 0
    for n in range(0, len(samples), 2):
        altered, intact = samples.slices[n][1], samples.slices[n + 1][1]
        target = samples.targets[n]
        assert samples.origins[n].attack != "intact" and samples.origins[n + 1].attack == "intact"
        assert (target == ALTERED).any() and (samples.targets[n + 1] == INTACT).all()
        apart = np.abs(altered.astype(int) - intact)
        assert apart[target == INTACT].max() <= CHANGED_HU
        assert (apart[target == ALTERED] > 0).mean() > 0.5


def test_the_same_seed_gives_the_same_samples(samples: Samples) -> None:
    volume = with_white_noise(synthetic_chest(12, side=224))
    again = from_attacks(Host("P1", "series", volume), ATTACK, 4, np.random.default_rng(1))
    assert np.array_equal(samples.slices, again.slices) and samples.origins == again.origins


def test_saved_and_loaded(samples: Samples, tmp_path) -> None:
    samples.save(tmp_path / "s")
    loaded = Samples.load(tmp_path / "s")
    assert np.array_equal(loaded.slices, samples.slices) and np.array_equal(loaded.targets, samples.targets)
    assert loaded.origins == samples.origins


@pytest.mark.parametrize("break_it", ["cut", "gone", "words"])
def test_a_damaged_folder_is_named(samples: Samples, tmp_path, break_it: str) -> None:
    samples.save(tmp_path / "s")
    told = tmp_path / "s" / "samples.json"
    if break_it == "gone":
        told.unlink()
    else:
        told.write_text("{" if break_it == "words" else json.dumps(json.loads(told.read_text())[:1]))
    with pytest.raises(ModelError, match="samples"):
        Samples.load(tmp_path / "s")


def test_chosen_by_patient(samples: Samples) -> None:
    both = Samples.joined([samples, replace(samples, origins=tuple(replace(o, patient="P2") for o in samples.origins))])
    one = both.where(lambda origin: origin.patient == "P2")
    assert len(one) == len(samples) and {o.patient for o in one.origins} == {"P2"}


def test_a_target_has_a_rim_where_nothing_is_said() -> None:
    changed = np.zeros((60, 60), bool)
    changed[20:40, 20:40] = True
    changed[5, 5] = True
    target = target_of(changed)
    assert target[30, 30] == ALTERED and target[42, 30] == UNSURE and target[50, 50] == INTACT
    assert target[5, 5] == UNSURE, "one changed pixel is neither altered nor intact"


def test_windows_stay_inside() -> None:
    assert window(3, 512) == slice(0, SIDE) and window(510, 512) == slice(512 - SIDE, 512)
    assert window(50, 100) == slice(0, 100)
    assert neighbours(0, 5) == [0, 0, 1] and neighbours(4, 5) == [3, 4, 4]
