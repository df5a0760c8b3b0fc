"""Scores or predicted classes + the truth → how well altered is told from intact: AUC, detection, confusion matrix, rates.

A score of −inf stands for what was not examined: it ranks below everything, is never detected, and never alarms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

Numbers = npt.NDArray[np.float64]
Truth = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]
UNDEFINED = float("nan")
"""A figure that nothing could be counted for, as sensitivity without one altered case."""


@dataclass(frozen=True, slots=True, eq=False)
class Roc:
    """Receiver operating characteristic: a point per threshold, from (0, 0) to (1, 1).

    A case counts as detected (an intact one as alarmed) if its score is at or above the threshold.
    """

    false_alarm_rate: Numbers
    detection_rate: Numbers
    thresholds: Numbers


def _sides(scores: Numbers, altered: Truth) -> tuple[Numbers, Numbers]:
    """(scores of altered cases, of intact ones). Raises ValueError for NaN or unequal lengths."""
    scores, altered = np.asarray(scores, dtype=np.float64), np.asarray(altered, dtype=bool)
    if scores.shape != altered.shape or scores.ndim != 1:
        raise ValueError(f"{scores.shape} scores, but {altered.shape} truths")
    if np.isnan(scores).any():
        raise ValueError("a score is NaN; what was not examined has -inf")
    return scores[altered], scores[~altered]


def auc(scores: Numbers, altered: Truth) -> float:
    """Area under the ROC curve: the probability that an altered case scores above an intact one, ties counting half
    (Hanley and McNeil 1982; Mann–Whitney U). NaN where one side is empty."""
    positive, negative = _sides(scores, altered)
    if not len(positive) or not len(negative):
        return UNDEFINED
    ordered = np.sort(negative)
    below, up_to = np.searchsorted(ordered, positive, "left"), np.searchsorted(ordered, positive, "right")
    return float((below + up_to).sum() / (2 * len(positive) * len(negative)))


def roc(scores: Numbers, altered: Truth) -> Roc:
    """The whole curve, one point per distinct score (so that ties are one step). Raises ValueError if a side is empty."""
    positive, negative = _sides(scores, altered)
    if not len(positive) or not len(negative):
        raise ValueError("a ROC curve needs altered and intact cases")
    thresholds = np.unique(np.concatenate([positive, negative]))[::-1]
    rates = [
        np.concatenate([[0.0], 1 - np.searchsorted(np.sort(side), thresholds, "left") / len(side)])
        for side in (negative, positive)
    ]
    return Roc(rates[0], rates[1], np.concatenate([[np.inf], thresholds]))


def threshold_at(intact: Numbers, rate: float) -> float:
    """The score above which at most `rate` of the intact cases lie: the k-th highest of n, k = max(1, round(n · rate)).

    So with fewer than 1 / rate intact cases none of them alarms. −inf where there is none.
    """
    known = np.sort(intact[intact > -np.inf])
    return float(known[-max(1, round(rate * len(known)))]) if len(known) else -np.inf


def detection_at(scores: Numbers, altered: Truth, rate: float) -> float:
    """Share of the altered cases that score above `threshold_at` of the intact ones. NaN where one side is empty."""
    positive, negative = _sides(scores, altered)
    if not len(positive) or not len(negative):
        return UNDEFINED
    return float((positive > threshold_at(negative, rate)).mean())


def per_100(alarmed: Truth) -> float:
    """Alarms per 100 intact cases."""
    return float(100 * np.mean(alarmed)) if len(alarmed) else UNDEFINED


def upper_bound(alarms: int, cases: int, level: float = 0.95) -> float:
    """One-sided upper bound of a rate of `alarms` in `cases` independent cases (Clopper and Pearson 1934)."""
    if alarms >= cases:
        return 1.0
    return float(stats.beta.ppf(level, alarms + 1, cases - alarms))


def confusion(truth: Sequence[int] | Counts, predicted: Sequence[int] | Counts, n_classes: int) -> Counts:
    """(n, n) counts: row = what it is, column = what was said."""
    truth, predicted = np.asarray(truth, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
    if truth.shape != predicted.shape:
        raise ValueError(f"{truth.shape} truths, but {predicted.shape} predictions")
    table = np.zeros((n_classes, n_classes), dtype=np.int64)
    np.add.at(table, (truth, predicted), 1)
    return table


@dataclass(frozen=True, slots=True)
class Rates:
    """What a table of two classes (0 intact, 1 altered) says. Each 0…1, NaN where nothing could be counted."""

    accuracy: float
    balanced_accuracy: float
    sensitivity: float
    specificity: float
    precision: float
    f1: float


def rates(table: Counts) -> Rates:
    """Of a 2 × 2 confusion matrix, rows and columns (intact, altered)."""
    if table.shape != (2, 2):
        raise ValueError(f"rates need a table of 2 × 2, not {table.shape}")
    (true_negative, false_positive), (false_negative, true_positive) = table.tolist()
    sensitivity = _share(true_positive, true_positive + false_negative)
    specificity = _share(true_negative, true_negative + false_positive)
    return Rates(
        accuracy=_share(true_positive + true_negative, int(table.sum())),
        balanced_accuracy=(sensitivity + specificity) / 2,
        sensitivity=sensitivity,
        specificity=specificity,
        precision=_share(true_positive, true_positive + false_positive),
        f1=_share(2 * true_positive, 2 * true_positive + false_positive + false_negative),
    )


def accuracy_of(table: Counts) -> float:
    """Share on the diagonal, of any number of classes."""
    return _share(int(np.trace(table)), int(table.sum()))


def balanced_accuracy_of(table: Counts) -> float:
    """Mean share of each class that was recognised; classes without a case are left out."""
    totals = table.sum(axis=1)
    there = totals > 0
    return float((np.diag(table)[there] / totals[there]).mean()) if there.any() else UNDEFINED


def macro_f1_of(table: Counts) -> float:
    """Mean F1 over the classes that occur or were said; NaN without any."""
    both = table.sum(axis=0) + table.sum(axis=1)
    there = both > 0
    return float((2 * np.diag(table)[there] / both[there]).mean()) if there.any() else UNDEFINED


def _share(part: int, whole: int) -> float:
    return part / whole if whole else UNDEFINED
