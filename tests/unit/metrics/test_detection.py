"""Detection figures against scikit-learn and against cases worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from jachai.metrics import detection as d

CASES = st.lists(st.tuples(st.integers(-3, 3).map(float), st.booleans()), min_size=2, max_size=60).filter(
    lambda cases: len({truth for _, truth in cases}) == 2
)


@given(CASES)
def test_auc_and_roc_agree_with_scikit_learn_also_on_ties(cases: list[tuple[float, bool]]) -> None:
    scores, truth = (np.array(side) for side in zip(*cases, strict=True))
    assert d.auc(scores, truth) == pytest.approx(oracle.roc_auc_score(truth, scores))
    far, tpr, thresholds = oracle.roc_curve(truth, scores, drop_intermediate=False)
    curve = d.roc(scores, truth)
    assert curve.false_alarm_rate == pytest.approx(far)
    assert curve.detection_rate == pytest.approx(tpr)
    assert curve.thresholds == pytest.approx(thresholds)


def test_auc_by_hand() -> None:
    scores, truth = np.array([3.0, 1.0, 2.0, 1.0]), np.array([True, True, False, False])
    assert d.auc(scores, truth) == (1 + 1 + 0 + 0.5) / 4
    assert d.auc(np.array([-np.inf, 5.0]), np.array([True, False])) == 0.0
    assert math.isnan(d.auc(scores, np.ones(4, dtype=bool)))
    with pytest.raises(ValueError, match="NaN"):
        d.auc(np.array([np.nan, 1.0]), np.array([True, False]))


def test_detection_at_one_per_cent_is_beyond_every_intact_case_where_there_are_few() -> None:
    intact, altered = np.arange(50.0), np.array([49.0, 49.5, 60.0, -np.inf])
    scores, truth = np.concatenate([intact, altered]), np.repeat([False, True], [50, 4])
    assert d.threshold_at(intact, 0.01) == 49.0
    assert d.detection_at(scores, truth, 0.01) == 0.5
    assert d.threshold_at(np.arange(200.0), 0.05) == 190.0
    assert (np.arange(200.0) > 190.0).mean() <= 0.05
    assert d.threshold_at(np.array([-np.inf]), 0.01) == -np.inf


@given(st.lists(st.integers(0, 50).map(float), min_size=1, max_size=300), st.sampled_from([0.01, 0.05, 0.2]))
def test_the_threshold_never_lets_more_alarms_through_than_asked(intact: list[float], rate: float) -> None:
    scores = np.array(intact)
    assert (scores > d.threshold_at(scores, rate)).mean() <= rate


def test_bounds_of_a_rate() -> None:
    assert d.upper_bound(0, 10) == pytest.approx(1 - 0.05**0.1)
    assert d.upper_bound(10, 10) == 1.0
    assert d.per_100(np.array([True, False, False, False])) == 25.0
    assert math.isnan(d.per_100(np.zeros(0, dtype=bool)))


LABELS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=40).filter(
    lambda pairs: {0, 1} <= {t for t, _ in pairs} and {1} <= {p for _, p in pairs}
)


@given(LABELS)
def test_rates_agree_with_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    truth, said = (list(side) for side in zip(*pairs, strict=True))
    table = d.confusion(truth, said, 2)
    assert table.tolist() == oracle.confusion_matrix(truth, said, labels=[0, 1]).tolist()
    found = d.rates(table)
    assert found.accuracy == pytest.approx(oracle.accuracy_score(truth, said))
    assert found.balanced_accuracy == pytest.approx(oracle.balanced_accuracy_score(truth, said))
    assert found.sensitivity == pytest.approx(oracle.recall_score(truth, said))
    assert found.specificity == pytest.approx(oracle.recall_score(truth, said, pos_label=0))
    assert found.precision == pytest.approx(oracle.precision_score(truth, said))
    assert found.f1 == pytest.approx(oracle.f1_score(truth, said))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60))
def test_figures_of_four_classes_agree_with_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    truth, said = (list(side) for side in zip(*pairs, strict=True))
    table = d.confusion(truth, said, 4)
    assert table.tolist() == oracle.confusion_matrix(truth, said, labels=range(4)).tolist()
    assert d.accuracy_of(table) == pytest.approx(oracle.accuracy_score(truth, said))
    assert d.macro_f1_of(table) == pytest.approx(oracle.f1_score(truth, said, average="macro", zero_division=0))
    recalls = oracle.recall_score(truth, said, labels=sorted(set(truth)), average="macro", zero_division=0)
    assert d.balanced_accuracy_of(table) == pytest.approx(recalls)


def test_what_cannot_be_counted_is_nan_and_not_zero() -> None:
    found = d.rates(np.array([[3, 0], [0, 0]]))
    assert found.accuracy == 1.0
    assert all(math.isnan(value) for value in (found.sensitivity, found.precision, found.f1, found.balanced_accuracy))
