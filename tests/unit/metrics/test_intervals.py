"""Bootstrap by patient: what is drawn, and that it is patients and not cases."""

from __future__ import annotations

import math

import numpy as np
import pytest

from jachai.metrics.intervals import by_patient


def test_it_repeats_and_holds_the_figure() -> None:
    values = np.random.default_rng(0).normal(size=60)
    patients = [f"P{n // 3}" for n in range(60)]

    def mean(chosen: np.ndarray) -> dict[str, float]:
        return {"mean": float(values[chosen].mean())}

    one, other = (by_patient(mean, patients, [False] * 60, draws=300, seed=1)["mean"] for _ in range(2))
    assert one == other
    assert one.low < one.value < one.high


def test_many_slices_of_few_patients_leave_the_interval_wide() -> None:
    """The mean of 2 × 500 cases: by case it would be known to ±0.05, by patient it is 0, 0.5 or 1."""
    values = np.repeat([0.0, 1.0], 500)

    def mean(chosen: np.ndarray) -> dict[str, float]:
        return {"mean": float(values[chosen].mean())}

    found = by_patient(mean, ["A"] * 500 + ["B"] * 500, [True] * 1000, draws=200)["mean"]
    assert (found.low, found.high) == (0, 1)
    by_case = by_patient(mean, [str(n) for n in range(1000)], [True] * 1000, draws=200)["mean"]
    assert by_case.high - by_case.low < 0.1


def test_every_draw_has_altered_and_intact_patients() -> None:
    altered = np.array([True, False, False, False])

    def share(chosen: np.ndarray) -> dict[str, float]:
        assert len(chosen) == 4
        return {"share": float(altered[chosen].mean())}

    found = by_patient(share, list("ABCD"), altered, draws=50)["share"]
    assert (found.low, found.high) == (0.25, 0.25)


def test_of_one_patient_there_is_no_interval() -> None:
    found = by_patient(lambda chosen: {"n": float(len(chosen))}, ["A", "A"], [True, False])["n"]
    assert found.value == 2
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_what_cannot_be_counted_in_a_draw_is_left_out_of_the_interval() -> None:
    values = np.array([1.0, np.nan, 1.0])
    found = by_patient(lambda c: {"mean": float(np.mean(values[c]))}, list("ABC"), [True] * 3, draws=100)["mean"]
    assert math.isnan(found.value)
    assert (found.low, found.high) == (pytest.approx(1), pytest.approx(1))
