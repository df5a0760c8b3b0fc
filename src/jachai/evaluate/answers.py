"""A model + a scan or a place → its answer as plain values that can be kept; an answer + the truth → a case that counts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jachai.core.errors import JachaiError
from jachai.core.finding import Examination, Verdict
from jachai.core.volume import Volume
from jachai.evaluate.scans import Place, Scan
from jachai.forensics.peaks import DEFAULT_SPACING_MM
from jachai.metrics.localization import FAR_MM, Search, distances_mm, hits_of

CLASSES = ("TB", "TM", "FB", "FM")
"""Real place without cancer, real cancer, cancer removed, cancer injected (the words of CT-GAN)."""
N_REAL = 2
"""The first of them are real, the others altered."""
NOT_EXAMINED = float("-inf")
"""Stands for the score of what was not examined: below everything."""
SearchModel = Callable[[Volume], Examination]
Probabilities = npt.NDArray[np.float32]
RegionModel = Callable[[Volume, Sequence[Place]], Probabilities]
"""Volume + places → (n, 4), columns as CLASSES."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A place that a search found suspicious, in voxels of what was examined."""

    center_kji: tuple[float, float, float]
    score: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What a search model said of one scan. score: 0–1, None where not examined. verdict: as `jachai scan` would say it.

    candidates: ranked, at most ten. places_kji, near_kji: the truth on the grid that was examined. spacing_mm: of that grid
    (k, j, i). seconds: of examining; reading_s: of reading the scan. reason: why it was not examined or inconclusive.
    """

    score: float | None
    verdict: str
    p_value: float | None
    candidates: tuple[Candidate, ...]
    spacing_mm: tuple[float, float, float]
    places_kji: tuple[Place, ...]
    near_kji: tuple[Place, ...]
    basis: str
    seconds: float
    reading_s: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SearchCase:
    """An answer beside the truth. search, near: candidates against the altered places of the image, and against all that
    may be seen in it. elsewhere: best score farther than FAR_MM from every place of the image; None where there is none.
    elsewhere_near: from every place that may be seen."""

    scan: Scan
    answer: Answer
    search: Search
    near: Search
    elsewhere: float | None
    elsewhere_near: float | None

    @property
    def score(self) -> float:
        """For ranking."""
        return NOT_EXAMINED if self.answer.score is None else self.answer.score

    @property
    def alarmed(self) -> bool:
        """Would `jachai scan` have said 'tampered'?"""
        return self.answer.verdict == Verdict.TAMPERED.value

    @property
    def abstained(self) -> bool:
        """Did it decline to judge?"""
        return self.answer.verdict in (Verdict.INCONCLUSIVE.value, Verdict.UNREADABLE.value)


@dataclass(frozen=True, slots=True)
class RegionCase:
    """A given place beside the truth (index into CLASSES) and what was said of it: four probabilities."""

    scan: str
    patient: str
    source: str
    truth: int
    probabilities: tuple[float, float, float, float]

    @property
    def altered(self) -> bool:
        """Was the place altered?"""
        return self.truth >= N_REAL

    @property
    def p_altered(self) -> float:
        """Probability, as said, that it was."""
        return min(1.0, sum(self.probabilities[N_REAL:]))


def searched(model: SearchModel, volume: Volume, scan: Scan, reading_s: float = 0.0) -> Answer:
    """Search one volume. An expected error is an answer too: not examined, and why."""
    began = time.perf_counter()
    try:
        result = model(volume).result
    except JachaiError as error:
        return unread(scan, str(error), reading_s)
    spacing = volume.spacing_mm or DEFAULT_SPACING_MM
    return Answer(
        score=None if result.score is None else float(result.score),
        verdict=result.verdict.value,
        p_value=result.p_value,
        candidates=tuple(Candidate(_three(c.center_kji), float(c.score)) for c in result.candidates),
        spacing_mm=(float(spacing[0] or DEFAULT_SPACING_MM[0]), float(spacing[1]), float(spacing[2])),
        places_kji=scan.places_kji,
        near_kji=scan.near_kji,
        basis="slice" if volume.shape[0] == 1 else "volume",
        seconds=time.perf_counter() - began,
        reading_s=reading_s,
        reason="" if result.verdict is not Verdict.INCONCLUSIVE else result.reason,
    )


def unread(scan: Scan, reason: str, reading_s: float = 0.0) -> Answer:
    """The answer about a scan that could not be examined."""
    basis = "slice" if scan.single else "volume"
    return Answer(
        None,
        Verdict.UNREADABLE.value,
        None,
        (),
        DEFAULT_SPACING_MM,
        scan.places_kji,
        scan.near_kji,
        basis,
        0.0,
        reading_s,
        reason,
    )


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    k, j, i = (float(value) for value in values)
    return k, j, i


def case_of(scan: Scan, answer: Answer) -> SearchCase:
    """Which candidates hit what."""
    own, elsewhere = _against(answer, answer.places_kji)
    near, elsewhere_near = _against(answer, answer.near_kji)
    return SearchCase(scan, answer, own, near, elsewhere, elsewhere_near)


def _against(answer: Answer, places: Sequence[Place]) -> tuple[Search, float | None]:
    centers = [candidate.center_kji for candidate in answer.candidates]
    scores = tuple(candidate.score for candidate in answer.candidates)
    away = distances_mm(centers, places, answer.spacing_mm)
    far = [score for score, row in zip(scores, away) if not row.size or row.min() > FAR_MM]
    return Search(scores, hits_of(away), len(places)), max(far, default=None)
