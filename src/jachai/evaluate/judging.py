"""Answers of a region model beside the truth → figures, confusion matrices and curves of the given-region table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jachai.evaluate.answers import CLASSES, RegionCase
from jachai.evaluate.results import Better, Confusion, Curve, Figure, figure, thinned
from jachai.metrics.calibration import as_if_half, at_share, brier, calibration_error, error_by_chance, reliability
from jachai.metrics.detection import (
    accuracy_of,
    auc,
    balanced_accuracy_of,
    confusion,
    macro_f1_of,
    rates,
    roc,
)
from jachai.metrics.intervals import Indices, by_patient

THRESHOLD = 0.5
"""A place counts as altered if it is said to be so with more than this probability: one's own threshold is no excuse."""
TWO = ("real", "altered")
BETTER: dict[str, Better] = {
    "calibration error": "low",
    "calibration error by chance alone": "",
    "calibration error at the tested share": "low",
    "Brier score": "low",
}


def figures(cases: Sequence[RegionCase], draws: int, seed: int = 0) -> tuple[Figure, ...]:
    """Every figure of the given-region table with its interval."""
    if not cases:
        return ()
    truth = np.array([case.truth for case in cases])
    altered = np.array([case.altered for case in cases])
    p = np.array([case.p_altered for case in cases])
    said = np.array([int(np.argmax(case.probabilities)) for case in cases])
    four = knows_four(cases)

    def statistic(chosen: Indices) -> dict[str, float]:
        y, x = altered[chosen], p[chosen]
        found = rates(confusion(y.astype(np.int64), (x > THRESHOLD).astype(np.int64), 2))
        out = {
            "accuracy": found.accuracy,
            "balanced accuracy": found.balanced_accuracy,
            "sensitivity": found.sensitivity,
            "specificity": found.specificity,
            "precision": found.precision,
            "F1": found.f1,
            "AUC": auc(x, y),
            "calibration error": calibration_error(x, y, weights=as_if_half(y)),
            "calibration error by chance alone": error_by_chance(x, y),
            "calibration error at the tested share": calibration_error(at_share(x, float(y.mean())), y),
            "Brier score": brier(x, y, weights=as_if_half(y)),
        }
        if four:
            table = confusion(truth[chosen], said[chosen], len(CLASSES))
            out |= {
                "4 classes: accuracy": accuracy_of(table),
                "4 classes: balanced accuracy": balanced_accuracy_of(table),
                "4 classes: mean F1": macro_f1_of(table),
            }
        return out

    patients = [case.patient for case in cases]
    found = by_patient(statistic, patients, altered, draws, seed)
    return tuple(
        figure(name, interval, len(cases), len(set(patients)), better=BETTER.get(name, "high"))
        for name, interval in found.items()
    )


def knows_four(cases: Sequence[RegionCase]) -> bool:
    """Does the model tell removed from injected? One that does not gives both halves the same."""
    return any(abs(case.probabilities[2] - case.probabilities[3]) > 1e-6 for case in cases)


def confusions(cases: Sequence[RegionCase]) -> tuple[Confusion, ...]:
    """Of two classes and, if the model knows them, of four."""
    two = confusion(
        np.array([int(case.altered) for case in cases]),
        np.array([int(case.p_altered > THRESHOLD) for case in cases]),
        2,
    )
    tables = [_table("real or altered", TWO, two)]
    if knows_four(cases):
        said = np.array([int(np.argmax(case.probabilities)) for case in cases])
        tables.append(
            _table("four classes", CLASSES, confusion(np.array([case.truth for case in cases]), said, len(CLASSES)))
        )
    return tuple(tables)


def _table(title: str, classes: tuple[str, ...], counts: np.ndarray) -> Confusion:
    return Confusion(title, classes, tuple(tuple(int(n) for n in row) for row in counts))


def curves(cases: Sequence[RegionCase]) -> tuple[Curve, ...]:
    """ROC and reliability diagram, as if half of all places were altered: for that share the probabilities are given."""
    p = np.array([case.p_altered for case in cases])
    altered = np.array([case.altered for case in cases], dtype=bool)
    drawn = []
    if altered.any() and not altered.all():
        curve = roc(p, altered)
        drawn.append(Curve("roc", "", *thinned(curve.false_alarm_rate.tolist(), curve.detection_rate.tolist())))
    bins = reliability(p, altered, weights=as_if_half(altered))
    counts = tuple(int(n) for n in bins.counts)
    drawn.append(Curve("reliability", "", tuple(bins.said.tolist()), tuple(bins.true.tolist()), counts))
    return tuple(drawn)


def counts(cases: Sequence[RegionCase]) -> str:
    """How many of each class, in a sentence."""
    each = ", ".join(f"{sum(case.truth == n for case in cases)} {name}" for n, name in enumerate(CLASSES))
    return f"{len(cases)} places of {len({case.patient for case in cases})} patients: {each}."
