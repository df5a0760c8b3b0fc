"""Ranked candidates + where the alterations are → hits and the FROC curve: how well a search finds the place.

FROC as in LUNA16 (Setio et al. 2017, after Chakraborty 1989): over all scans, the share of alterations that a candidate at
or above a threshold hits, against the number of candidates per scan that hit none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]
HIT_MM = 16.0
"""A candidate hits an alteration whose place is that near: half the cube of the known attacks."""
FAR_MM = 30.0
"""Farther than this from every place, a candidate has nothing to do with an alteration."""
FALSE_POSITIVES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Per scan, at which the curve is read off (LUNA16)."""


@dataclass(frozen=True, slots=True)
class Search:
    """What a search said of one scan, beside the truth.

    scores: of the candidates, best first. hits: the number of the place each candidate hits, −1 for none.
    n_places: alterations in the scan; 0 for an intact one.
    """

    scores: tuple[float, ...]
    hits: tuple[int, ...]
    n_places: int = 0

    def __post_init__(self) -> None:
        if len(self.scores) != len(self.hits) or any(hit >= self.n_places for hit in self.hits):
            raise ValueError(f"{len(self.scores)} scores, hits {self.hits}, {self.n_places} places")
        if any(a < b for a, b in zip(self.scores, self.scores[1:])):
            raise ValueError("candidates must be ranked, best first")


@dataclass(frozen=True, slots=True, eq=False)
class Froc:
    """The curve, a point per threshold; sensitivities: read off at FALSE_POSITIVES; mean: of those (LUNA16's CPM)."""

    false_positives: Numbers
    found: Numbers
    sensitivities: tuple[float, ...]
    mean: float = field(default=float("nan"))


def distances_mm(
    candidates_kji: Sequence[Sequence[float]], places_kji: Sequence[Sequence[float]], spacing_mm: Sequence[float]
) -> Numbers:
    """(candidates, places) distances in mm. spacing_mm: (k, j, i)."""
    one = np.asarray(candidates_kji, dtype=np.float64).reshape(-1, 1, 3)
    other = np.asarray(places_kji, dtype=np.float64).reshape(1, -1, 3)
    return np.asarray(np.linalg.norm((one - other) * np.asarray(spacing_mm), axis=2))


def hits_of(distances: Numbers, within_mm: float = HIT_MM) -> tuple[int, ...]:
    """For each candidate the nearest place within reach, −1 for none."""
    if not distances.size:
        return (-1,) * len(distances)
    nearest = distances.argmin(axis=1)
    return tuple(int(n) if row[n] <= within_mm else -1 for n, row in zip(nearest, distances))


def top_hit(search: Search, k: int) -> bool:
    """Does one of the best k candidates hit a place? False where nothing was found."""
    return any(hit >= 0 for hit in search.hits[:k])


def froc(searches: Sequence[Search]) -> Froc:
    """The curve over all scans, intact ones included. Further candidates on a place that was hit already count neither way.

    Raises ValueError without a scan or without an alteration.
    """
    n_places = sum(search.n_places for search in searches)
    if not n_places:
        raise ValueError("a FROC curve needs at least one alteration")
    marks = sorted((mark for search in searches for mark in _marks(search)), key=lambda mark: -mark[0])
    scores = np.array([score for score, _ in marks])
    right = np.array([is_hit for _, is_hit in marks], dtype=bool)
    last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1) if len(scores) else np.zeros(0, dtype=np.int64)
    found = np.concatenate([[0.0], np.cumsum(right)[last] / n_places]) if len(scores) else np.zeros(1)
    wrong = np.concatenate([[0.0], np.cumsum(~right)[last] / len(searches)]) if len(scores) else np.zeros(1)
    sensitivities = tuple(float(found[wrong <= rate].max()) for rate in FALSE_POSITIVES)
    return Froc(wrong, found, sensitivities, float(np.mean(sensitivities)))


def _marks(search: Search) -> list[tuple[float, bool]]:
    """(score, is a first hit) of every candidate that counts."""
    seen: set[int] = set()
    marks = []
    for score, hit in zip(search.scores, search.hits):
        if hit < 0 or hit not in seen:
            marks.append((score, hit >= 0))
            seen.add(hit)
    return marks
