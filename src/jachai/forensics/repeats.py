"""Volume → tissue that stands in it twice: copied from one place to another, shifted or mirrored left to right.

Two places of a patient may look alike, but their noise is never the same. Landmarks (the strongest grains of a band-passed
slice, which a copy keeps) are described by their surroundings, each is matched to the most alike one far enough away, and
where two agree, the residuals of both places are subtracted: what is left of the noise tells a copy (nothing) from a likeness
(√2 times the noise). This is copy-move forensics (Fridrich et al. 2003; Christlein et al. 2012) for a scanner's noise in 3D.
Nothing is learnt, and it is the same for every scanner. Copies that were turned, scaled or given new noise are not found.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage

from jachai.core.volume import Mask, Volume
from jachai.forensics.residual import Slice, middle
from jachai.forensics.tissue import COARSE, IN_PLANE, coarse_body, coarse_lung

Places = npt.NDArray[np.int64]
"""(n, 3) voxels k, j, i."""
Map = npt.NDArray[np.float32]

CUE = "the same tissue twice"
"""Its name among the cues of a place."""
INSIDE = 2
"""Coarse cells that a place must lie inside the lungs (else: the body): walls are alike on both sides."""
BAND = (0.7, 1.8)
"""Pixels, Gaussian σ: the band in which landmarks are found and described; resampling hardly touches it."""
SIDE = 13
"""Pixels of the surroundings that describe a landmark."""
TERMS = 6
"""Cosine terms along each axis that are kept of them."""
CLIP = 4.0
"""Robust standard deviations at which the band is clipped: a vessel must not outshine the grain."""
RADIUS = 4
"""Pixels: a landmark is the strongest grain within it; more where there would be too many."""
MOST = 16_000
"""Landmarks, about: matching takes the square of their number."""
APART_MM = 18.0
"""Nearer places are not compared: a vessel goes on, and neighbouring slices share their noise."""
LOOKED_INTO = 150
"""Matches of each orientation that are looked into, the most alike first."""
AROUND = (2, 14, 14)
"""Voxels round a match that are looked at."""
WINDOW_PX, WINDOW_MM = 4.0, 3.0
"""Gaussian σ over which residuals are compared, in the plane and across slices."""
SAME = 0.6
"""Share of the noise that must be the same: 1 in a copy, 0 between strangers; the mean of the two."""
FILLED = 0.4
"""Least share of a window that must lie inside."""
DEAD = 0.05
"""Share of the slice's noise below which a residual is none: where air is cut off at one value, only dots remain, and dots are
alike. Such voxels count as outside (of scanner noise, 4 %)."""
GAP_PX, QUIET, QUIET_POWER = 2.0, 5, 0.6
"""A slice's noise is measured where there is no structure: in the quietest twentieth of small windows (Gaussian σ, pixels). In those,
noise alone has this share of its power (0.53 to 0.67 on filtered white noise)."""
SWING = 1.25
"""A slice is at most so much noisier than the median slice: where little of it is looked at, there is no gap between structures."""
ROUNDING, PRECISION = 0.2, 1e-5
"""Least noise of a slice, as a share of the step between stored values (rounding alone gives 0.29) and of the largest value. Below
it, most of the slice is one value (air cut off), what remains of its noise are dots, and dots are alike: nothing is compared."""
GRAIN_VOXELS = 8
"""Voxels that one independent grain of noise takes, about."""
MIRRORED = 0.3
"""Factor of z where left and right are exchanged: a body is nearly its own mirror image, and a phantom made of ellipsoids wholly."""
RIM = 0.7
DEFAULT_SPACING_MM = (1.0, 0.7, 0.7)


@dataclass(frozen=True, slots=True, eq=False)
class Repeat:
    """Tissue that stands in the scan twice. here, there: its voxels, row by row the same. z: √(Σ sameness² / grains): how many
    standard deviations the agreement of the noise lies above chance, in the part of it that agrees best; less if mirrored."""

    here: Places
    there: Places
    z: float


@dataclass(frozen=True, slots=True, eq=False)
class _Landmarks:
    """at: their voxels, ordered by slice. words: unit vectors that describe them. grain: (n, SIDE, SIDE) residual round each.
    noise: standard deviation of the residual of each slice."""

    at: Places
    words: npt.NDArray[np.float32]
    grain: npt.NDArray[np.float16]
    noise: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Move:
    """k, j: shift. i: shift or, mirrored, the sum of both columns."""

    k: int
    j: int
    i: int
    mirrored: bool

    def of(self, places: Places) -> Places:
        """Where they go."""
        columns = self.i - places[:, 2] if self.mirrored else self.i + places[:, 2]
        return np.stack([places[:, 0] + self.k, places[:, 1] + self.j, columns], axis=1)

    def is_near(self, other: _Move) -> bool:
        """Whether it is the same to a voxel."""
        steps = (self.k - other.k, self.j - other.j, self.i - other.i)
        return self.mirrored == other.mirrored and max(map(abs, steps)) <= 1


def measured(volume: Volume) -> Mask:
    """(k, j', i') coarse cells in which repeats are looked for."""
    body = coarse_body(volume)
    lung = coarse_lung(volume, body)
    return np.asarray(ndimage.binary_erosion(lung if lung.any() else body, IN_PLANE, iterations=INSIDE))


def find(volume: Volume, where: Mask) -> tuple[Repeat, ...]:
    """The repeats among the cells of `where` (see `measured`), the surest first. Intact scans have some, of low z."""
    marks = _landmarks(volume, where)
    spacing = np.array([a or b for a, b in zip(volume.spacing_mm or DEFAULT_SPACING_MM, DEFAULT_SPACING_MM)])
    if len(marks.at) < 2:
        return ()
    found: dict[_Move, list[Repeat]] = {}
    for mirrored in (False, True):
        moves = list(_moves(marks, spacing, mirrored))
        with ThreadPoolExecutor(_threads()) as pool:
            looks = pool.map(lambda one: _looked_into(volume, where, marks.noise, spacing, *one), moves)
            for (_, move), look in zip(moves, looks):
                if look is not None:
                    near = next((one for one in found if one.is_near(move)), move)
                    found.setdefault(near, []).append(look)
    return tuple(sorted((_joined(some) for some in found.values()), key=lambda one: -one.z))


def as_map(repeats: Iterable[Repeat], where: Mask) -> Map:
    """(k, j', i') the highest z of a repeat at either of its places, there in the middle and RIM of it at the farthest voxel, so
    that each place has one peak; 0 where there is none, NaN where none was looked for."""
    z = np.where(where, np.float32(0), np.float32(np.nan))
    for one in repeats:
        for places in (one.here, one.there):
            distance = np.linalg.norm(places - places.mean(axis=0), axis=1)
            value = one.z * (1 - (1 - RIM) * distance / max(float(distance.max()), 1.0))
            cells = (places[:, 0], places[:, 1] // COARSE, places[:, 2] // COARSE)
            np.fmax.at(z, cells, value.astype(np.float32))
    return z


def _threads() -> int:
    return min(4, os.cpu_count() or 1)


def _cosines() -> npt.NDArray[np.float32]:
    """(TERMS, SIDE) the first terms of the orthonormal cosine transform."""
    n = np.arange(SIDE) + 0.5
    rows = [np.cos(np.pi * n * q / SIDE) * np.sqrt((1 if q == 0 else 2) / SIDE) for q in range(TERMS)]
    return np.array(rows, dtype=np.float32)


COSINES = _cosines()
MIRROR = np.tile((-1.0) ** np.arange(TERMS), TERMS)[1:].astype(np.float32)
"""Signs that mirror the words of a landmark left to right."""


def _landmarks(volume: Volume, where: Mask) -> _Landmarks:
    radius = RADIUS
    while 0.7 * where.sum() * COARSE**2 / (2 * radius + 1) ** 2 > MOST:
        radius += 1
    slices = [int(k) for k in np.flatnonzero(where.any(axis=(1, 2)))]
    with ThreadPoolExecutor(_threads()) as pool:
        least = ROUNDING * (volume.provenance.step or 0.0)
        found = list(pool.map(lambda k: _landmarks_of(volume.voxels[k], where[k], radius, least), slices))
    noise = np.zeros(len(where), dtype=np.float32)
    if found:
        levels = np.array([level for *_, level in found])
        noise[slices] = np.minimum(levels, SWING * np.median(levels))
    at = [np.column_stack([np.full(len(places), k), places]) for k, (places, *_) in zip(slices, found)]
    return _Landmarks(
        np.concatenate([np.zeros((0, 3), np.int64), *at]),
        np.concatenate([np.zeros((0, TERMS**2 - 1), np.float32), *(words for _, words, *_ in found)]),
        np.concatenate([np.zeros((0, SIDE, SIDE), np.float16), *(grain for _, _, grain, _ in found)]),
        noise,
    )


def _landmarks_of(
    slice_: Slice, cells: Mask, radius: int, least: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.float16], float]:
    """(j, i) of the landmarks of a slice, their words and grain, and the noise of the slice."""
    half = SIDE // 2
    low, high = [], []
    for axis in (1, 0):
        filled = np.flatnonzero(cells.any(axis=axis))
        low.append(max(0, int(filled[0]) * COARSE - half))
        high.append(min(slice_.shape[1 - axis], (int(filled[-1]) + 1) * COARSE + half))
    box = (slice(low[0], high[0]), slice(low[1], high[1]))
    inside = cells.repeat(COARSE, axis=0).repeat(COARSE, axis=1)[: slice_.shape[0], : slice_.shape[1]][box]
    part = slice_[box]
    band = ndimage.gaussian_filter(part, BAND[0], truncate=3.0) - ndimage.gaussian_filter(part, BAND[1], truncate=3.0)
    residual = middle(part)
    local = ndimage.gaussian_filter(residual**2, GAP_PX, truncate=2.0)[inside]
    noise = float(np.sqrt(max(0.0, np.percentile(local, QUIET)) / QUIET_POWER))
    size = np.abs(band)
    peak = (ndimage.maximum_filter(size, 2 * radius + 1) == size) & (size > 0) & inside
    peak[:half] = peak[-half:] = False
    peak[:, :half] = peak[:, -half:] = False
    j, i = np.nonzero(peak)
    band = np.clip(band, -CLIP * _sigma(band[inside]), CLIP * _sigma(band[inside]))
    if not len(j) or noise <= max(least, PRECISION * float(np.abs(part).max())):
        nothing = np.zeros((0, 2), np.int64), np.zeros((0, TERMS**2 - 1), np.float32)
        return *nothing, np.zeros((0, SIDE, SIDE), np.float16), noise
    around = sliding_window_view(band, (SIDE, SIDE))[j - half, i - half]
    words = (COSINES @ around @ COSINES.T).reshape(len(j), -1)[:, 1:]  # without the mean
    words /= np.linalg.norm(words, axis=1, keepdims=True) + 1e-9
    grain = sliding_window_view(residual, (SIDE, SIDE))[j - half, i - half]
    return np.stack([j + low[0], i + low[1]], axis=1), words, grain.astype(np.float16), noise


def _sigma(values: npt.NDArray[np.float32]) -> float:
    return 1.4826 * float(np.median(np.abs(values)))


def _moves(
    marks: _Landmarks, spacing: npt.NDArray[np.float64], mirrored: bool
) -> Iterator[tuple[npt.NDArray[np.int64], _Move]]:
    """(landmark (3,), where it seems to have gone) of the matches whose grain is most alike; each pair once."""
    other = _most_alike(marks, spacing, mirrored)
    alike = _same_grain(marks, other, mirrored)
    seen: set[tuple[_Move, int, int, int]] = set()
    order = np.argsort(-alike, kind="stable")[: 2 * LOOKED_INTO]
    for n in order[alike[order] > 0]:
        one, two = sorted((int(n), int(other[n])))
        here, there = marks.at[one], marks.at[two]
        across = here[2] + there[2] if mirrored else there[2] - here[2]
        move = _Move(int(there[0] - here[0]), int(there[1] - here[1]), int(across), mirrored)
        k, j, i = (int(x) for x in here // np.array(AROUND))
        if (key := (move, k, j, i)) not in seen and len(seen) < LOOKED_INTO:
            seen.add(key)
            yield here, move


def _most_alike(
    marks: _Landmarks, spacing: npt.NDArray[np.float64], mirrored: bool, block: int = 512
) -> npt.NDArray[np.int64]:
    """For each landmark, the one whose words are nearest among those at least APART_MM away."""
    asked = marks.words * MIRROR if mirrored else marks.words
    mm = (marks.at * spacing).astype(np.float32)

    def job(start: int) -> npt.NDArray[np.int64]:
        rows = slice(start, start + block)
        likeness = asked[rows] @ marks.words.T
        low, high = np.searchsorted(mm[:, 0], (mm[rows][0, 0] - APART_MM, mm[rows][-1, 0] + APART_MM))
        apart = sum((mm[rows, axis, None] - mm[None, low:high, axis]) ** 2 for axis in range(3))
        likeness[:, low:high][apart < APART_MM**2] = -1
        return np.asarray(likeness.argmax(axis=1))

    with ThreadPoolExecutor(_threads()) as pool:
        return np.concatenate(list(pool.map(job, range(0, len(marks.at), block))))


def _same_grain(marks: _Landmarks, other: npt.NDArray[np.int64], mirrored: bool) -> npt.NDArray[np.float32]:
    """Sameness of the grain round each landmark and round the one it was matched to."""
    one, two = marks.grain.astype(np.float32), marks.grain[other].astype(np.float32)
    if mirrored:
        two = two[:, :, ::-1]
    noise = np.minimum(marks.noise[marks.at[:, 0]], marks.noise[marks.at[other, 0]])
    power, power_there, left = (np.mean(x**2, axis=(1, 2)) for x in (one, two, one - two))
    return _sameness(power, power_there, left, noise**2)


def _sameness(power: Map, power_there: Map, left: Map, noise: Map) -> Map:
    """1 − what is left of the noise when one place is taken from the other, over what would be left between strangers.

    Where there is structure, only the scan's noise counts, or two edges that nearly fit would pass for the same.
    """
    expected = 2 * np.minimum((power + power_there) / 2, noise)
    return np.asarray(1 - left / np.maximum(expected, 1e-6), dtype=np.float32)


def _looked_into(
    volume: Volume,
    where: Mask,
    noise: npt.NDArray[np.float32],
    spacing: npt.NDArray[np.float64],
    mark: npt.NDArray[np.int64],
    move: _Move,
) -> Repeat | None:
    """What is the same round a landmark; None if nothing is."""
    low = np.maximum(mark - AROUND, 0)
    high = np.minimum(mark + AROUND + 1, volume.shape)
    corners = move.of(np.stack([low, high - 1]))
    if move.mirrored:
        corners[:, 2] = corners[::-1, 2]
    under, over = np.maximum(-corners[0], 0), np.maximum(corners[1] - np.array(volume.shape) + 1, 0)
    if move.mirrored:
        under[2], over[2] = over[2], under[2]
    low, high = low + under, high - over
    there = move.of(np.stack([low, high - 1]))
    one = tuple(slice(int(a), int(b)) for a, b in zip(low, high))
    two = tuple(slice(int(min(a, b)), int(max(a, b)) + 1) for a, b in there.T)
    turn = (slice(None), slice(None), slice(None, None, -1 if move.mirrored else 1))
    here, other = (np.stack([middle(s) for s in volume.voxels[box]]) for box in (one, two))
    other = other[turn]
    level = np.minimum(noise[one[0]], noise[two[0]])[:, None, None]
    alive = np.minimum(np.abs(here), np.abs(other)) > DEAD * level
    inside = (_inside(where, one) & _inside(where, two)[turn] & alive & _apart(one, move, spacing)).astype(np.float32)
    sigma = (WINDOW_MM / float(spacing[0]) if volume.shape[0] > 1 else 0.0, WINDOW_PX, WINDOW_PX)

    def pooled(values: Map) -> Map:
        return np.asarray(ndimage.gaussian_filter(values * inside, sigma, truncate=2.0), np.float32)

    share = np.maximum(pooled(np.ones_like(inside)), 1e-6)
    powers = [np.asarray(pooled(x**2) / share, np.float32) for x in (here, other, here - other)]
    same = np.where(share > FILLED, _sameness(powers[0], powers[1], powers[2], level**2), -1)
    labels, count = ndimage.label(same > SAME)
    if not count:
        return None
    weights = ndimage.sum_labels(same**2, labels, np.arange(1, count + 1))
    best = int(np.argmax(weights))
    places = np.argwhere(labels == best + 1) + low
    z = float(np.sqrt(weights[best] / GRAIN_VOXELS))
    return Repeat(places, move.of(places), z * (MIRRORED if move.mirrored else 1))


def _apart(box: tuple[slice, ...], move: _Move, spacing: npt.NDArray[np.float64]) -> Mask:
    """(1, 1, i) of a box: which columns land far enough away. What is alike on both sides of its own middle is no copy."""
    columns = np.arange(box[2].start, box[2].stop)
    across = move.i - 2 * columns if move.mirrored else np.full_like(columns, move.i)
    squared = (move.k * spacing[0]) ** 2 + (move.j * spacing[1]) ** 2 + (across * spacing[2]) ** 2
    return np.asarray(squared >= APART_MM**2)[None, None]


def _joined(looks: list[Repeat]) -> Repeat:
    """What was found round several landmarks of one copy."""
    here, first = np.unique(np.concatenate([one.here for one in looks]), axis=0, return_index=True)
    there = np.concatenate([one.there for one in looks])[first]
    return Repeat(here, there, max(one.z for one in looks))


def _inside(where: Mask, box: tuple[slice, ...]) -> Mask:
    """(k, j, i) of a box: which of its voxels lie in cells of the mask."""
    k, j, i = (np.arange(edge.start, edge.stop) for edge in box)
    return np.asarray(where[np.ix_(k, j // COARSE, i // COARSE)])
