"""Entries of manifests → what a search network learns from: hosts for attacks, labelled slices, and intact places.

Intact series are hosts; tampered entries (really tampered ones, or those of `jachai simulate`) give labelled slices. The far
regions of a tampered slice count as intact: without them the network would learn which collection is the tampered one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from jachai.core.errors import JachaiError
from jachai.core.finding import Kind
from jachai.core.progress import Progress, silent
from jachai.core.volume import Modality, Provenance, Volume
from jachai.dataset.manifest import Entry, Label
from jachai.dataset.voxels import pixel_mm, volume_of
from jachai.forensics.slicewise import searched
from jachai.forensics.tissue import COARSE
from jachai.tamper.attack import Effect
from jachai.training.lesions import with_lesions
from jachai.training.search_data import (
    ALTERED,
    INTACT,
    UNSURE,
    Origin,
    Samples,
    fitted,
    neighbours,
    stored,
    window,
)
from jachai.training.simulation import Series, noisier

SURE_MM = {Effect.REMOVED: 13.0, Effect.INJECTED: 7.0, Effect.ALTERED: 10.0}
"""Where only a place is known: surely altered within this. An injection changes the nodule and its rim, a removal the lung."""
CLEAR_MM = 28.0
"""Up to here nothing is said; beyond, it is intact (footprint of CT-GAN: ± 25 mm)."""
CLEAR_SLICES_MM = 25.0
"""Labels of other slices of the same scan count where the slice is no further away."""
FAR_MM = 40.0
"""Intact places of a tampered slice keep away so far from every label."""
LEAST_MM = 12.0
"""Thinner series are no hosts."""
JITTER, COPIES = 14, 10
"""Pixels a sample is moved off its label, and samples of each label."""
SLICES, EACH, FAR_EACH = 60, 4, 10
"""Slices looked at in an intact series, intact places of each, intact places of a tampered slice."""
FEW_CELLS = 30
LESIONS_EACH, WITHIN = 120, 0.3
"""Samples of the real lesions of a patient; slices so far from a lesion's middle, in diameters, still show it."""
DRAWN_EACH, DRAWN_SLICES = 20, 2
"""Lesions drawn into each variant of an intact series, and samples of each."""
DRAWN_NOISIER = (False, True, True)
"""The variants: as it is, and twice with more noise over all of it (`training.simulation.noisier`)."""
EFFECT_OF: dict[Kind, Effect] = {
    Kind.REMOVED: Effect.REMOVED,
    Kind.INJECTED: Effect.INJECTED,
    Kind.ALTERED: Effect.ALTERED,
}


@dataclass(frozen=True, slots=True)
class Mark:
    """A labelled place of a slice. within_mm: surely altered (0: known from another slice only)."""

    row: float
    column: float
    effect: Effect
    within_mm: float


@dataclass(frozen=True, slots=True, eq=False)
class LabelledSlice:
    """A slice of a tampered scan, with its neighbours (itself, where they are not known)."""

    patient: str
    host: str
    slices: npt.NDArray[np.float32]
    neighbours: bool
    pixel_mm: tuple[float, float]
    marks: tuple[Mark, ...]
    cells: npt.NDArray[np.bool_]

    def alone(self) -> Volume:
        """The slice as a volume, for measurements."""
        return Volume(self.slices[1:2], Modality.CT, None, Provenance(self.host, "sample"))

    def target(self) -> npt.NDArray[np.int8]:
        """(j, i) ALTERED within the marks, UNSURE round them, INTACT beyond CLEAR_MM."""
        target = np.full(self.slices.shape[1:], INTACT, np.int8)
        away = [(mark, self.away_mm(mark)) for mark in self.marks]
        for _, distance in away:
            target[distance < CLEAR_MM] = UNSURE
        for mark, distance in away:
            target[distance < mark.within_mm] = ALTERED
        return target

    def away_mm(self, mark: Mark) -> npt.NDArray[np.float32]:
        """(j, i) distance from a mark in the plane."""
        j, i = np.indices(self.slices.shape[1:], dtype=np.float32)
        return np.asarray(np.hypot((j - mark.row) * self.pixel_mm[0], (i - mark.column) * self.pixel_mm[1]))


def hosts_of(entries: Iterable[Entry]) -> list[Series]:
    """Intact CT series that attacks can be made on, in the order of the entries."""
    seen: set[str] = set()
    out = []
    for entry in entries:
        if entry.label is Label.TAMPERED or entry.slice is not None or entry.path in seen:
            continue
        if entry.modality in (None, "CT"):
            seen.add(entry.path)
            out.append(Series(entry.patient, entry.path.rstrip("/").rsplit("/", 1)[-1], partial(volume_of, entry)))
    return out


def thick_enough(volume: Volume) -> bool:
    """A CT of several slices in which a nodule has room."""
    return volume.modality is Modality.CT and volume.shape[0] > 2 and volume.shape[0] * pixel_mm(volume)[0] >= LEAST_MM


