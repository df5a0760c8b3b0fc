"""Volume → the tamper map of two engines as one: at every place the stronger evidence of the two, each by its own threshold.

A trained network knows the kinds of tampering it was shown; the scan's own statistics know none, and miss none for being new.
An alarm of either is an alarm, so false alarms add up: the reference counts both engines' intact patients against a scan.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np

from jachai.core.finding import ModelIdentity
from jachai.core.progress import Progress, silent
from jachai.core.volume import Volume
from jachai.detectors.detector import Detector, Occluder, TamperMap, kind_by_cues, kind_of, together


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
        return replace(
            told,
            evidence=np.maximum(found.evidence, told.evidence),
            injected=np.where(stronger, kind_of(found), kind_by_cues(told)).astype(np.float32),
            reference=together(found.reference, told.reference),
            occluded=_by_network(found),
            limits=tuple(dict.fromkeys((*told.limits, *found.limits))),
        )


def _by_network(found: TamperMap) -> Occluder | None:
    """Only where the network itself would call a place altered does anything rest on it."""
    told = found.occluded
    return told and (lambda index: told(index) if found.evidence[index] > 1 else ())
