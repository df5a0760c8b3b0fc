"""Volume → tamper map by the dense residual network: the trained search engine for chest CT, explained by the scan's own cues.

The network is a bundle (ONNX + card). It looks at every slice with its neighbours, where lungs are; the map is smoothed in the
plane and across slices and put into units of the card's calibration. What it finds is explained by the cues of
`forensics.selfreference`, which were never trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from jachai.core.errors import ModelError
from jachai.core.finding import ModelIdentity
from jachai.core.progress import Progress, silent
from jachai.core.volume import Mask, Modality, Volume
from jachai.detectors.bundle import Bundle, find_bundle, session
from jachai.detectors.detector import Map, Reference, TamperMap
from jachai.forensics.channels import CHANNELS, compressed, noise_place, residuals, scales_of, with_windows
from jachai.forensics.domain import basis_of, limits_of
from jachai.forensics.selfreference import measure
from jachai.forensics.tissue import COARSE, coarse_body, coarse_lung

ARCHITECTURE = "dense"
INPUT, OUTPUT = "channels", "logits"
"""Names in the graph: (1, 7, j, i) → (1, 2, ⌈j/4⌉, ⌈i/4⌉)."""
STRIDE = COARSE
"""Pixels of a cell of the network's output, which is the grid of the tissue masks."""
ROUND_LUNG = 3
"""Coarse cells round the lungs that are searched too: nodules on the pleura."""
ROOM = 6
"""Coarse cells of surroundings that the network is shown beyond what is searched."""
SMOOTH_MM, ACROSS_MM = 3.0, 4.0
"""Gaussian σ of the map in the plane and across slices: an altered cube is 20–40 mm wide."""
DEFAULT_PIXEL_MM = 0.7
LOWEST = -20.0
"""Logits below it tell no more."""


