"""What a detector is: Volume → how suspicious every place is and why, in units in which 1 is the threshold of its verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from jachai.core.finding import Kind, ModelIdentity, Nodule, Occluded
from jachai.core.progress import Progress, silent
from jachai.core.volume import Volume
from jachai.forensics.repeats import Repeat

Map = npt.NDArray[np.float32]


EVEN = np.float32(0.5)
"""The probability of a kind of which nothing is known."""
Occluder = Callable[[tuple[int, int, int]], tuple[Occluded, ...]]
"""Cell of the map → what a network's suspicion of it rests on (`detectors.occlusion`)."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Intact patients that a scan is compared with. scores: each patient's highest evidence, ascending.

    basis: 'slice' (the scan is one slice or too few for a stack) or 'volume'. calibrated: False where the patients are
    too few or too alike to give a p-value (MR until there is a basis).
    """

    basis: str
    scores: tuple[float, ...]
    calibrated: bool

    def p_value(self, evidence: float) -> float:
        """Conformal p-value (Vovk et al. 2005): (1 + patients at least as suspicious) / (1 + patients)."""
        return (1 + sum(score >= evidence for score in self.scores)) / (1 + len(self.scores))

    @property
    def p_floor(self) -> float:
        """The smallest p-value that so many patients allow."""
        return 1 / (1 + len(self.scores))

    @property
    def false_alarm_upper(self) -> float:
        """One-sided 95 % upper bound of the false-alarm rate when none of the patients alarms (Clopper and Pearson 1934)."""
        return float(1 - 0.05 ** (1 / len(self.scores)))


@dataclass(frozen=True, slots=True)
class Judged:
    """A place that a second stage has looked at. altered: probability, as if half of all places were; injected: if altered, that
    something was injected rather than removed. because: why it was looked at ('candidate', 'nodule'); strength: what its evidence is
    made of, comparable among places with the same reason."""

    center_kji: tuple[float, float, float]
    altered: float
    injected: float
    because: str
    strength: float


@dataclass(frozen=True, slots=True, eq=False)
class TamperMap:
    """How suspicious every place is, on a grid coarser in the plane by `stride` voxels.

    evidence: float32 (k, j', i'), the threshold of the verdict at 1, a typical intact scan's most suspicious place near
    0, −inf where nothing could be measured. cues: name → Map of z-scores (NaN where not measured). kinds: each cue's name →
    the kind of tampering it speaks for. cue_evidence: each cue's share in the units of `evidence`;
    empty where a network decides and the cues only explain.
    limits: why a verdict would not be honest here (outside the calibrated domain); empty where it is.
    injected: probability that a place, if altered, was injected rather than removed; None: the cues tell the kind.
    spoke: which engine of several this is from; None: the detector itself. repeats: tissue that stands in the scan twice,
    beyond what intact scans show. occluded: cell → what a network's suspicion of it rests on; None: there is no network.
    judged: places that a second stage has looked at, and nodules that it listed on the way; empty and None without one.
    """

    evidence: Map
    stride: int
    cues: Mapping[str, Map]
    cue_evidence: Mapping[str, Map]
    kinds: Mapping[str, Kind]
    reference: Reference
    limits: tuple[str, ...] = ()
    injected: Map | None = None
    spoke: ModelIdentity | None = None
    repeats: tuple[Repeat, ...] = ()
    occluded: Occluder | None = None
    judged: tuple[Judged, ...] = ()
    nodules: tuple[Nodule, ...] | None = None


class Detector(Protocol):
    """An engine of `jachai scan`. It normalises by itself and knows no files, thresholds or devices of others."""

    @property
    def identity(self) -> ModelIdentity:
        """Name, version and SHA-256 of what it was loaded from."""

    def examine(self, volume: Volume, progress: Progress = silent) -> TamperMap:
        """Any volume, of any size and modality, from one slice up. Never raises for an odd volume: it states `limits`."""


def kind_of(found: TamperMap) -> Map:
    """1 where a map speaks for an injection, 0 for a removal, ½ where it tells neither."""
    return kind_by_cues(found) if found.injected is None else found.injected


def kind_by_cues(told: TamperMap) -> Map:
    """1 where the strongest cue speaks for an injection, 0 for a removal, ½ where it tells neither."""
    best = np.full(told.evidence.shape, -np.inf, dtype=np.float32)
    kind = np.full(told.evidence.shape, EVEN, dtype=np.float32)
    for name, share in told.cue_evidence.items():
        here = np.nan_to_num(share, nan=-np.inf) > best
        best = np.where(here, share, best)
        kind[here] = {Kind.INJECTED: 1.0, Kind.REMOVED: 0.0}.get(told.kinds[name], 0.5)
    return kind


def together(one: Reference, two: Reference) -> Reference:
    """Of an alarm of either: every intact score of both counts, over the fewer patients: p is never too small."""
    n = min(len(one.scores), len(two.scores))
    return Reference(two.basis, tuple(sorted((*one.scores, *two.scores))[-n:]), one.calibrated and two.calibrated)
