"""Calibration figures against scikit-learn, by hand, and as laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from jachai.metrics import calibration as c


def test_calibration_error_by_hand() -> None:
    """Bin 0.2–0.3: said 0.25, true 0.5 (2 cases); bin 0.9–1: said 0.95, true 1 (2 cases)."""
    p, y = np.array([0.24, 0.26, 0.9, 1.0]), np.array([True, False, True, True])
    assert c.calibration_error(p, y) == pytest.approx(0.5 * 0.25 + 0.5 * 0.05)
    assert math.isnan(c.calibration_error(np.zeros(0), np.zeros(0, dtype=bool)))


@given(st.lists(st.tuples(st.floats(0.001, 0.999), st.booleans()), min_size=1, max_size=80))
def test_reliability_and_brier_agree_with_scikit_learn(cases: list[tuple[float, bool]]) -> None:
    p, y = (np.array(side) for side in zip(*cases, strict=True))
    if np.isclose(p * 10 % 1, 0, atol=1e-9).any():
        return  # the oracle puts what lies on an edge into the bin below
    found = c.reliability(p, y)
    true, said = calibration_curve(y, p, n_bins=10, pos_label=True)
    assert found.true == pytest.approx(true)
    assert found.said == pytest.approx(said)
    assert found.counts.sum() == len(p)
    assert c.brier(p, y) == pytest.approx(brier_score_loss(y, p, pos_label=True))


@given(st.lists(st.tuples(st.floats(0.001, 0.999), st.booleans()), min_size=1, max_size=40), st.integers(2, 5))
def test_as_if_half_were_altered_it_does_not_matter_how_many_are(cases: list[tuple[float, bool]], times: int) -> None:
    p, y = (np.array(side) for side in zip(*cases, strict=True))
    more = np.concatenate([np.arange(len(p)), *[np.flatnonzero(~y)] * times])
    for figure in (c.calibration_error, c.brier):
        few, many = (figure(p[n], y[n], weights=c.as_if_half(y[n])) for n in (np.arange(len(p)), more))
        assert few == pytest.approx(many, abs=1e-9)
    if y.any() and not y.all():
        assert c.as_if_half(y)[y].sum() == pytest.approx(c.as_if_half(y)[~y].sum()) == pytest.approx(len(y) / 2)


def test_what_is_right_for_a_half_is_wrong_for_a_tenth_unless_it_is_weighted() -> None:
    """0.8 said of 4 in 5 of the altered and of 4 in 20 of the intact places: right if half are altered."""
    p, y = np.repeat([0.8, 0.2], [8, 17]), np.repeat([True, False, True, False], [4, 4, 1, 16])
    assert c.calibration_error(p, y, weights=c.as_if_half(y)) == pytest.approx(0, abs=1e-9)
    assert c.calibration_error(p, y) > 0.1


def test_a_perfect_forecaster_errs_by_chance_alone_and_a_boastful_one_more() -> None:
    """Means of thirty draws of 400 cases."""
    rows = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        y = rng.random(400) < 0.2
        p = 1 / (1 + np.exp(-2 * rng.normal(np.where(y, 1.0, -1.0))))  # Bayes, if half were altered
        boasting = np.where(p > 0.5, 0.999, 0.001)
        said = (c.calibration_error(one, y, weights=c.as_if_half(y)) for one in (p, boasting))
        rows.append((*said, c.error_by_chance(p, y)))
    perfect, boastful, by_chance = np.mean(rows, axis=0)
    assert perfect == pytest.approx(by_chance, rel=0.15) and boastful > 2 * by_chance


def test_another_share_by_hand() -> None:
    """As likely as not among equally many; one in ten altered: 0.1. Certainty stays."""
    assert c.at_share(np.array([0.5, 0.9, 0.0, 1.0]), 0.1) == pytest.approx([0.1, 0.5, 0.0, 1.0])


def test_probabilities_outside_their_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"0…1"):
        c.reliability(np.array([1.2]), np.array([True]))


def test_conformal_p_values_by_hand() -> None:
    intact = np.array([1.0, 2.0, 3.0, 4.0])
    assert c.conformal(9.0, intact) == c.Conformal(1 / 5, 4, 1 / 5)
    assert c.conformal(3.0, intact).p == 3 / 5
    assert c.conformal(0.0, np.zeros(0)).p == 1.0


@given(st.lists(st.integers(0, 8).map(float), min_size=2, max_size=40), st.floats(0.01, 1))
def test_left_out_patients_alarm_no_more_often_than_the_p_value_says(scores: list[float], level: float) -> None:
    p = c.leave_one_out(np.array(scores))
    assert (p <= level).mean() <= level + 1e-9