@dataclass(frozen=True, slots=True)
class Basis:
    """Calibration of one basis: the logit at a typical intact patient's most suspicious place, and at the threshold."""

    reference: Reference
    typical: float
    threshold: float


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
        limits = () if evidence is None else limits_of(volume, evidence)
        if volume.modality is not Modality.CT:
            limits += ("The network learnt from chest CT only.",)
        where = searched(volume)
        limits += outside(self.bundle.card.inputs.get("support", {}), noise_levels(volume, where))
        logits, kinds = search(
            network_of(self.bundle), volume, where, lambda stage, share: progress(stage, (1 + share) / 2)
        )
        units = (logits - np.float32(basis.typical)) / np.float32(basis.threshold - basis.typical)
        deviations = () if evidence is None else evidence.deviations
        return TamperMap(
            evidence=np.where(where, units, -np.inf).astype(np.float32),
            stride=STRIDE,
            cues={d.cue.name: d.z for d in deviations},
            cue_evidence={},
            kinds={d.cue.name: d.cue.kind for d in deviations},
            injected=kinds,
            reference=basis.reference,
            limits=limits,
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
    count = len(where)
    gaps = set(volume.geometry.gaps if volume.geometry else ())
    for k in np.flatnonzero(where.any(axis=(1, 2))):
        cells = window(where[k])
        pixels = tuple(slice(c.start * STRIDE, c.stop * STRIDE) for c in cells)
        both = 0 < k < count - 1 and not {k - 1, k} & gaps
        near = [volume.voxels[n][pixels] for n in (k - 1, k + 1)] if both else [None, None]
        out = network(seen(volume.voxels[k][pixels], where[k][cells], near[0], near[1]))
        rows, columns = (min(a, b.stop - b.start) for a, b in zip(out.shape[1:], cells))
        place = (slice(cells[0].start, cells[0].start + rows), slice(cells[1].start, cells[1].start + columns))
        altered[k][place] = np.maximum(out[0, :rows, :columns], LOWEST)
        injected[k][place] = 1 / (1 + np.exp(-np.clip(out[1, :rows, :columns], -30, 30)))
        progress("searching", (int(k) + 1) / count)
    return smoothed(altered, volume), smoothed(injected, volume)


RESIDUALS = ("corner", "diagonal", "middle")
LEVELS_OF = 12
"""Slices in which the noise level is measured."""


def noise_levels(volume: Volume, where: Mask) -> dict[str, float]:
    """Residual → the scan's own noise in it, HU: the median over up to LEVELS_OF slices that show lung; empty without."""
    ks = np.flatnonzero(where.any(axis=(1, 2)))
    rows = []
    for k in ks[:: max(1, len(ks) // LEVELS_OF)]:
        slice_ = volume.voxels[k]
        inside = where[k].repeat(STRIDE, 0).repeat(STRIDE, 1)[: slice_.shape[0], : slice_.shape[1]]
        place = noise_place(slice_) & inside
        if place.any():
            rows.append(scales_of(residuals(slice_), place)[:3])
    return dict(zip(RESIDUALS, (float(level) for level in np.median(rows, axis=0)))) if rows else {}


def outside(support: Mapping[str, Any], levels: Mapping[str, float]) -> tuple[str, ...]:
    """Whole sentences: where the scan's noise is unlike that of every scan the network has learnt from."""
    strange = [
        f"{name} {level:.1f} HU (learnt: {support[name][0]:.1f}–{support[name][1]:.1f})"
        for name, level in levels.items()
        if name in support and not support[name][0] <= level <= support[name][1]
    ]
    return (f"Its noise is unlike that of the scans the network learnt from: {', '.join(strange)}.",) if strange else ()


def searched(volume: Volume) -> Mask:
    """(k, j', i') coarse cells that are searched: lungs and a rim; without lungs, the body (the verdict is inconclusive)."""
    body = coarse_body(volume)
    lung = coarse_lung(volume, body)
    if not lung.any():
        return body if volume.modality is Modality.CT else np.zeros_like(body)
    flat = np.zeros((3, 3, 3), dtype=bool)
    flat[1] = ndimage.generate_binary_structure(2, 1)
    return np.asarray(ndimage.binary_dilation(lung, flat, iterations=ROUND_LUNG) & body)


def window(mask: Mask) -> tuple[slice, slice]:
    """The cells (rows, columns) that hold the mask and ROOM round it."""
    bounds = []
    for axis in (1, 0):
        filled = np.flatnonzero(mask.any(axis=axis))
        bounds.append(slice(max(0, int(filled[0]) - ROOM), min(mask.shape[1 - axis], int(filled[-1]) + 1 + ROOM)))
    return bounds[0], bounds[1]


def seen(slice_: Map, cells: Mask, before: Map | None, after: Map | None) -> Map:
    """(7, j, i) channels; the scan's own noise is measured in the lung among the searched cells."""
    bank = residuals(slice_, before, after)
    inside = cells.repeat(STRIDE, 0).repeat(STRIDE, 1)[: slice_.shape[0], : slice_.shape[1]]
    place = noise_place(slice_)
    scales = scales_of(bank, place & inside if (place & inside).any() else place)
    return with_windows(slice_, compressed(bank, scales), before is not None and after is not None)


def smoothed(values: Map, volume: Volume) -> Map:
    """Gaussian mean in the plane and, where slices are near each other, across them."""
    pixel = volume.geometry.pixel_mm if volume.geometry else (DEFAULT_PIXEL_MM, DEFAULT_PIXEL_MM)
    step = volume.geometry.slice_step_mm if volume.geometry else None
    across = ACROSS_MM / step if volume.shape[0] > 1 and step else 0.0
    sigmas = (across, SMOOTH_MM / (pixel[0] * STRIDE), SMOOTH_MM / (pixel[1] * STRIDE))
    return np.asarray(ndimage.gaussian_filter(values, sigmas, truncate=3.0), dtype=np.float32)


def load(name: str | Path) -> Dense:
    """The engine of a bundle, by name or path. Raises ModelError where it is none, or its calibration is missing."""
    return of_bundle(find_bundle(name))


def of_bundle(bundle: Bundle) -> Dense:
    """See `load`."""
    card = bundle.card
    if card.role != "search" or card.architecture != ARCHITECTURE or card.inputs.get("channels") != list(CHANNELS):
        raise ModelError(f"'{card.name}' is no dense search model of this version.", "Train or import it again.")
    try:
        bases = {name: _basis(name, card.calibration[name]) for name in ("slice", "volume")}
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"The calibration of '{card.name}' is missing or damaged.", "Train it again.") from error
    return Dense(bundle, bases)


def _basis(name: str, entry: Mapping[str, Any]) -> Basis:
    typical, threshold = float(entry["typical"]), float(entry["threshold"])
    scores = sorted((float(score) - typical) / (threshold - typical) for score in entry["patients"])
    if not threshold > typical or not scores:
        raise ValueError("no threshold")
    return Basis(Reference(name, tuple(scores), calibrated=True), typical, threshold)
