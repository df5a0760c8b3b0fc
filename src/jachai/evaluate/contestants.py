"""Names as `jachai compare` knows them → what takes part: models as they are, models trained per fold, and combinations.

NAME            a trainer's name: trained afresh on each fold; else an engine of `jachai scan`, as it is
shipped:NAME    a bundle as it lies in the package or on the user's disk; also a path
SEARCH+REGION   the candidates of a search, judged once more by a region model: two stages
mean:A,B,…      region models that vote
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from jachai.core.errors import UsageError
from jachai.core.finding import Examination, Finding, ModelIdentity, ScanResult, Verdict
from jachai.core.progress import Progress
from jachai.core.volume import Volume
from jachai.dataset.manifest import Entry
from jachai.detectors.detector import Detector
from jachai.evaluate.answers import N_REAL, Probabilities, RegionModel, SearchModel
from jachai.evaluate.scans import Place
from jachai.forensics.peaks import cell_spacing_mm
from jachai.scan.candidates import score_of
from jachai.scan.scanner import examine
from jachai.scan.verdict import THRESHOLD

READ_MM = 10.0
"""A search model judges a given place by its strongest evidence that near: well inside the 32 mm cube of the attacks."""
SURE = 1e-4
"""Scores and probabilities are kept that far from 0 and 1 before they are combined."""
CURVE = "learning.png"
"""What a trainer draws beside the bundle that it makes."""
Families = frozenset[str]
NONE: Families = frozenset()
SHIPPED, MEAN = "shipped:", "mean:"


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A model that can be asked. sha256: of what answers, so that answers can be kept. about: one sentence. source: the
    name or path by which a fresh process finds it, None if it cannot."""

    name: str
    sha256: str
    about: str
    search: SearchModel | None = None
    judge: RegionModel | None = None
    source: str | None = None
    curve: Path | None = None
    """A picture of how it learnt."""


class Contestant(Protocol):
    """Takes part in a comparison. searches: has a `search`; judges: has a `judge`. learns: is trained on each fold."""

    @property
    def name(self) -> str: ...
    @property
    def searches(self) -> bool: ...
    @property
    def judges(self) -> bool: ...
    @property
    def learns(self) -> bool: ...

    def fit(self, training: Sequence[Entry], folder: Path, progress: Progress, without: Families = NONE) -> Fitted:
        """Ready to be asked. folder: for what is learnt from just these entries; an unfinished training is continued.
        without: families of attacks that a trainer which simulates for itself must leave out."""


@dataclass(frozen=True, slots=True)
class AsItIs:
    """A model that is not trained here. load: makes it, when it is first asked for."""

    name: str
    searches: bool
    judges: bool
    load: Callable[[], Fitted]
    learns: bool = False

    def fit(self, training: Sequence[Entry], folder: Path, progress: Progress, without: Families = NONE) -> Fitted:
        """See Contestant."""
        return replace(self.load(), name=self.name)


@dataclass(frozen=True, slots=True)
class Learner:
    """A model that is trained on each fold. train: entries, folder, progress, families to leave out → the bundle's folder. load: asks for it."""

    name: str
    searches: bool
    judges: bool
    train: Callable[[Sequence[Entry], Path, Progress, Families], Path]
    load: Callable[[Path], Fitted]
    learns: bool = True

    def fit(self, training: Sequence[Entry], folder: Path, progress: Progress, without: Families = NONE) -> Fitted:
        """See Contestant."""
        bundle = self.train(training, folder, progress, without)
        curve = bundle.parent / CURVE
        return replace(self.load(bundle), name=self.name, curve=curve if curve.exists() else None)


@dataclass(frozen=True, slots=True)
class Staged:
    """The candidates of a search, each judged by a region model: the mean of the two log odds is the new score."""

    first: Contestant
    second: Contestant

    @property
    def name(self) -> str:
        """Both."""
        return f"{self.first.name}+{self.second.name}"

    @property
    def learns(self) -> bool:
        """If either does."""
        return self.first.learns or self.second.learns

    searches: bool = True
    judges: bool = False

    def fit(self, training: Sequence[Entry], folder: Path, progress: Progress, without: Families = NONE) -> Fitted:
        """See Contestant."""
        one = self.first.fit(training, folder.parent.parent / self.first.name / folder.name, progress, without)
        two = self.second.fit(training, folder.parent.parent / self.second.name / folder.name, progress, without)
        assert one.search is not None and two.judge is not None
        sha = hashlib.sha256(f"staged {one.sha256} {two.sha256}".encode()).hexdigest()
        about = f"Candidates of {one.name}, each judged once more by {two.name}."
        return Fitted(self.name, sha, about, search=partial(_in_two_stages, one.search, two.judge))


