"""Volume → tamper map by the dense residual network: the trained search engine for chest CT, explained by the scan's own cues.

The network is a bundle (ONNX + card). It looks at every slice with its neighbours, where lungs are; the map is smoothed in the
plane and across slices and put into units of the card's calibration. What it finds is explained by the cues of
`forensics.selfreference`, which were never trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from jachai.core.finding import ModelIdentity
from jachai.core.progress import Progress, silent
from jachai.core.volume import Mask, Volume
from jachai.detectors.bundle import Bundle, find_bundle, session
from jachai.detectors.detector import Map, TamperMap
from jachai.detectors.occlusion import occluded
from jachai.detectors.searching import Basis, bases_of, explained
from jachai.forensics.domain import basis_of
from jachai.forensics.selfreference import measure
from jachai.forensics.slicewise import STRIDE, looks, searched, smoothed

ARCHITECTURE = "dense"
INPUT, OUTPUT = "channels", "logits"
"""Names in the graph: (1, 7, j, i) → (1, 2, ⌈j/4⌉, ⌈i/4⌉)."""
LOWEST = -20.0
"""Logits below it tell no more."""
VIEWS = ((False, False, False), (False, True, True), (True, False, True), (True, True, False))
"""(rows and columns exchanged, rows turned round, columns turned round): a single slice, which has no neighbours to confirm it, is
looked at in all of these, and the logits are averaged; slices of a stack only as they are."""


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
        network = network_of(self.bundle)
        logits, kinds = search(network, volume, where, lambda stage, share: progress(stage, (1 + share) / 2))
        found = explained(volume, self.bundle, evidence, basis, where, logits, kinds)
        return replace(
            found,
            occluded=lambda index: occluded(lambda x: network(x)[0], volume, where, logits, index),
        )


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
    views = VIEWS if len(where) == 1 else VIEWS[:1]
    for look in looks(volume, where):
        out = averaged(network, look.x, views)
        rows, columns = (min(a, b.stop - b.start) for a, b in zip(out.shape[1:], look.cells))
        top, left = (c.start for c in look.cells)
        place = (slice(top, top + rows), slice(left, left + columns))
        altered[look.k][place] = np.maximum(out[0, :rows, :columns], LOWEST)
        injected[look.k][place] = 1 / (1 + np.exp(-np.clip(out[1, :rows, :columns], -30, 30)))
        progress("searching", (look.k + 1) / len(where))
    return smoothed(altered, volume), smoothed(injected, volume)


def averaged(network: Network, x: Map, views: Sequence[tuple[bool, bool, bool]]) -> Map:
    """(7, j, i) channels → (2, ⌈j/4⌉, ⌈i/4⌉) mean logits over mirrored and turned views."""
    if len(views) == 1:
        return network(x)
    rows_left, columns_left = (-n % STRIDE for n in x.shape[1:])
    x = np.pad(x, ((0, 0), (0, rows_left), (0, columns_left)), mode="edge")  # mirrored, the cells stay where they are
    told = []
    for swapped, rows, columns in views:
        seen = _turned(x.swapaxes(1, 2) if swapped else x, rows, columns)
        out = _turned(network(np.ascontiguousarray(seen)), rows, columns)
        told.append(out.swapaxes(1, 2) if swapped else out)
    return np.asarray(np.mean(told, axis=0), dtype=np.float32)


def _turned(x: Map, rows: bool, columns: bool) -> Map:
    return x[:, :: -1 if rows else 1, :: -1 if columns else 1]


def load(name: str | Path) -> Dense:
    """The engine of a bundle, by name or path. Raises ModelError where it is none, or its calibration is missing."""
    return of_bundle(find_bundle(name))


def of_bundle(bundle: Bundle) -> Dense:
    """See `load`."""
    return Dense(bundle, bases_of(bundle, ARCHITECTURE))
