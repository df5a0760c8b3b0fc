"""A series that was met + the ledger's records → its SeriesAnswer: the same, or changed, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from pydicom.datadict import keyword_for_tag
from scipy import ndimage

from jachai.core.geometry import FloatArray
from jachai.core.volume import Box
from jachai.ledger.answer import Answer, Bound, Region, SeriesAnswer
from jachai.ledger.blocks import SIDE, grid
from jachai.ledger.fingerprint import Fingerprint, FramePlace
from jachai.ledger.matching import Matching, Pair, match
from jachai.ledger.reading import Met
from jachai.ledger.records import Recorded, Records

WIDE_SHARE = 0.5
"""Share of the blocks with content that lossy compression changes at least."""
WIDE_BLOCKS = 32
"""With fewer changed blocks nothing is taken for lossy compression: small pictures, single voxels."""
OUTLIER = 10.0
"""A block that changed by so many times the median change of its slice was changed by more than compression."""
FLOOR_MEAN, FLOOR_DEVIATION = 0.01, 0.05
"""Changes below this share of the range of the slice's block means are never outliers (1 % of 1,200 HU: 12 HU)."""
REPLACED_SHARE = 0.25
"""With more outliers the whole slice is another picture."""
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """An answer, and what was compared with what (None where nothing was)."""

    answer: SeriesAnswer
    matching: Matching | None

    def changed_pairs(self) -> list[Pair]:
        """Those whose pixels differ."""
        return [] if self.matching is None else [pair for pair in self.matching.pairs if _pixels_differ(pair)]


def compare(met: Sequence[Met], records: Records, *, whole: bool) -> Comparison:
    """met: of one series. whole: everything of the series should be there. Raises Damaged if the records were altered."""
    matching = match(met, records)
    name = met[0].source.shown
    if matching is None:
        return Comparison(SeriesAnswer((Answer.NEVER_SEEN,), name, met=len(met), whole=whole), None)
    frames = Slices(matching.recorded)
    pixels = [_compare_pixels(pair, frames) for pair in matching.pairs if _pixels_differ(pair)]
    wide = {id(p.pair[1]) for p in pixels if p.bound is not None}
    geometry = _geometry(matching.pairs, wide)
    attributes = _attributes(matching.pairs)
    numbers = [r.n for r in matching.recorded]
    answer = SeriesAnswer(
        also=(),
        name=name,
        recorded=len(matching.recorded),
        met=len(met),
        matched=len(matching.pairs),
        whole=whole,
        entries=(min(numbers), max(numbers)),
        attributes=attributes,
        geometry=geometry,
        regions=_regions(pixels, frames),
        slices=tuple(sorted({k for p in pixels for k in p.changed})),
        missing=tuple(k for r in matching.missing for k in frames.of(r)) if whole else (),
        added=tuple(m.source.shown for m in matching.added),
        bound=_largest([p.bound for p in pixels if p.bound is not None]),
        notes=_notes(matching, pixels),
    )
    return Comparison(replace(answer, also=_answers(answer, matching)), matching)


def _answers(answer: SeriesAnswer, matching: Matching) -> tuple[Answer, ...]:
    holds = {
        Answer.PIXELS_CHANGED: bool(answer.slices),
        Answer.GEOMETRY_CHANGED: bool(answer.geometry),
        Answer.SLICES_CHANGED: bool(answer.missing or answer.added),
        Answer.LOSSY: answer.bound is not None,
    }
    found = tuple(kind for kind in Answer if holds.get(kind))
    if found:
        return found
    same_bytes = all(r.fingerprint.f0 == m.fingerprint.f0 for r, m in matching.pairs)
    return (Answer.IDENTICAL if same_bytes else Answer.SAME_PIXELS,)


