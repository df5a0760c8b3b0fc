"""A CT → the places in its lungs that look like nodules, each with the probability that it is not real.

Blobs are found by differences of Gaussians and curvature, and ranked by how much they look like a nodule. A region model
then says of each whether it was altered: an injected cancer is a false nodule. Never a diagnosis: a real nodule may be
harmless, and what looks like one may be a vessel.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np
import numpy.typing as npt

from jachai.core.errors import ModelError, UsageError
from jachai.core.finding import Nodule
from jachai.core.progress import Progress, silent
from jachai.core.volume import Modality, Volume
from jachai.detectors.bundle import REINSTALL
from jachai.detectors.region import RegionModel, altered, load_region
from jachai.forensics.blobs import BLOB_APART_MM, Blob, blobs_in

JUDGE = "nodules"
"""The region model of this name judges them: the one that ships, or the user's own (`jachai train … --name nodules`)."""
RANKER_FILE = "nodules.ranker.json"
"""In this package. Written by `benchmarks/train_nodule_ranker.py`."""
MOST = 10
"""Listed at most, the most nodule-like first."""
LEAST = 0.5
"""Least likeness of what is listed."""
SLAB_MM, OVERLAP_MM = 60.0, 20.0
"""A scan is searched in slabs: memory stays small, and whatever is smaller than the overlap is whole in one of them."""
LEAST_MM = 8.0
"""A thinner stack, or a single slice, cannot tell a ball from a vessel: nothing is listed, and nothing said."""
SIGNS = ("roundness", "contrast_hu", "room", "diameter_mm")


@dataclass(frozen=True, slots=True)
class Ranker:
    """Logistic regression on SIGNS. mean, spread: of each sign; weights: per spread."""

    mean: tuple[float, ...]
    spread: tuple[float, ...]
    weights: tuple[float, ...]
    intercept: float

    def likeness(self, blobs: Sequence[Blob]) -> npt.NDArray[np.float64]:
        """(n,) 0…1: how much each looks like a nodule, not a vessel."""
        table = np.array([signs_of(blob) for blob in blobs], dtype=np.float64).reshape(-1, len(SIGNS))
        scaled = (table - self.mean) / np.array(self.spread)
        return np.asarray(1 / (1 + np.exp(-(scaled @ np.array(self.weights) + self.intercept))))


def signs_of(blob: Blob) -> tuple[float, ...]:
    """In the order of SIGNS."""
    return blob.signs.roundness, blob.signs.contrast_hu, blob.signs.room, blob.diameter_mm


def load_ranker() -> Ranker:
    """Raises ModelError if its file is missing or damaged."""
    try:
        told = json.loads((resources.files("jachai.detectors") / RANKER_FILE).read_text(encoding="utf-8"))
        mean, spread, weights = (
            tuple(float(told[name][sign]) for sign in SIGNS) for name in ("mean", "spread", "weights")
        )
        return Ranker(mean, spread, weights, float(told["intercept"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError("The ranker of nodules cannot be read.", "Install Jachai again.") from error


def judge() -> RegionModel:
    """The region model that judges nodules. Raises ModelError where it is missing or damaged."""
    try:
        return load_region(JUDGE)
    except UsageError as error:
        raise ModelError(f"The region model {JUDGE!r}, which judges nodules, is missing.", REINSTALL) from error


def examined_nodules(
    volume: Volume, model: RegionModel | None, progress: Progress = silent
) -> tuple[Nodule, ...] | None:
    """At most MOST, most nodule-like first. None where they cannot be looked for: no CT, or too thin a stack."""
    spacing = volume.spacing_mm
    if volume.modality is not Modality.CT or spacing is None or spacing[0] is None:
        return None
    if volume.shape[0] < 3 or volume.shape[0] * spacing[0] < LEAST_MM:
        return None
    ranked = ranked_blobs(volume, load_ranker(), progress)[:MOST]
    said: list[float | None] = [None] * len(ranked)
    if model is not None and ranked:
        progress("judging nodules", 0.9)
        places = [(float(k), float(j), float(i)) for k, j, i in (blob.centre_kji for blob, _ in ranked)]
        said = [float(p) for p in altered(model.classify(volume, places))]
    return tuple(_nodule(volume, blob, like, p) for (blob, like), p in zip(ranked, said))


def ranked_blobs(volume: Volume, ranker: Ranker, progress: Progress = silent) -> list[tuple[Blob, float]]:
    """Every blob of at least LEAST likeness, best first, none twice."""
    found = [blob for slab in _slabs(volume, progress) for blob in slab]
    likeness = ranker.likeness(found)
    chosen: list[tuple[Blob, float]] = []
    spacing = np.array(volume.spacing_mm, dtype=np.float64)
    for n in np.argsort(-likeness, kind="stable"):
        blob = found[int(n)]
        apart = [np.linalg.norm((np.array(blob.centre_kji) - other.centre_kji) * spacing) for other, _ in chosen]
        if likeness[n] >= LEAST and all(one > BLOB_APART_MM for one in apart):
            chosen.append((blob, float(likeness[n])))
    return chosen


def _slabs(volume: Volume, progress: Progress) -> Iterator[list[Blob]]:
    k, j, i = volume.spacing_mm or (None, 1.0, 1.0)
    assert k is not None
    thick = max(3, round(SLAB_MM / k))
    step = max(1, thick - round(OVERLAP_MM / k))
    for first in range(0, max(volume.shape[0] - thick + step, 1), step):
        progress("looking for nodules", first / volume.shape[0])
        yield blobs_in(volume.voxels[first : first + thick], (k, j, i), first, volume.shape[0])


def _nodule(volume: Volume, blob: Blob, likeness: float, probability: float | None) -> Nodule:
    k, j, i = (float(c) for c in blob.centre_kji)
    position = None if volume.geometry is None else volume.geometry.index_to_mm((k, j, i))
    file = volume.provenance.file_of_slice(blob.centre_kji[0])
    return Nodule(
        center_kji=(k, j, i),
        center_mm=None if position is None else (float(position[0]), float(position[1]), float(position[2])),
        diameter_mm=blob.diameter_mm,
        likeness=likeness,
        altered=probability,
        source_file=None if file is None else str(file),
    )
