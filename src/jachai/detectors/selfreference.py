"""Volume → tamper map by the scan's own statistics: the untrained engine, baseline and source of explanations."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np

from jachai import __version__
from jachai.core.errors import ModelError
from jachai.core.finding import Kind, ModelIdentity
from jachai.core.progress import Progress, silent
from jachai.core.volume import Volume
from jachai.detectors.detector import Map, Reference, TamperMap
from jachai.forensics import repeats
from jachai.forensics.domain import basis_of, limits_of
from jachai.forensics.selfreference import CT_CUES, MR_CUES, Evidence, measure

CALIBRATION_FILE = "selfreference.calibration.json"
"""In this package. Written by `benchmarks/calibrate_selfreference.py` from intact scans only."""
MARGIN = {"slice": 1.1, "volume": 1.6}
"""The threshold lies this factor above the most suspicious intact patient: so far that, of all CT patients left out of the
calibration in turn, at most one would have alarmed (`benchmarks/calibrate_selfreference.py`). In MR, of which few patients are at hand,
it is at least the evidence of the most suspicious intact image made by code."""
REPEAT_MARGIN, REPEAT_LEAST = 1.8, 2.5
"""The same for the z of a repeat (`forensics.repeats`), whose threshold is never below REPEAT_LEAST: the intact scans at hand have next to
none, and phantoms, which are their own mirror image, stay below it. Below its threshold a repeat is no evidence at all."""


@dataclass(frozen=True, slots=True)
class Basis:
    """Calibration of one modality and basis. scales: cue → (median, 95th percentile) of intact maxima of its z. repeats: the
    threshold of the z of a repeat."""

    reference: Reference
    scales: Mapping[str, tuple[float, float]]
    threshold: float
    repeats: float


@dataclass(frozen=True, slots=True)
class SelfReference:
    """The engine with its calibration: (modality, basis) → Basis."""

    identity: ModelIdentity
    bases: Mapping[tuple[str, str], Basis]

    def examine(self, volume: Volume, progress: Progress = silent) -> TamperMap:
        """See `Detector.examine`."""
        basis = self.bases[basis_of(volume)]
        evidence = measure(volume, progress)
        shares = cue_evidence(evidence, basis.scales)
        shares = {name: np.asarray(share / basis.threshold, np.float32) for name, share in shares.items()}
        cues = {d.cue.name: d.z for d in evidence.deviations if d.cue.name in shares}
        kinds = {d.cue.name: d.cue.kind for d in evidence.deviations if d.cue.name in shares}
        where = repeats.measured(volume)
        found = tuple(one for one in repeats.find(volume, where) if one.z > basis.repeats)
        if found:
            cues[repeats.CUE] = repeats.as_map(found, where)
            share = cues[repeats.CUE] / np.float32(basis.repeats)
            shares[repeats.CUE] = np.where(share > 0, share, np.float32(np.nan))
            kinds[repeats.CUE] = Kind.ALTERED
        return TamperMap(
            evidence=combine(shares),
            stride=evidence.stride,
            cues=cues,
            cue_evidence=shares,
            kinds=kinds,
            reference=basis.reference,
            limits=limits_of(volume, evidence),
            repeats=found,
        )


def cue_evidence(evidence: Evidence, scales: Mapping[str, tuple[float, float]]) -> dict[str, Map]:
    """Each cue's z → 0 at the median of intact scans' maxima, 1 at their 95th percentile.

    A cue without a scale has no say: single slices, by which short stacks are judged, know nothing between slices.
    """
    shares = {}
    for deviation in evidence.deviations:
        if deviation.cue.name in scales:
            median, high = scales[deviation.cue.name]
            shares[deviation.cue.name] = np.asarray((deviation.z - median) / max(high - median, 0.1), dtype=np.float32)
    return shares


def combine(shares: Mapping[str, Map]) -> Map:
    """The strongest cue at every place; −inf where none could be measured."""
    return np.asarray(np.max([np.nan_to_num(z, nan=-np.inf) for z in shares.values()], axis=0), dtype=np.float32)


def threshold_of(basis: str, patients: Sequence[float], made: Sequence[float]) -> float:
    """Evidence of intact patients, and of intact images made by code, which are no patients → the threshold."""
    return max([MARGIN[basis] * max(patients), *made])


def load() -> SelfReference:
    """The engine with the calibration that ships in the package. Raises ModelError if that file is missing or damaged."""
    try:
        raw = (resources.files("jachai.detectors") / CALIBRATION_FILE).read_bytes()
        data = json.loads(raw)
        bases = {(entry["modality"], entry["basis"]): basis_from(entry) for entry in data["bases"]}
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise ModelError(
            f"The calibration of the self-reference engine cannot be read ({type(error).__name__}).",
            "Install Jachai again.",
        ) from error
    return SelfReference(ModelIdentity("selfreference", __version__, hashlib.sha256(raw).hexdigest()), bases)


def basis_from(entry: dict[str, Any]) -> Basis:
    """An entry of the calibration's file as the engine uses it."""
    cues = {cue.name for cue in CT_CUES + MR_CUES}
    scales = {name: (float(low), float(high)) for name, (low, high) in entry["scales"].items() if name in cues}
    scores = tuple(sorted(float(score) for score in entry["patients"].values()))
    threshold = threshold_of(entry["basis"], scores, [float(score) for score in entry.get("made", ())])
    reference = Reference(entry["basis"], tuple(score / threshold for score in scores), bool(entry["calibrated"]))
    highest = max(float(z) for z in entry["repeats"].values())
    return Basis(reference, scales, threshold, max(REPEAT_LEAST, REPEAT_MARGIN * highest))
