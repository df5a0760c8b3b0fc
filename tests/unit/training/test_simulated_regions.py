"""Simulated places for region models: pairs of the same place, learnt from as much as labelled ones, never counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from jachai.core.volume import AIR_HU
from jachai.forensics.regionpatches import SliceViews
from jachai.tamper import ATTACKS
from jachai.training.augment import SIMULATED_SHARE, drawn
from jachai.training.region_data import RegionExample, brightness
from jachai.training.search_data import Host, Samples, from_attacks
from jachai.training.simulated_regions import OUTSIDE, TISSUE, _examples, framed
from jachai.training.trainer import balanced_weights, countable, counts, figures_of, region_card
from tests.unit.synthetic_chest import synthetic_chest, with_white_noise


@pytest.fixture(scope="module")
def made() -> tuple[RegionExample, ...]:
    volume = with_white_noise(synthetic_chest(12, side=224))
    attacks = [ATTACKS["ctgan-removal"], ATTACKS["nodule"], ATTACKS["copy-move"]]
    samples = from_attacks(Host("P1", "series", volume), attacks, 9, np.random.default_rng(1))
    return tuple(_examples(samples))


def labelled(label: str, patient: str) -> RegionExample:
    return RegionExample((0.0, 1.0, 2.0), label, patient, patient, "CT-GAN")


def test_each_comes_with_intact_places_of_the_same_sample(made: tuple[RegionExample, ...]) -> None:
    assert made and all(e.simulated and e.patient == "P1" for e in made)
    assert {e.label for e in made} == {"FB", "FM", "TB"}
    for n in [n for n, e in enumerate(made) if e.altered]:
        altered, real = made[n], made[n + 1]
        assert real.label == "TB" and (altered.place_kji == real.place_kji) is (altered.label == "FB")
        assert altered.held is not None and real.held is not None
        changed = np.argwhere(altered.held.voxels[1] != real.held.voxels[1])
        assert len(changed)
        low, high = changed.min(axis=0) - 12, changed.max(axis=0) + 12
        assert (low <= altered.place_kji[1:]).all() and (altered.place_kji[1:] <= high).all()


def test_intact_places_are_as_bright_as_injected_nodules(made: tuple[RegionExample, ...]) -> None:
    def middle(example: RegionExample) -> float:
        assert example.held is not None
        k, j, i = (round(c) for c in example.place_kji)
        return float(brightness(example.held, (k, j, i))[0])

    pairs = [(middle(e), middle(made[n + 1])) for n, e in enumerate(made) if e.label == "FM"]
    injected, real = np.mean(pairs, axis=0)
    lung = np.mean([np.median(e.held.voxels[1]) for e in made if e.held is not None])
    assert abs(injected - real) < 0.6 * abs(injected - lung)


def test_a_framed_sample_is_lung_within_a_body(made: tuple[RegionExample, ...]) -> None:
    assert made[0].held is not None
    view = SliceViews(made[0].held)[1]
    rim = TISSUE + OUTSIDE
    assert view.lung[rim:-rim, rim:-rim].mean() > 0.2
    assert not view.body[:OUTSIDE].any()


def test_a_sample_is_framed_with_the_same_for_all() -> None:
    one = framed(np.full((3, 10, 10), -800, np.int16), 0.7)
    assert one.shape == (3, 10 + 2 * (TISSUE + OUTSIDE), 10 + 2 * (TISSUE + OUTSIDE))
    assert one.voxels[0, 0, 0] == AIR_HU and one.spacing_mm == (1.0, 0.7, 0.7)


def test_they_are_learnt_from_as_much_as_labelled_ones_and_never_counted(made: tuple[RegionExample, ...]) -> None:
    data = [*made, labelled("FB", "A"), labelled("TB", "A"), labelled("FM", "B"), labelled("TB", "B")]
    weights = balanced_weights(data)
    shares = Counter[tuple[str, bool]]()
    for example, weight in zip(data, weights):
        shares[example.label, example.simulated] += weight
    for label in ("FB", "FM", "TB"):
        assert shares[label, True] == pytest.approx(shares[label, False])
    assert weights.mean() == pytest.approx(1)
    chosen = [data[n] for n in drawn(data, 4000, np.random.default_rng(0))]
    assert np.mean([e.simulated for e in chosen]) == pytest.approx(SIMULATED_SHARE, abs=0.04)
    assert countable(data).sum() == 4
    said = np.array([float(not e.altered) if e.simulated else float(e.altered) for e in data])
    assert figures_of(data, said)["balanced_accuracy"] == 1.0 and figures_of(data, said)["places"] == 4
    assert counts(data)["TB"] == 2 and counts(data)["TB, simulated"] == sum(e.label == "TB" for e in made)


def test_where_all_is_simulated_all_is_counted(made: tuple[RegionExample, ...]) -> None:
    assert countable(made).all()


def test_no_samples_no_examples() -> None:
    assert tuple(_examples(Samples.joined(()))) == ()


def test_the_card_names_the_collections_whose_scans_were_attacked(made: tuple[RegionExample, ...]) -> None:
    hosted = [replace(one, host="LIDC-IDRI") for one in made]
    card = region_card("a", "boosting", b"x", [*hosted, labelled("TB", "P2")], inputs={}, calibration={}, training={})
    assert [one["collection"] for one in card.data] == ["CT-GAN", "LIDC-IDRI"]
