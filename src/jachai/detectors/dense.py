"""Volume → tamper map by the dense residual network: the trained search engine for chest CT, explained by the scan's own cues.

The network is a bundle (ONNX + card). It looks at every slice with its neighbours, where lungs are; the map is smoothed in the
plane and across slices and put into units of the card's calibration. What it finds is explained by the cues of
`forensics.selfreference`, which were never trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jachai.core.finding import ModelIdentity
from jachai.core.progress import Progress, silent
from jachai.core.volume import Mask, Volume
from jachai.detectors.bundle import Bundle, find_bundle, session
from jachai.detectors.detector import Map, TamperMap
from jachai.detectors.searching import Basis, bases_of, explained
from jachai.forensics.domain import basis_of
from jachai.forensics.selfreference import measure
from jachai.forensics.slicewise import looks, searched, smoothed

ARCHITECTURE = "dense"
INPUT, OUTPUT = "channels", "logits"
"""Names in the graph: (1, 7, j, i) → (1, 2, ⌈j/4⌉, ⌈i/4⌉)."""
LOWEST = -20.0
"""Logits below it tell no more."""


@dataclass(frozen=True, slots=True)
class Dense:
    """The engine: its bundle, and basis ('slice', 'volume') → calibration. explain: measure the cues too, which takes as long
    as the network; without, another engine must say whether a verdict would be honest."""

    bundle: Bundle
    bases: Mapping[str, Basis]
    explain: bool = True

    @property
    def identity(self) -> ModelIdentity:
        """See `Detector.identity`."""
        return self.bundle.identity

    def examine(self, volume: Volume, progress: Progress = silent) -> TamperMap:
        """See `Detector.examine`."""
        basis = self.bases[basis_of(volume)[1]]
        evidence = measure(volume, lambda stage, share: progress(stage, share / 2)) if self.explain else None
        where = searched(volume)
        logits, kinds = search(
            network_of(self.bundle), volume, where, lambda stage, share: progress(stage, (1 + share) / 2)
        )
        return explained(volume, self.bundle, evidence, basis, where, logits, kinds)


Network = Callable[[Map], Map]
"""(7, j, i) channels → (2, ⌈j/4⌉, ⌈i/4⌉) logits."""


def network_of(bundle: Bundle) -> Network:
    """The bundle's network, through onnxruntime."""
    run = session(bundle)
    return lambda x: np.asarray(run.run([OUTPUT], {INPUT: x[None]})[0][0])


def search(network: Network, volume: Volume, where: Mask, progress: Progress = silent) -> tuple[Map, Map]:
    """(logit that a cell was altered; probability that, if so, something was injected), smoothed, both (k, j', i')."""
    altered = np.full(where.shape, LOWEST, dtype=np.float32)
    injected = np.full(where.shape, 0.5, dtype=np.float32)
    for look in looks(volume, where):
        out = network(look.x)
        rows, columns = (min(a, b.stop - b.start) for a, b in zip(out.shape[1:], look.cells))
        top, left = (c.start for c in look.cells)
        place = (slice(top, top + rows), slice(left, left + columns))
        altered[look.k][place] = np.maximum(out[0, :rows, :columns], LOWEST)
        injected[look.k][place] = 1 / (1 + np.exp(-np.clip(out[1, :rows, :columns], -30, 30)))
        progress("searching", (look.k + 1) / len(where))
    return smoothed(altered, volume), smoothed(injected, volume)


def load(name: str | Path) -> Dense:
    """The engine of a bundle, by name or path. Raises ModelError where it is none, or its calibration is missing."""
    return of_bundle(find_bundle(name))


def of_bundle(bundle: Bundle) -> Dense:
    """See `load`."""
    return Dense(bundle, bases_of(bundle, ARCHITECTURE))
