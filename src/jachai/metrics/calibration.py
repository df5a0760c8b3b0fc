"""Probabilities and scores + the truth → can one believe them: reliability, calibration error, conformal p-values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]
Truth = npt.NDArray[np.bool_]
N_BINS = 10


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """Bins of equal width over 0…1 that hold a case. said: mean probability, true: share altered, counts: cases, shares: the sum of
    their weights."""

    said: Numbers
    true: Numbers
    counts: npt.NDArray[np.int64]
    shares: Numbers


@dataclass(frozen=True, slots=True)
class Conformal:
    """A p-value with what it rests on: n intact patients, and 1/(n + 1), the smallest that they allow."""

    p: float
    n: int
    floor: float


def as_if_half(altered: Truth) -> Numbers:
    """Weights of cases with which half of all are altered: what a probability that was given for that share is held against."""
    y = np.asarray(altered, dtype=bool)
    count = len(y)
    return np.asarray(np.where(y, count / 2 / max(1, y.sum()), count / 2 / max(1, (~y).sum())), dtype=np.float64)


def at_share(probabilities: Numbers, share: float) -> Numbers:
    """Probabilities that were given as if half of all cases were altered → the same where `share` (0…1) of them are (Bayes)."""
    p = np.asarray(probabilities, dtype=np.float64)
    return np.asarray(p * share / (p * share + (1 - p) * (1 - share)))


def error_by_chance(probabilities: Numbers, altered: Truth, draws: int = 25) -> float:
    """Mean calibration error, as if half were altered, that so many cases would show if every probability were right: below it
    nobody can get but by luck."""
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(altered, dtype=bool)
    right = at_share(np.clip(p, 1e-9, 1 - 1e-9), float(y.mean()) if len(y) else 0.5)
    rng = np.random.default_rng(0)
    drawn = (rng.random(len(p)) < right for _ in range(draws))
    return float(np.mean([calibration_error(p, one, weights=as_if_half(one)) for one in drawn]))


def reliability(
    probabilities: Numbers, altered: Truth, bins: int = N_BINS, weights: Numbers | None = None
) -> Reliability:
    """Cases sorted by what was said of them (Guo et al. 2017, §2). Probabilities of being altered, 0…1. weights: how often
    each case counts."""
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(altered, dtype=bool)
    if p.shape != y.shape or (p.size and (p.min() < 0 or p.max() > 1)):
        raise ValueError("probabilities lie in 0…1, one per case")
    place = np.minimum((p * bins).astype(np.int64), bins - 1)
    weight = np.ones(len(p)) if weights is None else np.asarray(weights, dtype=np.float64)
    counts = np.bincount(place, minlength=bins)
    there = counts > 0
    share = np.asarray(np.bincount(place, weights=weight, minlength=bins)[there], dtype=np.float64)
    said, true = (np.bincount(place, weights=w * weight, minlength=bins)[there] / share for w in (p, y.astype(float)))
    return Reliability(said, true, counts[there], share)


def calibration_error(
    probabilities: Numbers, altered: Truth, bins: int = N_BINS, weights: Numbers | None = None
) -> float:
    """Expected calibration error (Naeini et al. 2015): mean distance of said and true, weighted by the cases of a bin."""
    if not len(probabilities):
        return float("nan")
    found = reliability(probabilities, altered, bins, weights)
    return float(np.average(np.abs(found.said - found.true), weights=found.shares))


def brier(probabilities: Numbers, altered: Truth, weights: Numbers | None = None) -> float:
    """Mean squared distance of probability and truth (Brier 1950)."""
    if not len(probabilities):
        return float("nan")
    off = (np.asarray(probabilities) - np.asarray(altered, dtype=np.float64)) ** 2
    return float(np.average(off, weights=weights))


def conformal(score: float, intact: Numbers) -> Conformal:
    """(1 + intact patients at least as suspicious) / (1 + n) (Vovk et al. 2005). intact: one score per patient."""
    n = len(intact)
    return Conformal((1 + int((np.asarray(intact) >= score).sum())) / (n + 1), n, 1 / (n + 1))


def leave_one_out(intact: Numbers) -> Numbers:
    """The p-value of each intact patient against all others: evenly spread over their steps if the method is right."""
    scores = np.asarray(intact, dtype=np.float64)
    return np.array([conformal(score, np.delete(scores, n)).p for n, score in enumerate(scores)])
