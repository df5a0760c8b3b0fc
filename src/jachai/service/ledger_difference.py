"""A comparison + the original files → the exact voxels that changed, the largest |ΔHU|, and a picture of each place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from jachai.core.errors import Unreadable, UsageError
from jachai.core.volume import Voxels
from jachai.ledger.answer import Region, SeriesAnswer
from jachai.ledger.compare import Comparison, Slices
from jachai.ledger.matching import Pair
from jachai.ledger.reading import units_of
from jachai.report.atomic import replacing
from jachai.report.difference import difference_png

MAX_DIFFERENCES = 6
"""Places with a picture."""


@dataclass(frozen=True, slots=True, eq=False)
class Difference:
    """One slice, before and after, (rows, columns) in HU or the units of MR. box_ji: the place it shows; largest: |Δ|."""

    k: int
    box_ji: tuple[tuple[int, int], tuple[int, int]]
    largest: float
    before: Voxels
    after: Voxels


@dataclass(frozen=True, slots=True, eq=False)
class Refined:
    """An answer whose regions are exact where the originals were there."""

    answer: SeriesAnswer
    differences: tuple[Difference, ...] = ()


def refined(comparison: Comparison, originals: Mapping[bytes, Path]) -> Refined:
    """originals: F2 → file with those pixels. Where one is missing, the region stays as the blocks tell it."""
    if comparison.matching is None:
        return Refined(comparison.answer)
    slices = Slices(comparison.matching.recorded)
    pairs = {k: (pair, n) for pair in comparison.changed_pairs() for n, k in enumerate(slices.of(pair[0]))}
    before_after = _BeforeAfter(originals)
    regions: list[Region] = []
    differences: list[Difference] = []
    for region in comparison.answer.regions:
        exact = _exact(region, pairs, before_after, slices)
        regions.append(region if exact is None else exact[0])
        if exact is not None and len(differences) < MAX_DIFFERENCES:
            differences.append(exact[1])
    answer = replace(comparison.answer, regions=tuple(regions))
    return Refined(answer, tuple(differences)) if regions else _everywhere(answer, comparison, before_after)


def _everywhere(answer: SeriesAnswer, comparison: Comparison, frames: _BeforeAfter) -> Refined:
    """Where values changed everywhere (compression, rescale): the middle slice of those that were compared."""
    assert comparison.matching is not None
    if answer.bound is None and not answer.geometry:
        return Refined(answer)
    slices = Slices(comparison.matching.recorded)
    pairs = sorted(comparison.matching.pairs, key=lambda pair: slices.of(pair[0])[0])
    middle = pairs[len(pairs) // 2]
    both = frames.of(middle)
    if both is None:
        return Refined(answer)
    before, after = both[0][0], both[1][0]
    largest = float(np.abs(after.astype(np.float64) - before).max())
    if not largest:
        return Refined(answer)
    k = slices.of(middle[0])[0]
    note = f"In slice {k + 1}, the middle one, the largest difference of a voxel is {largest:g}."
    shown = Difference(k, ((0, before.shape[0]), (0, before.shape[1])), largest, before, after)
    return Refined(replace(answer, notes=(*answer.notes, note)), (shown,))


class _BeforeAfter:
    """Decoded frames of a pair; the last pair is kept, for regions overlap."""

    def __init__(self, originals: Mapping[bytes, Path]) -> None:
        self._originals = originals
        self._frames: dict[int, tuple[Voxels, Voxels] | None] = {}

    def of(self, pair: Pair) -> tuple[Voxels, Voxels] | None:
        """Before and after, (frames, rows, columns); None where there is no original or the shapes differ."""
        if id(pair) not in self._frames:
            self._frames[id(pair)] = self._read(pair)
        return self._frames[id(pair)]

    def _read(self, pair: Pair) -> tuple[Voxels, Voxels] | None:
        try:
            original = self._originals[pair[0].fingerprint.f2]
            before, after = units_of(original), units_of(pair[1].source.path)
        except (KeyError, Unreadable):
            return None
        return (before, after) if before.shape == after.shape else None


def _exact(
    region: Region, pairs: Mapping[int, tuple[Pair, int]], frames: _BeforeAfter, slices: Slices
) -> tuple[Region, Difference] | None:
    """The region drawn tight round the voxels that changed in it, and its slice with the largest change."""
    (k0, k1), (j0, j1), (i0, i1) = region.box_kji
    edges: list[tuple[int, int, int, int, int]] = []
    largest, shown = -1.0, None
    for k in range(k0, k1):
        if k not in pairs:
            continue
        pair, n = pairs[k]
        both = frames.of(pair)
        if both is None:
            return None
        change = np.abs(both[1][n, j0:j1, i0:i1].astype(np.float64) - both[0][n, j0:j1, i0:i1])
        js, is_ = np.nonzero(change)
        if len(js):
            edges.append((k, j0 + js.min(), j0 + js.max() + 1, i0 + is_.min(), i0 + is_.max() + 1))
            if change.max() > largest:
                largest, shown = float(change.max()), (k, both[0][n], both[1][n])
    if shown is None:
        return None
    table = np.array(edges)
    box = (
        (int(table[:, 0].min()), int(table[:, 0].max()) + 1),
        (int(table[:, 1].min()), int(table[:, 2].max())),
        (int(table[:, 3].min()), int(table[:, 4].max())),
    )
    tight = Region(box, slices.box_mm(box), region.blocks, True, largest)
    return tight, Difference(shown[0], (box[1], box[2]), largest, shown[1], shown[2])


def write_pictures(differences: Sequence[Difference], folder: Path) -> list[Path]:
    """One PNG each: before, after, and the difference. Raises UsageError where they cannot be written."""
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, one in enumerate(differences, 1):
            path = folder / f"difference-{number}-slice-{one.k + 1}.png"
            with replacing(path) as part:
                part.write_bytes(picture(one))
            written.append(path)
    except OSError as error:
        raise UsageError(f"Cannot write into {str(folder)!r}: {error.strerror}.") from error
    return written


def picture(difference: Difference) -> bytes:
    """A PNG: the slice before, after, and the change, with the place marked."""
    return difference_png(difference.before, difference.after, difference.box_ji)