def labelled_of(entries: Sequence[Entry]) -> Iterator[LabelledSlice]:
    """A slice for every labelled place of a tampered scan; images that cannot be read are passed over."""
    tampered = [
        e for e in entries if e.label is Label.TAMPERED and e.place_kji and e.kind and e.modality in (None, "CT")
    ]
    by_path: dict[str, list[Entry]] = defaultdict(list)
    by_scan: dict[str, list[Entry]] = defaultdict(list)
    for entry in tampered:
        by_path[entry.path].append(entry)
        by_scan[entry.scan].append(entry)
    for here in by_path.values():
        try:
            volume = volume_of(here[0])
        except JachaiError:
            continue
        yield from _slices_of(volume, here, by_scan[here[0].scan])


def _slices_of(volume: Volume, here: list[Entry], scan: list[Entry]) -> Iterator[LabelledSlice]:
    step, *pixel = pixel_mm(volume)
    for k in sorted({_place(entry)[0] for entry in here}):
        ks = neighbours(k, volume.shape[0])
        marks = [_mark(entry, True) for entry in here if _place(entry)[0] == k]
        others = [e for e in here if 0 < abs(_place(e)[0] - k) * step <= CLEAR_SLICES_MM]
        number = here[0].slice
        if number is not None:  # single slices of one scan, each in a file of its own
            others += [e for e in scan if e.slice is not None and 0 < abs(e.slice - number) <= CLEAR_SLICES_MM]
        yield LabelledSlice(
            patient=here[0].patient,
            host=here[0].scan,
            slices=volume.voxels[ks],
            neighbours=volume.shape[0] > 2,
            pixel_mm=(pixel[0], pixel[1]),
            marks=(*marks, *(_mark(entry, False) for entry in others)),
            cells=searched(single_slice(volume, k))[0],
        )


def _place(entry: Entry) -> tuple[int, int, int]:
    assert entry.place_kji is not None
    return entry.place_kji


def _mark(entry: Entry, sure: bool) -> Mark:
    assert entry.kind is not None
    effect = EFFECT_OF[entry.kind]
    _, j, i = _place(entry)
    return Mark(float(j), float(i), effect, SURE_MM[effect] if sure else 0.0)


def altered_samples(labelled: Iterable[LabelledSlice], seed: int, copies: int = COPIES) -> Samples:
    """`copies` samples round every sure mark, moved by up to JITTER pixels."""
    rng = np.random.default_rng(seed)
    cuts = []
    for item in labelled:
        target = item.target()
        for mark in item.marks:
            for _ in range(copies if mark.within_mm else 0):
                j, i = (int(n) for n in rng.integers(-JITTER, JITTER, 2, endpoint=True))
                origin = _origin(item, "real", mark.effect)
                cuts.append(_cut(item.slices, target, round(mark.row) + j, round(mark.column) + i, origin))
    return _samples(cuts)


def far_samples(labelled: Iterable[LabelledSlice], seed: int, each: int = FAR_EACH) -> Samples:
    """Intact places of tampered slices, far from every label."""
    rng = np.random.default_rng(seed)
    cuts = []
    for item in labelled:
        target = item.target()
        near = np.zeros_like(target, dtype=bool)
        for mark in item.marks:
            near |= item.away_mm(mark) < FAR_MM
        for j, i in _places(item.cells, rng, each, near):
            cuts.append(_cut(item.slices, target, j, i, _origin(item, "intact", Effect.NONE)))
    return _samples(cuts)


