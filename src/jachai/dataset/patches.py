"""A prepared set → patches on the native grid: tampered places, and untampered ones that match them in where they lie.

Patch 2n shows a tampered place, patch 2n + 1 an untampered one in tissue of the same kind, as far from the pleura and from
vessels, at the same height: the place says nothing about the class. Both are shifted by chance in the same way, so that
the middle of a patch says nothing either. Every patch depends on the seed and its number alone, whoever draws it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
import numpy.typing as npt

from jachai.core.errors import UsageError
from jachai.core.volume import Voxels
from jachai.dataset.manifest import Entry, Label
from jachai.dataset.store import Store, Stored
from jachai.dataset.surroundings import COLUMNS, Table, features_of
from jachai.dataset.voxels import FOOTPRINT_MM

Index = tuple[int, int, int]
Target = npt.NDArray[np.int8]
CHANGED, UNCHANGED, UNSURE = 1, 0, -1
"""Of a target. UNSURE counts for neither class: the rim of a footprint that is not exactly known."""
CLEAR_MM = 30.0
"""Untampered places keep away so far from every labelled one of their scan: the changed footprint of CT-GAN is ± 25 mm."""
CLEAR_SLICES_MM = 25.0
"""…whose slice is no further away than this."""
NEAREST = 8
"""An untampered place is drawn from so many that match best."""
SCALES = {"pleura_mm": 2.0, "vessel_mm": 0.7, "front_back": 0.15, "off_middle": 0.15, "height": 0.2}
"""Differences that count alike in a match; distances weigh most."""
FEATURES = COLUMNS[3:]
FEW = 12
"""With fewer candidates in the same tissue, other tissue is taken."""
OTHER_TISSUE = 3.0
"""What a step to another tissue costs, in units of SCALES."""
POOL = 12
"""`matched_places` draws from so many of the best rows per place wanted."""
APART_MM = 10.0
"""Places that are drawn for one and the same entry lie so far from each other."""
FLAT = 3
"""Up to so many slices, the target is that of the middle one, and slices beyond the ends are mirrored."""


@dataclass(frozen=True, slots=True)
class PatchPlan:
    """shape_kji: (1, j, i) for 2D, (3, j, i) for 2.5D, larger for 3D. shift: largest shift off the place, as a share of
    half the side. pristine_share: of the untampered patches, how many come from intact scans; 0 keeps to the tampered
    scans, so that no scanner or collection stands for a class. matched: False draws untampered places anywhere in the
    body (to measure what matching is worth). clear_mm: see CLEAR_MM; more for labels of whole patches.
    """

    shape_kji: Index = (3, 96, 96)
    shift: float = 0.5
    pristine_share: float = 0.0
    matched: bool = True
    clear_mm: float = CLEAR_MM


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """voxels: float32 (k, j, i), CT in HU. target: int8 (j, i), for 3D (k, j, i). label: 1 if its place was tampered
    with. Nothing else, so that nothing else can be learned."""

    voxels: Voxels
    target: Target
    label: int


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Where a patch comes from: for tables and tests, never for a model. features: see FEATURES."""

    entry: Entry
    kji: Index
    label: int
    features: Table


