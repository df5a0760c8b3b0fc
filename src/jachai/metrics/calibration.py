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
    """Bins of equal width over 0…1 that hold a case. said: mean probability, true: share altered, counts: cases."""

    said: Numbers
    true: Numbers
    counts: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Conformal:
    """A p-value with what it rests on: n intact patients, and 1/(n + 1), the smallest that they allow."""

    p: float
    n: int
    floor: float


def reliability(probabilities: Numbers, altered: Truth, bins: int = N_BINS) -> Reliability:
    """Cases sorted by what was said of them (Guo et al. 2017, §2). Probabilities of being altered, 0…1."""
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(altered, dtype=bool)
    if p.shape != y.shape or (p.size and (p.min() < 0 or p.max() > 1)):
        raise ValueError("probabilities lie in 0…1, one per case")
    place = np.minimum((p * bins).astype(np.int64), bins - 1)
    counts = np.bincount(place, minlength=bins)
    there = counts > 0
    said, true = (np.bincount(place, weights=w, minlength=bins)[there] / counts[there] for w in (p, y.astype(float)))
    return Reliability(said, true, counts[there])


def calibration_error(probabilities: Numbers, altered: Truth, bins: int = N_BINS) -> float:
    """Expected calibration error (Naeini et al. 2015): mean distance of said and true, weighted by the cases of a bin."""
    if not len(probabilities):
        return float("nan")
    found = reliability(probabilities, altered, bins)
    return float(np.average(np.abs(found.said - found.true), weights=found.counts))


def brier(probabilities: Numbers, altered: Truth) -> float:
    """Mean squared distance of probability and truth (Brier 1950)."""
    if not len(probabilities):
        return float("nan")
    return float(np.mean((np.asarray(probabilities) - np.asarray(altered, dtype=np.float64)) ** 2))


def conformal(score: float, intact: Numbers) -> Conformal:
    """(1 + intact patients at least as suspicious) / (1 + n) (Vovk et al. 2005). intact: one score per patient."""
    n = len(intact)
    return Conformal((1 + int((np.asarray(intact) >= score).sum())) / (n + 1), n, 1 / (n + 1))


def leave_one_out(intact: Numbers) -> Numbers:
    """The p-value of each intact patient against all others: evenly spread over their steps if the method is right."""
    scores = np.asarray(intact, dtype=np.float64)
    return np.array([conformal(score, np.delete(scores, n)).p for n, score in enumerate(scores)])