def lesion_samples(entries: Sequence[Entry], seed: int, each: int = LESIONS_EACH) -> Samples:
    """Real nodules and masses of intact scans, in all their slices, as many of each patient: they must not be taken for injected ones."""
    rng = np.random.default_rng(seed)
    by_patient: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.label is not Label.TAMPERED and entry.place_kji is not None and entry.modality in (None, "CT"):
            by_patient[entry.patient].append(entry)
    cuts = []
    for here in by_patient.values():
        volumes = {entry.path: entry for entry in here}
        for path, first in volumes.items():
            volume = volume_of(first)
            mine = [entry for entry in here if entry.path == path]
            for n in range(-(-each // len(volumes))):
                entry = mine[n % len(mine)]
                cuts.append(_lesion(volume, _place(entry), entry.diameter_mm or 0.0, entry.patient, entry.scan, rng))
    return _samples(cuts)


def drawn_lesion_samples(series: Sequence[Series], seed: int, each: int = DRAWN_EACH) -> Samples:
    """Drawn nodules and masses that were there when the scan was taken (`training.lesions`), in variants of intact series; neither were
    they injected."""
    cuts = []
    for number, one in enumerate(series):
        volume = one.read()
        for variant, more_noise in enumerate(DRAWN_NOISIER):
            rng = np.random.default_rng((seed, number, variant))
            scan, lesions = with_lesions(volume, each, rng)
            scan = noisier(scan, rng) if more_noise and lesions else scan
            for centre, diameter in lesions:
                for _ in range(DRAWN_SLICES):
                    cuts.append(_lesion(scan, centre, diameter, one.patient, one.name, rng))
    return _samples(cuts)


def _lesion(
    volume: Volume, centre: tuple[int, int, int], diameter_mm: float, patient: str, host: str, rng: np.random.Generator
) -> tuple[Any, Any, Origin]:
    """A cut through a lesion, INTACT."""
    step, pixel, _ = pixel_mm(volume)
    reach = int(WITHIN * diameter_mm / step)
    k = min(max(0, centre[0] + int(rng.integers(-reach, reach, endpoint=True))), volume.shape[0] - 1)
    j, i = (int(n) for n in rng.integers(-JITTER, JITTER, 2, endpoint=True))
    slices = volume.voxels[neighbours(k, volume.shape[0])]
    origin = Origin(patient, host, "intact", "none", "none", 0 < k < volume.shape[0] - 1, pixel)
    intact = np.full(slices.shape[1:], INTACT, np.int8)
    return _cut(slices, intact, centre[1] + j, centre[2] + i, origin)


def hard_samples(
    series: Sequence[Series], suspicious: Callable[[Volume], Sequence[tuple[int, int]]], every: int
) -> Samples:
    """Places of intact series that a half-trained network takes for altered: (row, column) by `suspicious`, asked of every
    `every`-th slice alone."""
    cuts = []
    for one in series:
        volume = one.read()
        for k in range(0, volume.shape[0], every):
            slices = volume.voxels[neighbours(k, volume.shape[0])]
            inner = 0 < k < volume.shape[0] - 1
            origin = Origin(one.patient, one.name, "intact", "none", "none", inner, pixel_mm(volume)[1])
            for j, i in suspicious(single_slice(volume, k)):
                cuts.append(_cut(slices, np.full(slices.shape[1:], INTACT, np.int8), j, i, origin))
    return _samples(cuts)


def single_slice(volume: Volume, k: int) -> Volume:
    """Slice k alone, where it lies."""
    return slab(volume, k, k + 1)


def slab(volume: Volume, low: int, high: int) -> Volume:
    """Slices low to high (exclusive), where they lie."""
    rows, columns = volume.shape[1:]
    geometry = None if volume.geometry is None else volume.geometry.cropped(((low, high), (0, rows), (0, columns)))
    return Volume(volume.voxels[low:high], volume.modality, geometry, volume.provenance)


def intact_samples(
    series: Sequence[Series], seed: int, progress: Progress = silent, wanted: Callable[[Volume], bool] = lambda _: True
) -> Samples:
    """Places in the lungs of intact series: EACH of up to SLICES slices."""
    rng = np.random.default_rng(seed)
    cuts = []
    for number, one in enumerate(series):
        volume = one.read()
        if wanted(volume):
            for k in range(0, volume.shape[0], max(1, volume.shape[0] // SLICES)):
                cells = searched(single_slice(volume, k))[0]
                if cells.sum() < FEW_CELLS:
                    continue
                slices = volume.voxels[neighbours(k, volume.shape[0])]
                origin = Origin(
                    one.patient, one.name, "intact", "none", "none", 0 < k < volume.shape[0] - 1, pixel_mm(volume)[1]
                )
                for j, i in _places(cells, rng, EACH):
                    cuts.append(_cut(slices, np.full(slices.shape[1:], INTACT, np.int8), j, i, origin))
        progress("collecting intact places", (number + 1) / len(series))
    return _samples(cuts)


def _origin(item: LabelledSlice, attack: str, effect: Effect) -> Origin:
    return Origin(item.patient, item.host, attack, "real", effect.value, item.neighbours, item.pixel_mm[0])


def _places(
    cells: npt.NDArray[np.bool_],
    rng: np.random.Generator,
    count: int,
    without: npt.NDArray[np.bool_] | None = None,
) -> Iterator[tuple[int, int]]:
    found = np.argwhere(cells) * COARSE
    if without is not None:
        found = found[~without[tuple(np.minimum(found, np.array(without.shape) - 1).T)]]
    for j, i in rng.permutation(found)[:count]:
        yield int(j), int(i)


def _cut(
    slices: npt.NDArray[np.float32], target: npt.NDArray[np.int8], j: int, i: int, origin: Origin
) -> tuple[Any, Any, Origin]:
    rows, columns = (window(c, n) for c, n in zip((j, i), target.shape))
    return stored(slices[:, rows, columns]), fitted(target[rows, columns]), origin


def _samples(cuts: list[tuple[Any, Any, Origin]]) -> Samples:
    if not cuts:
        return Samples.joined(())
    slices, targets, origins = zip(*cuts)
    return Samples(np.stack(slices), np.stack(targets), tuple(origins))
