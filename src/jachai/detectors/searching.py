"""What every trained search engine shares: a bundle's calibration, and its map → TamperMap explained by the scan's own cues."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jachai.core.errors import ModelError
from jachai.core.volume import Mask, Modality, Volume
from jachai.detectors.bundle import Bundle
from jachai.detectors.detector import Map, Reference, TamperMap
from jachai.forensics.channels import CHANNELS
from jachai.forensics.domain import limits_of
from jachai.forensics.selfreference import Evidence
from jachai.forensics.slicewise import STRIDE, noise_levels

BASES = ("slice", "volume")


@dataclass(frozen=True, slots=True)
class Basis:
    """Calibration of one basis: the map's value at a typical intact patient's most suspicious place, and at the threshold."""

    reference: Reference
    typical: float
    threshold: float


def bases_of(bundle: Bundle, architecture: str) -> dict[str, Basis]:
    """Basis → calibration. Raises ModelError where the bundle is of another kind, or its calibration is missing."""
    card = bundle.card
    if card.role != "search" or card.architecture != architecture or card.inputs.get("channels") != list(CHANNELS):
        raise ModelError(
            f"'{card.name}' is no {architecture} search model of this version.", "Train or import it again."
        )
    try:
        return {name: basis_from(name, card.calibration[name]) for name in BASES}
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"The calibration of '{card.name}' is missing or damaged.", "Train it again.") from error


def basis_from(name: str, entry: Mapping[str, Any]) -> Basis:
    """An entry of a calibration: typical value, threshold, scores of patients. Raises ValueError, KeyError or TypeError."""
    typical, threshold = float(entry["typical"]), float(entry["threshold"])
    if not threshold > typical or not entry["patients"]:
        raise ValueError("no threshold")
    scores = sorted((float(score) - typical) / (threshold - typical) for score in entry["patients"])
    return Basis(Reference(name, tuple(scores), calibrated=True), typical, threshold)


def outside(support: Mapping[str, Any], levels: Mapping[str, float]) -> tuple[str, ...]:
    """Whole sentences: where the scan's noise is unlike that of every scan the network has learnt from."""
    strange = [
        f"{name} {level:.1f} HU (learnt: {support[name][0]:.1f}–{support[name][1]:.1f})"
        for name, level in levels.items()
        if name in support and not support[name][0] <= level <= support[name][1]
    ]
    return (f"Its noise is unlike that of the scans the network learnt from: {', '.join(strange)}.",) if strange else ()


def explained(
    volume: Volume,
    bundle: Bundle,
    evidence: Evidence | None,
    basis: Basis,
    where: Mask,
    values: Map,
    injected: Map | None,
) -> TamperMap:
    """A network's map, in units of its calibration, with the cues of `forensics.selfreference`, which were never trained.

    Without evidence there are no cues, and another engine must say whether a verdict would be honest.
    """
    deviations = () if evidence is None else evidence.deviations
    limits = () if evidence is None else limits_of(volume, evidence)
    if volume.modality is not Modality.CT:
        limits += ("The network learnt from chest CT only.",)
    limits += outside(bundle.card.inputs.get("support", {}), noise_levels(volume, where))
    units = (values - np.float32(basis.typical)) / np.float32(basis.threshold - basis.typical)
    return TamperMap(
        evidence=np.where(where, units, -np.inf).astype(np.float32),
        stride=STRIDE,
        cues={d.cue.name: d.z for d in deviations},
        cue_evidence={},
        kinds={d.cue.name: d.cue.kind for d in deviations},
        injected=injected,
        reference=basis.reference,
        limits=limits,
    )
