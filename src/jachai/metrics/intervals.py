"""A figure + who the cases belong to → its 95 % interval, by drawing patients (not cases) again and again.

Bootstrap (Efron and Tibshirani 1993) over groups: neighbouring slices of one patient are no independent cases. Patients
with an altered case and those without are drawn apart, so that every draw has both.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]
DRAWS = 1000
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its bounds. low and high are NaN where fewer than two patients leave nothing to draw."""

    value: float
    low: float
    high: float


def by_patient(
    statistic: Callable[[Indices], Mapping[str, float]],
    patients: Sequence[str],
    altered: Sequence[bool] | npt.NDArray[np.bool_],
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[str, Interval]:
    """Every figure of `statistic` with its interval.

    statistic: numbers of the cases that count (with repeats) → figure by name; NaN where it cannot be counted.
    patients, altered: of each case.
    """
    count = len(patients)
    plain = statistic(np.arange(count))
    strata = _strata(patients, altered)
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {name: [] for name in plain}
    if sum(len(stratum) for stratum in strata) > 1:
        for _ in range(draws):
            chosen = [s[n] for s in strata for n in rng.integers(0, len(s), len(s))]
            for name, value in statistic(np.concatenate(chosen)).items():
                drawn[name].append(value)
    return {name: _interval(value, np.array(drawn[name])) for name, value in plain.items()}


def _strata(patients: Sequence[str], altered: Sequence[bool] | npt.NDArray[np.bool_]) -> list[list[Indices]]:
    """Patients with an altered case, then those without: the numbers of the cases of each."""
    cases: dict[str, list[int]] = {}
    for n, patient in enumerate(patients):
        cases.setdefault(patient, []).append(n)
    groups = [np.array(numbers, dtype=np.int64) for numbers in cases.values()]
    with_altered = [bool(np.asarray(altered)[group].any()) for group in groups]
    parts = [[g for g, has in zip(groups, with_altered) if has is side] for side in (True, False)]
    return [part for part in parts if part]


def _interval(value: float, drawn: npt.NDArray[np.float64]) -> Interval:
    known = drawn[~np.isnan(drawn)] if drawn.size else drawn
    if not known.size:
        return Interval(float(value), float("nan"), float("nan"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # quantiles of infinities
        low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(value), float(low), float(high))
