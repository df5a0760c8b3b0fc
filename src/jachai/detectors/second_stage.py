"""Volume → the tamper map of a search engine after a second look: a region model judges what stood out, and what looks like a nodule.

The search engine asks of every place alike whether its noise fits. A region model was shown places, real and altered, and measures
each of them much more closely; but it cannot be asked about every place of a scan. So it is asked about the candidates and the
nodules: an injected cancer is a false nodule. Whole CT stacks only: on single slices it adds nothing (`docs/reference/figures.md`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt

from jachai.core.errors import ModelError
from jachai.core.finding import ModelIdentity, Nodule
from jachai.core.progress import Progress, silent
from jachai.core.volume import Modality, Volume
from jachai.detectors.bundle import CLASSES
from jachai.detectors.detector import Detector, Judged, Map, TamperMap, kind_of, together
from jachai.detectors.nodules import examined_nodules
from jachai.detectors.region import Probabilities, RegionModel, altered
from jachai.detectors.searching import Basis, basis_from
from jachai.forensics.domain import basis_of
from jachai.forensics.peaks import cell_spacing_mm, peaks

CALIBRATION_FILE = "second_stage.calibration.json"
"""In this package. Written by `benchmarks/train_second_stage.py`."""
REACH_MM, FALL = 10.0, 0.2
"""A judged place is a disc of this radius; at its rim the evidence is so much lower than in its middle."""
CLIP = 1e-4
"""Probabilities nearer to 0 or 1 tell no more."""
LOGITS = 3.0
"""So many logits of the judge count as much as one unit of the first stage's evidence, which is a network's 3 to 4 logits."""
CANDIDATE, NODULE = "candidate", "nodule"
"""Why a place is looked at. A candidate is as strong as both stages together say; a nodule, which the first stage may not have
noticed, as the judge alone says."""


@dataclass(frozen=True, slots=True)
class SecondStage:
    """first: finds candidates; what it calls altered stays so. bases: reason → how strong the strongest place of intact volumes was.
    lists: the nodules that it judged are those of the result; False where the user has a judge of his own for these."""

    name: str
    first: Detector
    judge: RegionModel
    bases: Mapping[str, Basis]
    lists: bool = True

    @property
    def identity(self) -> ModelIdentity:
        """A digest over both; the version is the first one's."""
        one, two = self.first.identity, self.judge.identity
        digest = hashlib.sha256(f"{one.sha256} {two.sha256}".encode()).hexdigest()
        return ModelIdentity(self.name, one.version, digest)

    def examine(self, volume: Volume, progress: Progress = silent) -> TamperMap:
        """See `Detector.examine`."""
        found = self.first.examine(volume, lambda stage, share: progress(stage, 0.8 * share))
        if volume.modality is not Modality.CT or basis_of(volume)[1] != "volume":
            return found
        nodules, places = looked(volume, found, self.judge, progress)
        own = painted(volume, found, places, self.bases)
        return replace(
            found,
            evidence=np.maximum(found.evidence, own),
            injected=np.where(own > found.evidence, _kinds(volume, found, places), kind_of(found)).astype(np.float32),
            reference=reduce(together, (basis.reference for basis in self.bases.values()), found.reference),
            judged=places,
            nodules=nodules if self.lists else None,
        )


def looked(
    volume: Volume, found: TamperMap, judge: RegionModel, progress: Progress = silent
) -> tuple[tuple[Nodule, ...] | None, tuple[Judged, ...]]:
    """(nodules, everything that was judged: the candidates of a map and those nodules)."""
    nodules = examined_nodules(volume, judge, progress)
    stride = found.stride
    peaks_there = peaks(found.evidence, cell_spacing_mm(volume, stride))
    spots = [
        (float(k), (j + 0.5) * stride - 0.5, (i + 0.5) * stride - 0.5) for k, j, i in (p.index for p in peaks_there)
    ]
    spots += [nodule.center_kji for nodule in nodules or ()]
    progress("looking again", 0.95)
    said = judge.classify(volume, spots)
    before = [peak.evidence for peak in peaks_there]
    places = []
    for n, (spot, p, injected) in enumerate(zip(spots, altered(said), injected_of(said), strict=True)):
        candidate = n < len(before)
        strength = before[n] + logit(p) / LOGITS if candidate else logit(p)
        places.append(Judged(spot, float(p), float(injected), CANDIDATE if candidate else NODULE, float(strength)))
    return nodules, tuple(places)


def injected_of(probabilities: Probabilities) -> npt.NDArray[np.float32]:
    """(n,) if altered, the probability that something was injected."""
    removed, injected = (probabilities[:, CLASSES.index(name)] for name in ("FB", "FM"))
    return np.asarray((injected + CLIP) / (removed + injected + 2 * CLIP), dtype=np.float32)


def logit(probability: float) -> float:
    """Its unit: log odds."""
    p = min(max(probability, CLIP), 1 - CLIP)
    return float(np.log(p / (1 - p)))


def painted(volume: Volume, found: TamperMap, places: Sequence[Judged], bases: Mapping[str, Basis]) -> Map:
    """Evidence of the judge in discs round its places, −inf elsewhere."""
    own = np.full(found.evidence.shape, -np.inf, dtype=np.float32)
    for place in places:
        basis = bases[place.because]
        value = (place.strength - basis.typical) / (basis.threshold - basis.typical)
        where, away = _disc(volume, found, place)
        own[where] = np.maximum(own[where], np.where(away <= 1, value - FALL * away**2, -np.inf))
    return own


def _kinds(volume: Volume, found: TamperMap, places: Sequence[Judged]) -> Map:
    """How far the judge thinks of an injection, in the disc of its surest place there."""
    out = np.full(found.evidence.shape, 0.5, dtype=np.float32)
    for place in sorted(places, key=lambda one: one.altered):
        where, away = _disc(volume, found, place)
        out[where] = np.where(away <= 1, place.injected, out[where])
    return out


def _disc(volume: Volume, found: TamperMap, place: Judged) -> tuple[tuple[slice, ...], Map]:
    """(cells round a place, their distance from it in units of REACH_MM)."""
    step = np.array(cell_spacing_mm(volume, found.stride))
    stride = np.array([1, found.stride, found.stride])
    middle = np.rint((np.array(place.center_kji) - (stride - 1) / 2) / stride).astype(int)
    reach = np.ceil(REACH_MM / step).astype(int)
    low = np.maximum(0, middle - reach)
    high = np.minimum(found.evidence.shape, middle + reach + 1)
    where = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    grid = np.meshgrid(*(np.arange(s.start, s.stop) for s in where), indexing="ij")
    squared = sum(((axis - c) * mm) ** 2 for axis, c, mm in zip(grid, middle, step, strict=True))
    return where, np.asarray(np.sqrt(squared) / REACH_MM, dtype=np.float32)


def bases_from(told: Mapping[str, Any]) -> dict[str, Basis]:
    """What a calibration's file holds, as SecondStage uses it. Raises ValueError, KeyError or TypeError."""
    return {because: basis_from("volume", told[because]) for because in (CANDIDATE, NODULE)}


def shipped_bases() -> dict[str, Basis]:
    """The calibration in the package. Raises ModelError if that file is missing or damaged."""
    try:
        return bases_from(json.loads((resources.files("jachai.detectors") / CALIBRATION_FILE).read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError("The calibration of the second look cannot be read.", "Install Jachai again.") from error
