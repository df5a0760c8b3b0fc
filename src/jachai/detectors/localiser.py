"""Volume → tamper map by the region-proposal localiser: boxes of altered places with kind and mask, painted onto the map.

The network is a bundle (ONNX + card) and looks at one slice, with its neighbours, at a time. Its proposals are freed of doubles,
and each paints its mask times its probability; the map is smoothed in the plane and across slices, as a probability, and put into
units of the card's calibration as a logit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jachai.core.finding import ModelIdentity
from jachai.core.progress import Progress, silent
from jachai.core.volume import Mask, Volume
from jachai.detectors.bundle import Bundle, find_bundle, session
from jachai.detectors.detector import Map, TamperMap
from jachai.detectors.searching import Basis, bases_of, explained
from jachai.forensics.domain import basis_of
from jachai.forensics.selfreference import measure
from jachai.forensics.slicewise import STRIDE, looks, searched, smoothed

ARCHITECTURE = "localiser"
INPUT, OUTPUTS = "channels", ("boxes", "logits", "masks")
"""Names in the graph: (1, 7, j, i) → (1, k, 4) in pixels (j0, i0, j1, i1), (1, k, 3) intact / removed / injected, (1, k, m, m)."""
LEAST_SIDE = 64
"""Pixels: smaller windows are padded with zeros (the graph wants room for its proposals)."""
SAME = 0.4
"""Detections that overlap more are one: the more probable stays."""
FLOOR = 1e-7
"""Probability where nothing was proposed."""
SMOOTH_MM = 2.0
"""Gaussian σ in the plane: masks are smooth already."""

Boxes = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """What the network says of one slice. boxes: (k, 4). altered, injected: (k,) probability that it is altered; and that, if
    so, it was injected. masks: (k, m, m) probability of each bin of the box."""

    boxes: Boxes
    altered: Boxes
    injected: Boxes
    masks: Boxes


Network = Callable[[Map], tuple[Map, Map, Map]]
"""(7, j, i) channels → boxes (k, 4), logits (k, 3), masks (k, m, m)."""


@dataclass(frozen=True, slots=True)
class Localiser:
    """The engine: its bundle, and basis ('slice', 'volume') → calibration."""

    bundle: Bundle
    bases: Mapping[str, Basis]

    @property
    def identity(self) -> ModelIdentity:
        """See `Detector.identity`."""
        return self.bundle.identity

    def examine(self, volume: Volume, progress: Progress = silent) -> TamperMap:
        """See `Detector.examine`."""
        basis = self.bases[basis_of(volume)[1]]
        evidence = measure(volume, lambda stage, fraction: progress(stage, fraction / 2))
        where = searched(volume)
        logits, kinds = search(
            network_of(self.bundle), volume, where, lambda stage, fraction: progress(stage, (1 + fraction) / 2)
        )
        return explained(volume, self.bundle, evidence, basis, where, logits, kinds)


def network_of(bundle: Bundle) -> Network:
    """The bundle's network, through onnxruntime."""
    run = session(bundle)

    def asked(x: Map) -> tuple[Map, Map, Map]:
        boxes, logits, masks = run.run(list(OUTPUTS), {INPUT: x[None]})
        return boxes[0], logits[0], masks[0]

    return asked


def search(network: Network, volume: Volume, where: Mask, progress: Progress = silent) -> tuple[Map, Map]:
    """(logit that a cell was altered; probability that, if so, something was injected), smoothed, both (k, j', i')."""
    altered = np.full(where.shape, FLOOR, dtype=np.float32)
    injected = np.zeros(where.shape, dtype=np.float32)
    for look in looks(volume, where):
        room = [(0, 0), *((0, max(0, LEAST_SIDE - n)) for n in look.x.shape[1:])]
        said = detections(*network(np.pad(look.x, room)))
        window = (look.k, *look.cells)
        paint(said, altered[window], injected[window])
        progress("searching", (look.k + 1) / len(where))
    altered, injected = smoothed(altered, volume, SMOOTH_MM), smoothed(injected, volume, SMOOTH_MM)
    p = np.clip(altered, FLOOR, 1 - FLOOR)
    kinds = np.where(altered > 10 * FLOOR, np.clip(injected / p, 0, 1), 0.5)
    return np.asarray(np.log(p / (1 - p)), np.float32), np.asarray(kinds, np.float32)


def detections(boxes: Map, logits: Map, masks: Map) -> Detections:
    """Of one slice: most probable first, without doubles."""
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    altered = odds[:, 1:].sum(axis=1) / odds.sum(axis=1)
    injected = odds[:, 2] / np.maximum(odds[:, 1:].sum(axis=1), np.float32(1e-12))
    keep = distinct(boxes, altered, SAME)
    return Detections(boxes[keep], altered[keep], injected[keep], masks[keep])


def distinct(boxes: Boxes, scores: Boxes, most: float) -> list[int]:
    """Numbers of the boxes that greedy non-maximum suppression keeps, best first. most: overlap (IoU) that is allowed."""
    keep: list[int] = []
    for number in np.argsort(-scores, kind="stable"):
        if all(overlap(boxes[number], boxes[other]) <= most for other in keep):
            keep.append(int(number))
    return keep


def overlap(first: Boxes, second: Boxes) -> float:
    """Intersection over union of two boxes (j0, i0, j1, i1)."""
    shared = float(np.prod(np.maximum(np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2]), 0)))
    either = sum(float(np.prod(np.maximum(box[2:] - box[:2], 0))) for box in (first, second)) - shared
    return shared / either if either > 0 else 0.0


def paint(said: Detections, altered: Map, injected: Map) -> None:
    """Write probabilities onto cells (j', i') in place: of several detections that cover a cell, the most probable speaks."""
    for box, p, kind, mask in zip(said.boxes, said.altered, said.injected, said.masks):
        places = [_inside(low, high, count) for low, high, count in zip(box[:2], box[2:], altered.shape)]
        if all(cells.stop > cells.start for cells, _ in places):
            (rows, down), (columns, across) = places
            value = mask[_bins(down, mask.shape[0])][:, _bins(across, mask.shape[1])] * p
            here = altered[rows, columns]
            more = value > here
            injected[rows, columns] = np.where(more, value * kind, injected[rows, columns])
            altered[rows, columns] = np.maximum(here, value)


def _inside(low: float, high: float, count: int) -> tuple[slice, Map]:
    """Cells whose middle lies between two edges (pixels), and where in the box each lies, 0 … 1."""
    first, last = (int(np.clip(np.ceil(edge / STRIDE - 0.5), 0, count)) for edge in (low, high))
    middles = (np.arange(first, last, dtype=np.float32) + 0.5) * STRIDE
    return slice(first, last), (middles - low) / max(high - low, 1e-3)


def _bins(share: Map, count: int) -> npt.NDArray[np.intp]:
    return np.clip((share * count).astype(np.intp), 0, count - 1)


def load(name: str | Path) -> Localiser:
    """The engine of a bundle, by name or path. Raises ModelError where it is none, or its calibration is missing."""
    return of_bundle(find_bundle(name))


def of_bundle(bundle: Bundle) -> Localiser:
    """See `load`."""
    return Localiser(bundle, bases_of(bundle, ARCHITECTURE))
