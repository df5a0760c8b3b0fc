"""Volume → the tamper map of two engines as one: at every place the stronger evidence of the two, each by its own threshold.

A trained network knows the kinds of tampering it was shown; the scan's own statistics know none, and miss none for being new.
An alarm of either is an alarm, so false alarms add up: the reference counts both engines' intact patients against a scan.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np

from jachai.core.finding import Kind, ModelIdentity
from jachai.core.progress import Progress, silent
from jachai.core.volume import Volume
from jachai.detectors.detector import Detector, Map, Occluder, Reference, TamperMap

EVEN = np.float32(0.5)


@dataclass(frozen=True, slots=True)
class Either:
    """network: predicts kinds, is not asked for cues. statistics: explains every finding by its cues. Both maps must lie on
    one grid."""

    name: str
    network: Detector
    statistics: Detector

    @property
    def identity(self) -> ModelIdentity:
        """A digest over both; the version is the network's."""
        one, two = self.network.identity, self.statistics.identity
        digest = hashlib.sha256(f"{one.sha256} {two.sha256}".encode()).hexdigest()
        return ModelIdentity(self.name, one.version, digest)

    def examine(self, volume: Volume, progress: Progress = silent) -> TamperMap:
        """See `Detector.examine`."""
        told = self.statistics.examine(volume, lambda stage, share: progress(stage, share / 2))
        found = self.network.examine(volume, lambda stage, share: progress(stage, (1 + share) / 2))
        if found.stride != told.stride:
            raise ValueError("the maps of the two engines lie on different grids")
        stronger = found.evidence >= told.evidence
        network_kind = np.full_like(found.evidence, EVEN) if found.injected is None else found.injected
        return replace(
            told,
            evidence=np.maximum(found.evidence, told.evidence),
            injected=np.where(stronger, network_kind, kind_by_cues(told)).astype(np.float32),
            reference=together(found.reference, told.reference),
            occluded=_by_network(found),
            limits=tuple(dict.fromkeys((*told.limits, *found.limits))),
        )


def _by_network(found: TamperMap) -> Occluder | None:
    """Only where the network itself would call a place altered does anything rest on it."""
    told = found.occluded
    return told and (lambda index: told(index) if found.evidence[index] > 1 else ())


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
