"""Volume → tamper map by the scan's own statistics: the untrained engine, baseline and source of explanations."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np

from jachai import __version__
from jachai.core.errors import ModelError
from jachai.core.finding import ModelIdentity
from jachai.core.progress import Progress, silent
from jachai.core.volume import Modality, Volume
from jachai.detectors.detector import Map, Reference, TamperMap
from jachai.forensics.selfreference import CT_CUES, MR_CUES, Evidence, measure

CALIBRATION_FILE = "selfreference.calibration.json"
"""In this package. Written by `benchmarks/calibrate_selfreference.py` from intact scans only."""
MARGIN = {"slice": 1.1, "volume": 1.6}
"""The threshold lies this factor above the most suspicious intact patient: so far that, of all CT patients left out of the
calibration in turn, at most one would have alarmed (`benchmarks/calibrate_selfreference.py`)."""
STACK = 8
"""Fewer slices than this are judged by the single-slice calibration."""
PIXEL_MM = (0.4, 1.2)
SLICE_MM = (0.4, 8.5)
"""In-plane and slice spacing of the intact scans, with some air: outside, a verdict is inconclusive."""
MIN_SIDE = 64
"""Voxels. A smaller picture has too few windows to predict anything from."""
MIN_EXAMINED_CM2 = 10.0
"""Least examined area in the fullest slice: about a third of a lung near its top."""


@dataclass(frozen=True, slots=True)
class Basis:
    """Calibration of one modality and basis. scales: cue → (median, 95th percentile) of intact maxima of its z."""

    reference: Reference
    scales: Mapping[str, tuple[float, float]]
    threshold: float


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
        together = combine(shares) / np.float32(basis.threshold)
        return TamperMap(
            evidence=np.asarray(together, dtype=np.float32),
            stride=evidence.stride,
            cues={d.cue.name: d.z for d in evidence.deviations if d.cue.name in shares},
            cue_evidence={name: np.asarray(share / basis.threshold, np.float32) for name, share in shares.items()},
            kinds={d.cue.name: d.cue.kind for d in evidence.deviations if d.cue.name in shares},
            reference=basis.reference,
            limits=limits_of(volume, evidence),
        )


def basis_of(volume: Volume) -> tuple[str, str]:
    """(modality, basis) whose calibration a volume is judged by. Pictures borrow MR's, and are always inconclusive."""
    modality = "CT" if volume.modality is Modality.CT else "MR"
    return modality, "volume" if volume.shape[0] >= STACK else "slice"


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


def limits_of(volume: Volume, evidence: Evidence) -> tuple[str, ...]:
    """Why this engine's calibration does not cover a volume: whole sentences, empty where it does."""
    limits = []
    if volume.modality is Modality.PICTURE:
        limits.append("It is a picture: without Hounsfield units and spacing nothing was calibrated.")
    if min(volume.shape[1:]) < MIN_SIDE:
        limits.append(f"It is smaller than {MIN_SIDE} × {MIN_SIDE} pixels.")
    if float(np.ptp(volume.voxels[:: max(1, volume.shape[0] // 8)])) == 0:
        limits.append("It has no content: sampled slices hold one single value.")
    if volume.provenance.lossy:
        limits.append("It was compressed with loss, which alters the noise that the engine reads.")
    if volume.geometry is not None:
        limits += _geometry_limits(volume)
    if volume.modality is Modality.CT and not evidence.has_lung:
        limits.append("No lungs were found, and the CT calibration rests on chests only.")
    pixel_cm2 = float(np.prod(volume.geometry.pixel_mm)) / 100 if volume.geometry else 0.005
    area = float(evidence.examined.sum(axis=(1, 2)).max()) * evidence.stride**2 * pixel_cm2
    if area < MIN_EXAMINED_CM2:
        limits.append(f"Only {area:.0f} cm² of tissue could be examined in the fullest slice.")
    return tuple(limits)


def _geometry_limits(volume: Volume) -> list[str]:
    geometry = volume.geometry
    limits: list[str] = []
    if geometry is None:
        return limits
    pixel, step = max(geometry.pixel_mm), geometry.slice_step_mm
    if not PIXEL_MM[0] <= min(geometry.pixel_mm) <= pixel <= PIXEL_MM[1]:
        limits.append(f"Its pixels of {pixel:.2f} mm lie outside the calibrated {PIXEL_MM[0]}–{PIXEL_MM[1]} mm.")
    if volume.shape[0] > 1 and step is not None and not SLICE_MM[0] <= step <= SLICE_MM[1]:
        limits.append(
            f"Its slice distance of {step:.2f} mm lies outside the calibrated {SLICE_MM[0]}–{SLICE_MM[1]} mm."
        )
    if volume.modality is Modality.CT and geometry.plane != "axial":
        limits.append(f"Its slices are {geometry.plane}: reformatted CT was not calibrated.")
    return limits


def load() -> SelfReference:
    """The engine with the calibration that ships in the package. Raises ModelError if that file is missing or damaged."""
    try:
        raw = (resources.files("jachai.detectors") / CALIBRATION_FILE).read_bytes()
        data = json.loads(raw)
        bases = {(entry["modality"], entry["basis"]): _basis(entry) for entry in data["bases"]}
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise ModelError(
            f"The calibration of the self-reference engine cannot be read ({type(error).__name__}).",
            "Install Jachai again.",
        ) from error
    return SelfReference(ModelIdentity("selfreference", __version__, hashlib.sha256(raw).hexdigest()), bases)


def _basis(entry: dict[str, Any]) -> Basis:
    cues = {cue.name for cue in CT_CUES + MR_CUES}
    scales = {name: (float(low), float(high)) for name, (low, high) in entry["scales"].items() if name in cues}
    scores = tuple(sorted(float(score) for score in entry["patients"].values()))
    threshold = MARGIN[entry["basis"]] * scores[-1]
    reference = Reference(entry["basis"], tuple(score / threshold for score in scores), bool(entry["calibrated"]))
    return Basis(reference, scales, threshold)