@dataclass(frozen=True, slots=True)
class Vote:
    """Region models whose probabilities are averaged."""

    members: tuple[Contestant, ...]
    searches: bool = False
    judges: bool = True

    @property
    def name(self) -> str:
        """All of them."""
        return MEAN + ",".join(member.name for member in self.members)

    @property
    def learns(self) -> bool:
        """If any does."""
        return any(member.learns for member in self.members)

    def fit(self, training: Sequence[Entry], folder: Path, progress: Progress, without: Families = NONE) -> Fitted:
        """See Contestant."""
        fitted = [m.fit(training, folder.parent.parent / m.name / folder.name, progress, without) for m in self.members]
        sha = hashlib.sha256(" ".join(["mean", *(one.sha256 for one in fitted)]).encode()).hexdigest()
        judges = [one.judge for one in fitted if one.judge is not None]
        about = f"Mean probability of {', '.join(one.name for one in fitted)}."
        return Fitted(self.name, sha, about, judge=lambda v, p: np.mean([judge(v, p) for judge in judges], axis=0))


def of_detector(detector: Detector, about: str, source: str | None = None) -> Fitted:
    """An engine of `jachai scan`: it searches, and can be read at a given place."""
    identity: ModelIdentity = detector.identity
    return Fitted(identity.name, identity.sha256, about, partial(_search, detector), partial(read_at, detector), source)


def _search(detector: Detector, volume: Volume) -> Examination:
    return examine(volume, detector)


def read_at(detector: Detector, volume: Volume, places_kji: Sequence[Place]) -> Probabilities:
    """The score of a search model's map at given places, taken for the probability of being altered. It knows no classes
    beyond real and altered, so both halves are the same. Unmeasured places count as real."""
    found = detector.examine(volume)
    spacing = cell_spacing_mm(volume, found.stride)
    axes = [np.arange(n) * mm for n, mm in zip(found.evidence.shape, spacing)]
    p = []
    for k, j, i in places_kji:
        middle = (k * spacing[0], (j + 0.5) / found.stride * spacing[1], (i + 0.5) / found.stride * spacing[2])
        window = tuple(
            slice(int(np.searchsorted(a, m - READ_MM)), int(np.searchsorted(a, m + READ_MM, "right")))
            for a, m in zip(axes, middle)
        )
        inside = found.evidence[window]
        p.append(float(score_of(float(inside.max()))) if inside.size and np.isfinite(inside).any() else 0.0)
    altered = np.array(p, dtype=np.float32)[:, None] / 2
    real = 0.5 - altered
    return np.concatenate([real, real, altered, altered], axis=1)


def _in_two_stages(search: SearchModel, judge: RegionModel, volume: Volume) -> Examination:
    examination = search(volume)
    result = examination.result
    if result.score is None or not result.candidates:
        return examination
    places = [(round(k), round(j), round(i)) for k, j, i in (c.center_kji for c in result.candidates)]
    p = judge(volume, places)[:, N_REAL:].sum(axis=1)
    again = sorted(
        (replace(one, score=_both(one.score, float(q))) for one, q in zip(result.candidates, p)),
        key=lambda one: -one.score,
    )
    return replace(examination, result=_judged_again(result, tuple(again)))


def _judged_again(result: ScanResult, candidates: tuple[Finding, ...]) -> ScanResult:
    findings = tuple(one for one in candidates if one.score > THRESHOLD)
    verdict = result.verdict
    if verdict in (Verdict.TAMPERED, Verdict.NO_SIGN):
        verdict = Verdict.TAMPERED if findings else Verdict.NO_SIGN
    score = candidates[0].score
    return replace(result, candidates=candidates, findings=findings, score=score, verdict=verdict, p_value=None)


def _both(score: float, probability: float) -> float:
    """Mean of the log odds."""
    odds = [np.log(x / (1 - x)) for x in np.clip([score, probability], SURE, 1 - SURE)]
    return float(1 / (1 + np.exp(-np.mean(odds))))


def named(
    names: Sequence[str],
    known: Mapping[str, Callable[[], Contestant]],
    shipped: Callable[[str], Contestant],
) -> tuple[Contestant, ...]:
    """The contestants of a command line, each once. known: by plain name. shipped: a bundle by name or path.

    Raises UsageError for an unknown name, or a combination that makes no sense.
    """
    return tuple(_named(name, known, shipped) for name in dict.fromkeys(names))


def _named(
    name: str, known: Mapping[str, Callable[[], Contestant]], shipped: Callable[[str], Contestant]
) -> Contestant:
    if name.startswith(MEAN):
        members = tuple(_named(one, known, shipped) for one in name.removeprefix(MEAN).split(","))
        if len(members) < 2 or not all(member.judges for member in members):
            raise UsageError(f"{name!r}: two or more region models can vote.", "Write, say, mean:cnn,vgg16.")
        return Vote(members)
    if name.startswith(SHIPPED):
        return shipped(name.removeprefix(SHIPPED))
    if "+" in name:
        one, _, two = name.partition("+")
        first, second = _named(one, known, shipped), _named(two, known, shipped)
        if not first.searches or not second.judges:
            raise UsageError(f"{name!r}: the first must search, the second judge places.", "Write, say, dense+cnn.")
        return Staged(first, second)
    if name in known:
        return known[name]()
    near = difflib.get_close_matches(name, known, 1, cutoff=0.0)
    raise UsageError(f"There is no model '{name}'.", f"Did you mean '{near[0]}'? Known: {', '.join(known)}.")