class Patches:
    """All patches of a set, by number. May be sent to worker processes."""

    def __init__(self, entries: Sequence[Entry], store: Store, plan: PatchPlan = PatchPlan(), seed: int = 0) -> None:
        """The store must be prepared. Raises UsageError if there is nothing tampered, or nothing to compare it with."""
        self.plan, self.seed, self.store = plan, seed, store
        tampered = [entry for entry in entries if entry.label is Label.TAMPERED]
        self._by_patient = _by_patient(tampered)
        self._intact = [entry for entry in entries if entry.label is not Label.TAMPERED]
        self._labelled: dict[str, list[Entry]] = {}
        for entry in tampered:
            self._labelled.setdefault(entry.scan, []).append(entry)
        if not tampered:
            raise UsageError("No entry was tampered with: there is nothing to draw.")
        if not self._intact and (plan.pristine_share > 0 or any(entry.place_kji is None for entry in tampered)):
            raise UsageError("There is no intact image to compare with.", "Add pristine scans to the manifest.")

    def patch(self, number: int) -> Patch:
        """Patch `number`: even ones tampered, odd ones not."""
        place = self.place(number)
        rng = np.random.default_rng([self.seed, number, 1])
        stored = self.store.volume(place.entry)
        window = _window(place.kji, stored.shape, self.plan, rng)
        voxels = _cut(stored.voxels, window).astype(np.float32) * np.float32(stored.scale)
        return Patch(voxels, self._target(place, stored, window), place.label)

    def place(self, number: int) -> Place:
        """Where patch `number` comes from, before its shift."""
        rng = np.random.default_rng([self.seed, number // 2])
        patients = self._by_patient[int(rng.integers(len(self._by_patient)))]
        entry = patients[int(rng.integers(len(patients)))]
        stored = self.store.volume(entry)
        kji = entry.place_kji
        if kji is None:
            kji = _voxel(_anywhere(stored.places, rng))
        wanted = features_of(stored.maps, kji, stored.shape)
        if number % 2 == 0:
            return Place(entry, kji, 1, wanted)
        return self._untampered(entry, wanted, rng)

    def _untampered(self, entry: Entry, wanted: Table, rng: np.random.Generator) -> Place:
        elsewhere = entry.place_kji is None or rng.random() < self.plan.pristine_share
        if elsewhere:
            entry = self._intact[int(rng.integers(len(self._intact)))]
        stored = self.store.volume(entry)
        table = stored.places if elsewhere else self._clear(entry, stored)
        if not len(table):
            raise UsageError(f"{entry.place_in_scan} has no place far enough from what was tampered with.")
        row = _matching(table, wanted, rng) if self.plan.matched else _anywhere(table, rng)
        return Place(entry, _voxel(row), 0, row[3:])

    def _clear(self, entry: Entry, stored: Stored) -> Table:
        return _clear(entry, self._labelled[entry.scan], stored, self.plan.clear_mm)

    def _target(self, place: Place, stored: Stored, window: _Window) -> Target:
        """What of the window was changed."""
        flat = self.plan.shape_kji[0] <= FLAT
        ks = window[0][self.plan.shape_kji[0] // 2 :][:1] if flat else window[0]
        own = (ks, window[1], window[2])
        target: Target = np.zeros([len(axis) for axis in own], dtype=np.int8)
        for entry in self._labelled.get(place.entry.scan, ()):
            if entry.path != place.entry.path:
                continue
            region = self.store.region(entry)
            if region is not None:
                _mark_region(target, own, region.box, region.inside)
            elif entry.place_kji is not None:
                _mark_footprint(target, own, entry, stored.spacing_mm, self.plan.clear_mm)
            else:
                target[:] = UNSURE
        return target[0] if flat else target


_Window = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]
"""The index of each voxel of a patch along k, j and i."""


def _by_patient(entries: Sequence[Entry]) -> list[list[Entry]]:
    """So that a patient with many slices is not drawn more often than others."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.patient, []).append(entry)
    return list(groups.values())


def matched_places(
    entry: Entry,
    scan: Sequence[Entry],
    stored: Stored,
    plan: PatchPlan,
    rng: np.random.Generator,
    count: int,
    like: Table | None = None,
) -> list[Place]:
    """Up to `count` different places of an image that lie like the place of the entry (or as `like` says), away from all
    labelled places of its scan. Fewer where there are none. stored: its voxels are not looked at."""
    if like is None:
        assert entry.place_kji is not None
        like = features_of(stored.maps, entry.place_kji, stored.shape)
    left = _clear(entry, scan, stored, plan.clear_mm)
    if plan.matched and len(left):
        cost = _unlikeness(left, like)
        order = np.argsort(cost, kind="stable")[: POOL * count]
        left = left[order[np.isfinite(cost[order])]]
    found: list[Place] = []
    for row in left[rng.permutation(len(left))]:
        apart = [(row[:3] - np.array(one.kji)) * np.array(stored.spacing_mm) for one in found]
        if all(float(np.linalg.norm(one)) >= APART_MM for one in apart):
            found.append(Place(entry, _voxel(row), 0, row[3:]))
        if len(found) == count:
            break
    return found


def _clear(entry: Entry, scan: Sequence[Entry], stored: Stored, clear_mm: float) -> Table:
    """Places far from everything that was done to this scan, also in its slices that lie in other files."""
    table = stored.places
    keep = np.ones(len(table), dtype=bool)
    for other in scan:
        if other.place_kji is None:
            continue
        apart = (table[:, :3] - np.array(other.place_kji, dtype=np.float32)) * np.array(stored.spacing_mm)
        across = _slices_apart_mm(entry, other)
        if across is not None:
            apart[:, 0] = across
        near = (np.abs(apart[:, 0]) <= CLEAR_SLICES_MM) & (np.hypot(apart[:, 1], apart[:, 2]) < clear_mm)
        keep &= ~near
    return table[keep]


def _slices_apart_mm(entry: Entry, other: Entry) -> float | None:
    """Between two single slices of one scan that lie in files of their own; None if they lie in one volume."""
    if entry.path == other.path or entry.slice is None or other.slice is None:
        return None
    thickness = entry.spacing_mm[0] if entry.spacing_mm else None
    return abs(entry.slice - other.slice) * (thickness or 0.0)


def _anywhere(table: Table, rng: np.random.Generator) -> Table:
    """A row by chance. Raises UsageError for an empty table."""
    if not len(table):
        raise UsageError("No body was found in an image.", "Leave it out of the manifest.")
    return np.asarray(table[int(rng.integers(len(table)))])


def _matching(table: Table, wanted: Table, rng: np.random.Generator) -> Table:
    """A row by chance among those that lie most like `wanted`."""
    cost = _unlikeness(table, wanted)
    best = np.argpartition(cost, NEAREST)[:NEAREST] if len(cost) > NEAREST else np.arange(len(cost))
    return np.asarray(table[best[int(rng.integers(len(best)))]])


def _unlikeness(table: Table, wanted: Table) -> npt.NDArray[np.float32]:
    """Of each row: 0 where it lies just as `wanted`; infinite in other tissue, unless there is too little of the same."""
    same = table[:, 3] == wanted[0]
    few = np.count_nonzero(same) < FEW
    cost = np.asarray(OTHER_TISSUE * np.abs(table[:, 3] - wanted[0]) if few else np.where(same, 0, np.inf), np.float32)
    for n, name in enumerate(FEATURES[1:], 1):
        cost += np.abs(table[:, 3 + n] - wanted[n]) / np.float32(SCALES[name])
    return cost


def _voxel(row: Table) -> Index:
    k, j, i = (int(c) for c in row[:3])
    return k, j, i


def _window(place: Index, shape: Index, plan: PatchPlan, rng: np.random.Generator) -> _Window:
    """The window round the place, shifted by chance, moved so that it lies inside; mirrored where the image is smaller."""
    axes = []
    for axis, (centre, size, n) in enumerate(zip(place, plan.shape_kji, shape)):
        flat = axis == 0 and size <= FLAT
        reach = 0 if flat else int(plan.shift * size / 2)
        start = centre - size // 2 + int(rng.integers(-reach, reach + 1))
        if n >= size and not flat:
            start = min(max(start, 0), n - size)
        axes.append(_mirrored(np.arange(start, start + size), n))
    return axes[0], axes[1], axes[2]


def _mirrored(index: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.int64]:
    """Indices beyond the ends folded back: … 2 1 0 1 2 … n−1 n−2 …"""
    if n == 1:
        return np.zeros_like(index)
    return np.asarray(n - 1 - np.abs(n - 1 - np.abs(index) % (2 * (n - 1))))


def _cut(voxels: npt.NDArray[np.int16], window: _Window) -> npt.NDArray[np.int16]:
    """The voxels of a window; contiguous rows and columns are taken at once, which a mapped file likes."""
    ks, js, is_ = window
    rows = slice(int(js[0]), int(js[-1]) + 1) if np.all(np.diff(js) == 1) else js
    columns = slice(int(is_[0]), int(is_[-1]) + 1) if np.all(np.diff(is_) == 1) else is_
    return np.stack([voxels[k][rows][:, columns] for k in ks])


def _mark_region(
    target: Target, window: _Window, box: Sequence[tuple[int, int]], inside: npt.NDArray[np.bool_]
) -> None:
    """CHANGED where the region is."""
    within = [(axis >= low) & (axis < high) for axis, (low, high) in zip(window, box)]
    if not all(one.any() for one in within):
        return
    at = np.ix_(*[axis[one] - low for axis, one, (low, _) in zip(window, within, box)])
    where = np.ix_(*[np.flatnonzero(one) for one in within])
    target[where] = np.where(inside[at], CHANGED, target[where])


def _mark_footprint(target: Target, window: _Window, entry: Entry, spacing: Sequence[float], clear_mm: float) -> None:
    """CHANGED near the place, UNSURE as far as the footprint may reach."""
    assert entry.place_kji is not None
    axes = [(axis - c) * s for axis, c, s in zip(window, entry.place_kji, spacing)]
    apart = np.sqrt(axes[0][:, None, None] ** 2 + axes[1][None, :, None] ** 2 + axes[2][None, None, :] ** 2)
    radius = max(FOOTPRINT_MM, (entry.diameter_mm or 0.0) / 2)
    target[(apart < max(clear_mm, radius)) & (target != CHANGED)] = UNSURE
    target[apart <= radius] = CHANGED


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """n patches: voxels float32 (n, k, j, i), targets int8 (n, …), labels int64 (n,)."""

    voxels: Voxels
    targets: Target
    labels: npt.NDArray[np.int64]


def batch(patches: Patches, numbers: Sequence[int]) -> Batch:
    """These patches, in this order."""
    drawn = [patches.patch(number) for number in numbers]
    return Batch(
        np.stack([one.voxels for one in drawn]),
        np.stack([one.target for one in drawn]),
        np.array([one.label for one in drawn], dtype=np.int64),
    )


def batches(patches: Patches, numbers: Sequence[int], size: int, workers: int = 0) -> Iterator[Batch]:
    """Batches of `size` in order, the last one smaller; the same whatever the number of worker processes. At most three
    batches per worker are waiting at a time."""
    parts = [numbers[n : n + size] for n in range(0, len(numbers), size)]
    if workers < 1:
        yield from (batch(patches, part) for part in parts)
        return
    with ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_start_worker, initargs=(patches,)
    ) as pool:
        waiting: deque[Future[Batch]] = deque()
        for part in parts:
            waiting.append(pool.submit(_work, part))
            if len(waiting) > 3 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


_patches: Patches | None = None
"""Set once in each worker process by `_start_worker`, never in the user's process."""


def _start_worker(patches: Patches) -> None:
    global _patches
    _patches = patches


def _work(numbers: Sequence[int]) -> Batch:
    assert _patches is not None
    return batch(_patches, numbers)
