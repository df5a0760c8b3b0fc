"""Answers of a search model beside the truth → its figures and curves: the whole-scan tables, whatever the protocol."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from jachai.evaluate.answers import NOT_EXAMINED, SearchCase
from jachai.evaluate.results import Better, Curve, Figure, Unit, figure, thinned
from jachai.metrics.detection import auc, detection_at, per_100, roc
from jachai.metrics.intervals import Indices, by_patient
from jachai.metrics.localization import FALSE_POSITIVES, Search, froc, top_hit

Statistic = Callable[[Indices], dict[str, float]]
FRACTIONS = dict(zip(FALSE_POSITIVES, ("⅛", "¼", "½", "1", "2", "4", "8")))
IDENTITY = "identity control AUC"
UNITS: dict[str, tuple[Unit, Better]] = {
    "false alarms per 100 intact": ("per 100", "low"),
    "declined per 100 intact": ("per 100", "low"),
    "declined per 100 altered": ("per 100", "low"),
    IDENTITY: ("share", "half"),
    f"{IDENTITY}, all labels of the scan": ("share", "half"),
    "seconds per scan": ("s", "low"),
    "seconds to read a scan": ("s", "low"),
}
"""Of figures that are no shares, or that are not better when higher."""


def figures(cases: Sequence[SearchCase], draws: int, seed: int = 0) -> tuple[Figure, ...]:
    """Every figure of the whole-scan table with its interval. Sides without a case leave their figures uncounted."""
    if not cases:
        return ()
    altered = np.array([case.scan.altered for case in cases])
    patients = [case.scan.patient for case in cases]
    found = by_patient(_statistic(cases, altered), patients, altered, draws, seed)
    plain = by_patient(_times(cases), patients, altered, draws, seed)
    n, who = len(cases), len(set(patients))
    return tuple(
        figure(name, interval, n, who, *UNITS.get(name, ("share", "high")))
        for name, interval in {**found, **plain}.items()
    )


def _statistic(cases: Sequence[SearchCase], altered: np.ndarray) -> Statistic:
    scores = np.array([case.score for case in cases])
    alarmed = np.array([case.alarmed for case in cases])
    declined = np.array([case.abstained for case in cases])
    tops = {f"top-{k} hit": np.array([top_hit(case.search, k) for case in cases]) for k in (1, 3)}
    control = _controls(cases, altered)
    searches = [case.search for case in cases]
    has_places = any(search.n_places for search in searches)

    def statistic(chosen: Indices) -> dict[str, float]:
        truth = altered[chosen]
        fake, real = chosen[truth], chosen[~truth]
        out = {
            "scan AUC": auc(scores[chosen], truth),
            "detected at 1 % false alarms": detection_at(scores[chosen], truth, 0.01),
            "detected at 5 % false alarms": detection_at(scores[chosen], truth, 0.05),
            "detected at its own threshold": _mean(alarmed[fake]),
            "false alarms per 100 intact": per_100(alarmed[real]),
            "declined per 100 intact": per_100(declined[real]),
            "declined per 100 altered": per_100(declined[fake]),
        }
        out |= {name: _mean(hit[fake]) for name, hit in tops.items()}
        if has_places:
            out |= _froc_figures([searches[n] for n in chosen])
        return out | {name: _auc_known(values[chosen], truth) for name, values in control.items()}

    return statistic


def _controls(cases: Sequence[SearchCase], altered: np.ndarray) -> dict[str, np.ndarray]:
    """The best place far from every label in altered scans, the score in intact ones; NaN where there is none."""
    own = np.array([_control(case, case.elsewhere) for case in cases])
    if not altered.any():
        return {}
    found = {IDENTITY: own}
    if any(case.near.n_places != case.search.n_places for case in cases):
        found[f"{IDENTITY}, all labels of the scan"] = np.array([_control(c, c.elsewhere_near) for c in cases])
    return found


def _control(case: SearchCase, elsewhere: float | None) -> float:
    if case.scan.altered:
        return float("nan") if elsewhere is None else elsewhere
    return float("nan") if case.answer.score is None else case.answer.score


def _auc_known(values: np.ndarray, truth: np.ndarray) -> float:
    known = ~np.isnan(values)
    return auc(values[known], truth[known])


def _froc_figures(searches: Sequence[Search]) -> dict[str, float]:
    names = [f"found at {text} false marks per scan" for text in FRACTIONS.values()]
    if not any(search.n_places for search in searches):
        return dict.fromkeys([*names, "FROC mean"], float("nan"))
    curve = froc(searches)
    return {**dict(zip(names, curve.sensitivities)), "FROC mean": curve.mean}


def _times(cases: Sequence[SearchCase]) -> Statistic:
    seconds = np.array([case.answer.seconds for case in cases])
    reading = np.array([case.answer.reading_s for case in cases])

    def statistic(chosen: Indices) -> dict[str, float]:
        return {"seconds per scan": _mean(seconds[chosen]), "seconds to read a scan": _mean(reading[chosen])}

    return statistic


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def curves(cases: Sequence[SearchCase], title: str = "") -> tuple[Curve, ...]:
    """ROC of scans and FROC of places, as far as there are two sides."""
    altered = np.array([case.scan.altered for case in cases], dtype=bool)
    drawn: list[Curve] = []
    if altered.any() and not altered.all():
        curve = roc(np.array([case.score for case in cases]), altered)
        drawn.append(Curve("roc", title, *thinned(curve.false_alarm_rate.tolist(), curve.detection_rate.tolist())))
    if any(case.search.n_places for case in cases):
        marks = froc([case.search for case in cases])
        drawn.append(Curve("froc", title, *thinned(marks.false_positives.tolist(), marks.found.tolist())))
    return tuple(drawn)


def counts(cases: Sequence[SearchCase]) -> str:
    """How many of what, in a sentence."""
    altered = [case for case in cases if case.scan.altered]
    intact = [case for case in cases if not case.scan.altered]
    unread = sum(case.score == NOT_EXAMINED for case in cases)
    text = (
        f"{len(altered)} altered scans of {len({c.scan.patient for c in altered})} patients, "
        f"{len(intact)} intact of {len({c.scan.patient for c in intact})}"
    )
    return text + (f"; {unread} could not be examined (counted as not detected)." if unread else ".")