class Slices:
    """The slices of a recorded series: number of each frame of each instance, and where they lie."""

    def __init__(self, recorded: Sequence[Recorded]) -> None:
        self._first: dict[int, int] = {}
        self.places: list[FramePlace] = []
        for one in recorded:
            self._first[one.n] = len(self.places)
            self.places.extend(one.fingerprint.frames)
        self.rows = max(r.fingerprint.form.rows for r in recorded)
        self.columns = max(r.fingerprint.form.columns for r in recorded)

    def of(self, recorded: Recorded) -> range:
        """The numbers of its frames."""
        first = self._first[recorded.n]
        return range(first, first + len(recorded.fingerprint.frames))

    def box_mm(self, box: Box) -> FloatArray:
        """(3, 2): lowest and highest x, y, z of the outer faces of the voxels in their planes."""
        (k0, k1), (j0, j1), (i0, i1) = box
        corners = [
            np.array(p.position_mm) + (j - 0.5) * np.array(p.row_step) + (i - 0.5) * np.array(p.column_step)
            for p in (self.places[k0], self.places[k1 - 1])
            for j in (j0, j1)
            for i in (i0, i1)
        ]
        return np.stack([np.min(corners, axis=0), np.max(corners, axis=0)], axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class _PixelChange:
    """One pair whose pixels differ. changed: slice number → blocks that changed by more than compression would.

    bound: of the slices that changed everywhere by little, None if there are none. whole: another shape.
    """

    pair: Pair
    changed: dict[int, Mask]
    bound: Bound | None


def _pixels_differ(pair: Pair) -> bool:
    """Other stored integers or another shape; the number of bits stored alone is a header's matter."""
    recorded, met = pair[0].fingerprint, pair[1].fingerprint
    if recorded.f2 == met.f2:
        return False
    return (
        _shape(recorded) != _shape(met)
        or bool((recorded.blocks["hash"] != met.blocks["hash"]).any())
        or (recorded.form == met.form)
    )


def _shape(fingerprint: Fingerprint) -> tuple[int, int, int]:
    form = fingerprint.form
    return form.frames, form.rows, form.columns


def _compare_pixels(pair: Pair, frames: Slices) -> _PixelChange:
    recorded, met = pair[0].fingerprint, pair[1].fingerprint
    ks = frames.of(pair[0])
    everything = np.ones(grid(recorded.form.rows, recorded.form.columns), dtype=bool)
    if _shape(recorded) != _shape(met):
        return _PixelChange(pair, dict.fromkeys(ks, everything), None)
    changed: dict[int, Mask] = {}
    bounds: list[Bound] = []
    hashes = recorded.blocks["hash"] != met.blocks["hash"]
    if not hashes.any():
        return _PixelChange(pair, dict.fromkeys(ks, everything), None)  # 2^-64: only F2 sees it
    for number, k in enumerate(ks):
        if hashes[number].any():
            mask, bound = _judge_slice(recorded, met, number, hashes[number])
            if mask.any():
                changed[k] = mask
            if bound is not None:
                bounds.append(bound)
    return _PixelChange(pair, changed, _largest(bounds))


def _judge_slice(recorded: Fingerprint, met: Fingerprint, frame: int, changed: Mask) -> tuple[Mask, Bound | None]:
    """The blocks that were changed by more than compression, and the bound of the others if all changed by little."""
    (old_mean, old_deviation), (new_mean, new_deviation) = _in_units(recorded, frame), _in_units(met, frame)
    content = (old_deviation > 0) | (new_deviation > 0)
    if changed.sum() < WIDE_BLOCKS or (changed & content).sum() < WIDE_SHARE * content.sum():
        return changed, None
    mean, deviation = np.abs(new_mean - old_mean), np.abs(new_deviation - old_deviation)
    span = float(np.ptp(old_mean)) or float(old_deviation.max())
    outliers = (mean > _limit(mean[changed], FLOOR_MEAN * span)) | (
        deviation > _limit(deviation[changed], FLOOR_DEVIATION * span)
    )
    outliers &= changed
    if outliers.sum() > REPLACED_SHARE * changed.sum() or np.median(mean[changed]) > FLOOR_MEAN * span:
        return changed, None
    rest = changed & ~outliers
    return outliers, Bound(float(mean[rest].max()), float(deviation[rest].max()))


def _limit(changes: FloatArray, floor: float) -> float:
    return max(OUTLIER * float(np.median(changes)), floor)


def _in_units(fingerprint: Fingerprint, frame: int) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of each block of a slice, in HU (MR: its units)."""
    place, blocks = fingerprint.frames[frame], fingerprint.blocks[frame]
    mean = blocks["mean"].astype(np.float64) * place.slope + place.intercept
    return mean, np.sqrt(blocks["variance"].astype(np.float64)) * abs(place.slope)


def _largest(bounds: Sequence[Bound]) -> Bound | None:
    return Bound(max(b.mean for b in bounds), max(b.deviation for b in bounds)) if bounds else None


def _regions(pixels: Sequence[_PixelChange], frames: Slices) -> tuple[Region, ...]:
    """The changed blocks, those that touch in one region, the largest first."""
    masks = {k: mask for change in pixels for k, mask in change.changed.items()}
    if not masks:
        return ()
    lowest, highest = min(masks), max(masks)
    down, across = grid(frames.rows, frames.columns)
    whole = np.zeros((highest - lowest + 1, down, across), dtype=bool)
    for k, mask in masks.items():
        whole[k - lowest, : mask.shape[0], : mask.shape[1]] = mask
    labels, _ = ndimage.label(whole, np.ones((3, 3, 3)))
    found = []
    for number, (ks, js, is_) in enumerate(ndimage.find_objects(labels), 1):
        box: Box = (
            (ks.start + lowest, ks.stop + lowest),
            (js.start * SIDE, min(js.stop * SIDE, frames.rows)),
            (is_.start * SIDE, min(is_.stop * SIDE, frames.columns)),
        )
        n_blocks = int(np.count_nonzero(labels[ks, js, is_] == number))
        found.append(Region(box, frames.box_mm(box), n_blocks))
    return tuple(sorted(found, key=lambda region: -region.blocks))


def _geometry(pairs: Sequence[Pair], wide: set[int]) -> tuple[str, ...]:
    """What changed in position, direction, spacing, rescale or photometric, in words, each kind once with its count.

    wide: of what was compressed anew the rescale may differ, for values were compared in HU.
    """
    seen: dict[str, tuple[str, int]] = {}
    for recorded, met in pairs:
        for name, words in _differences(recorded.fingerprint, met.fingerprint, id(met) not in wide):
            first, count = seen.get(name, (words, 0))
            seen[name] = first, count + 1
    return tuple(words if count == 1 else f"{words} (so or alike in {count} images)" for words, count in seen.values())


def _differences(old: Fingerprint, new: Fingerprint, rescale: bool) -> list[tuple[str, str]]:
    found = []
    if old.form.photometric != new.form.photometric:
        found.append(("photometric", f"photometric {old.form.photometric} → {new.form.photometric}"))
    for a, b in zip(old.frames, new.frames, strict=False):
        if a.line() == b.line():
            continue
        for name, x, y in _named(a, b):
            if x != y and (rescale or name not in ("slope", "intercept")):
                found.append((name, f"{name} {x} → {y}"))
        break
    return found


def _named(a: FramePlace, b: FramePlace) -> list[tuple[str, str, str]]:
    """Name, old and new text of each part of a frame's place."""
    pairs = [
        ("position", _texts(a.position_mm), _texts(b.position_mm)),
        ("row spacing", _length(a.row_step), _length(b.row_step)),
        ("column spacing", _length(a.column_step), _length(b.column_step)),
        ("direction of rows", _direction(a.column_step), _direction(b.column_step)),
        ("direction of columns", _direction(a.row_step), _direction(b.row_step)),
        ("slope", f"{a.slope:.10g}", f"{b.slope:.10g}"),
        ("intercept", f"{a.intercept:.10g}", f"{b.intercept:.10g}"),
    ]
    return pairs


def _texts(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{round(v, 5) + 0.0:g}" for v in values) + ")"


def _length(values: Sequence[float]) -> str:
    return f"{np.linalg.norm(values):.7g} mm"


def _direction(values: Sequence[float]) -> str:
    return _texts([float(v) for v in np.round(np.array(values) / np.linalg.norm(values), 4)])


def _attributes(pairs: Sequence[Pair]) -> tuple[str, ...]:
    """Names of all attributes that were changed, removed or added though no archive may."""
    tags: set[int] = set()
    for recorded, met in pairs:
        old, new = recorded.fingerprint.attributes, met.fingerprint.attributes
        tags |= {tag for tag in old.keys() | new.keys() if old.get(tag) != new.get(tag)}
    return tuple(keyword_for_tag(tag) or f"({tag >> 16:04X},{tag & 0xFFFF:04X})" for tag in sorted(tags))


def _notes(matching: Matching, pixels: Sequence[_PixelChange]) -> tuple[str, ...]:
    notes = []
    if matching.by_uid < len(matching.pairs):
        others = len(matching.pairs) - matching.by_uid
        notes.append(f"{others} of {len(matching.pairs)} were recognised by pixels or position: their UIDs are new.")
    wide = [p for p in pixels if p.bound is not None]
    if wide and not all(p.pair[1].fingerprint.lossy for p in wide):
        notes.append("The files do not say that they were compressed with loss.")
    moved = {r.fingerprint.f2: r for r in matching.recorded}
    swapped = sum(p.pair[1].fingerprint.f2 in moved for p in pixels)
    if swapped:
        notes.append(f"{swapped} hold the pixels that were recorded for another slice: slices were exchanged.")
    return tuple(notes)
