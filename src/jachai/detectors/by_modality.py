"""Volume → the tamper map of the engine that was made for its modality: networks for chest CT, self-reference for the rest."""

from __future__ import annotations

from dataclasses import dataclass, replace

from jachai.core.finding import ModelIdentity
from jachai.core.progress import Progress, silent
from jachai.core.volume import Modality, Volume
from jachai.detectors.detector import Detector, TamperMap


@dataclass(frozen=True, slots=True)
class ByModality:
    """Two engines as one. ct: for CT. other: for MR and pictures."""

    ct: Detector
    other: Detector

    @property
    def identity(self) -> ModelIdentity:
        """That of the engine for CT, where no volume says which of the two spoke."""
        return self.ct.identity

    def examine(self, volume: Volume, progress: Progress = silent) -> TamperMap:
        """See `Detector.examine`; the map says who spoke."""
        chosen = self.ct if volume.modality is Modality.CT else self.other
        return replace(chosen.examine(volume, progress), spoke=chosen.identity)
