"""Volume → for each cue, how far every place deviates from what this scan itself predicts there.

The strength of a residual is measured in windows over places of one tissue, pooled over neighbouring slices, and compared
with what the same scan shows elsewhere at the same brightness, radius and slice. Whatever was done to the whole scan
(dose, kernel, compression, smoothing) shifts both sides and cancels; what was done to one place stays.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from jachai.core.finding import Kind
from jachai.core.progress import Progress, silent
from jachai.core.volume import AIR_HU, Mask, Modality, Volume
from jachai.forensics import residual
from jachai.forensics.residual import Slice
from jachai.forensics.tissue import COARSE, IN_PLANE, coarse_body, coarse_lung

Map = npt.NDArray[np.float32]
"""(k, j', i') on the coarse grid; NaN where the cue cannot be measured."""


class Tissue(StrEnum):
    """Where a cue is measured. Each predicts itself: places are compared only with places of the same tissue."""

    LUNG = "lung"
    """Aerated lung, two pixels from its edge, without its larger vessels."""
    SOLID = "solid"
    """Soft tissue away from edges; measured in the whole body, judged only where lungs surround it (if there are any)."""
    BODY = "body"
    """The inside of the body, for MR and pictures."""


@dataclass(frozen=True, slots=True)
class Cue:
    """One thing to look for. sign +1: more than predicted is suspicious, −1: less. window_mm: Gaussian sigma of pooling.

    against: a second residual; then the ratio of the two is looked at, which tells the colour of the noise whatever the
    dose.
    """

    name: str
    residual: str
    tissue: Tissue
    sign: int
    window_mm: float
    kind: Kind
    against: str | None = None

    @property
    def residuals(self) -> tuple[str, ...]:
        """The residuals it needs."""
        return (self.residual,) if self.against is None else (self.residual, self.against)


CT_CUES = (
    Cue("noise outside the scanner's band, lung", "corner", Tissue.LUNG, +1, 5.0, Kind.REMOVED),
    Cue("missing noise, lung", "diagonal", Tissue.LUNG, -1, 5.0, Kind.REMOVED),
    Cue("noise that breaks off between slices, lung", "between", Tissue.LUNG, +1, 5.0, Kind.REMOVED),
    Cue("grain too fine, lung", "middle", Tissue.LUNG, -1, 5.0, Kind.REMOVED, against="diagonal"),
    Cue("texture too smooth, solid", "middle", Tissue.SOLID, -1, 2.5, Kind.INJECTED),
    Cue("missing noise, solid", "diagonal", Tissue.SOLID, -1, 2.5, Kind.INJECTED),
    Cue("noise outside the scanner's band, solid", "corner", Tissue.SOLID, +1, 2.5, Kind.INJECTED),
)
MR_CUES = (
    Cue("noise outside the scanner's band", "corner", Tissue.BODY, +1, 5.0, Kind.ALTERED),
    Cue("missing noise", "diagonal", Tissue.BODY, -1, 5.0, Kind.ALTERED),
    Cue("noise that breaks off between slices", "between", Tissue.BODY, +1, 5.0, Kind.ALTERED),
    Cue("grain too fine", "middle", Tissue.BODY, -1, 5.0, Kind.ALTERED, against="diagonal"),
    Cue("missing finest noise", "corner", Tissue.BODY, -1, 5.0, Kind.ALTERED),
    Cue("noise too white", "corner", Tissue.BODY, +1, 5.0, Kind.ALTERED, against="diagonal"),
    Cue("slices too much alike", "between", Tissue.BODY, -1, 5.0, Kind.ALTERED),
)
"""The next cue is one line here (and a new calibration)."""

CLIP = 8.0
"""Residuals are clipped at this multiple of their slice's median: one edge must not outshine a window of noise."""
FLOOR = 0.05
"""Added to a strength before the logarithm, in rounding steps: below it a residual is only the rounding of the file."""
MIN_FILL = {Tissue.LUNG: 0.3, Tissue.SOLID: 0.15, Tissue.BODY: 0.3}
"""Least share of a window that must be of the tissue."""
MIN_PLACES = 50
"""Fewer coarse cells than this predict nothing."""
MIN_PIXELS = 2000
"""A slice with fewer pixels of a tissue predicts nothing for it."""
SPREAD_FLOOR = {Tissue.LUNG: 0.5, Tissue.SOLID: 0.3, Tissue.BODY: 0.3}
"""Nepers added to the scan's own spread: a scan that is uniform to 1 % must not turn 2 % into a sign."""
RATIO_SPREAD_FLOOR = 0.1
"""The same for the ratio of two residuals, which varies less."""
POOL_Z_MM = 4.0
"""Gaussian sigma of pooling across slices; an altered cube spans 20–40 mm."""
AERATED_HU = -400.0
"""Lung lies below; large vessels, and chest wall that the closing of the mask has taken in, above."""
SOLID_HU = (-50.0, 200.0)
"""Soft tissue, nodules included; fat, which is smoother, calcium and bone left out."""
MARGIN = 4
"""Pixels that a residual needs round the tissue, at least half its filter."""
RING_MM = 18.0
"""Lungs are closed by this radius to find nodules that touch the pleura."""
DEFAULT_PIXEL_MM = 0.7
"""Assumed for pictures only, which have no geometry; their verdict is inconclusive anyway."""


@dataclass(frozen=True, slots=True, eq=False)
class Deviation:
    """One cue over the scan. z: Map of robust standard deviations, signed so that higher is more suspicious."""

    cue: Cue
    z: Map


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """All cues over the scan, on the grid coarsened by `stride` in the plane. tissue: what could be looked at."""

    deviations: tuple[Deviation, ...]
    stride: int
    has_lung: bool
    examined: Mask


@dataclass(frozen=True, slots=True, eq=False)
class _Strength:
    """Per coarse cell: how many pixels of the tissue, the sum of the clipped residual and of the brightness there."""

    count: Map
    total: Map
    brightness: Map


def measure(volume: Volume, progress: Progress = silent) -> Evidence:
    """Every cue that the modality and the number of slices allow. Time is linear in the slices, on all cores."""
    body = coarse_body(volume)
    lung = coarse_lung(volume, body)
    pixel_mm = volume.geometry.pixel_mm[1] if volume.geometry else DEFAULT_PIXEL_MM
    cues: tuple[Cue, ...] = CT_CUES if volume.modality is Modality.CT else MR_CUES
    if volume.shape[0] < 3:
        cues = tuple(cue for cue in cues if cue.residual != "between")
    around = _near_lung(lung, body, pixel_mm) if lung.any() else body
    wanted = sorted({(name, cue.tissue) for cue in cues for name in cue.residuals})
    strengths = _all_strengths(volume, body, lung, wanted, progress)
    deviations = []
    examined = np.zeros_like(body)
    for cue in cues:
        judged = around if cue.tissue is Tissue.SOLID else None
        z = _deviation(volume, [strengths[name, cue.tissue] for name in cue.residuals], cue, pixel_mm, judged)
        deviations.append(Deviation(cue, z))
        examined |= np.isfinite(z)
    return Evidence(tuple(deviations), COARSE, bool(lung.any()), examined)


def _near_lung(lung: Mask, body: Mask, pixel_mm: float) -> Mask:
    """Coarse cells of the lungs and what they enclose or nearly enclose, such as a nodule on the pleura."""
    steps = max(1, round(RING_MM / 2 / (pixel_mm * COARSE)))
    closed = ndimage.binary_closing(np.pad(lung, ((0, 0), (steps, steps), (steps, steps))), IN_PLANE, iterations=steps)
    return np.asarray(closed[:, steps:-steps, steps:-steps] & body)


def _all_strengths(
    volume: Volume, body: Mask, lung: Mask, wanted: list[tuple[str, Tissue]], progress: Progress
) -> Mapping[tuple[str, Tissue], _Strength]:
    """Slice by slice on all cores; the results lie on the coarse grid, so memory stays small."""
    n = volume.shape[0]
    lonely = _without_two_neighbours(volume)
    out = {key: _Strength(*(np.zeros(body.shape, np.float32) for _ in range(3))) for key in wanted}

    def job(k: int) -> None:
        tissues = _tissues_of_slice(volume, k, body[k], lung[k], {tissue for _, tissue in wanted})
        for name in {name for name, _ in wanted} - ({"between"} if k in lonely else set()):
            masks = {t: tissues[t] for n, t in wanted if n == name and tissues[t].sum() >= MIN_PIXELS}
            if masks:
                window = _window(np.logical_or.reduce(list(masks.values())))
                size = np.abs(_residual_of_slice(volume, k, name, window))
                for tissue, mask in masks.items():
                    _accumulate(out[name, tissue], k, window, size, mask[window], volume.voxels[k][window])

    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        for done, _ in enumerate(pool.map(job, range(n))):
            progress("examining", (done + 1) / n)
    return out


Window = tuple[slice, slice]


def _window(mask: Mask) -> Window:
    """The (rows, columns) that hold the mask and a margin, cut at multiples of COARSE."""
    bounds = []
    for axis in (1, 0):
        filled = np.flatnonzero(mask.any(axis=axis))
        low = max(0, int(filled[0]) - MARGIN) // COARSE * COARSE
        bounds.append(slice(low, min(mask.shape[1 - axis], int(filled[-1]) + 1 + MARGIN)))
    return bounds[0], bounds[1]


def _residual_of_slice(volume: Volume, k: int, name: str, window: Window) -> Slice:
    if name != "between":
        return residual.IN_PLANE[name](volume.voxels[k][window])
    before, slice_, after = (volume.voxels[n][window] for n in (k - 1, k, k + 1))
    return residual.between(before, slice_, after)


def _without_two_neighbours(volume: Volume) -> set[int]:
    """Slices at the ends of the stack or beside missing slices: nothing can be said of what goes on from slice to slice."""
    gaps = volume.geometry.gaps if volume.geometry else ()
    return {0, volume.shape[0] - 1, *gaps, *(k + 1 for k in gaps)}


def _tissues_of_slice(volume: Volume, k: int, body: Mask, lung: Mask, wanted: set[Tissue]) -> dict[Tissue, Mask]:
    """(j, i) masks on the fine grid, kept away from their edges."""
    shape = volume.shape[1:]

    def fine(mask: Mask) -> Mask:
        return np.asarray(mask.repeat(COARSE, axis=0).repeat(COARSE, axis=1)[: shape[0], : shape[1]])

    masks: dict[Tissue, Mask] = {}
    inner = fine(ndimage.binary_erosion(body, iterations=2))
    if Tissue.LUNG in wanted or Tissue.SOLID in wanted:
        smooth = ndimage.gaussian_filter(volume.voxels[k], 1.0, truncate=3.0)
        masks[Tissue.LUNG] = ndimage.binary_erosion(fine(lung), iterations=2) & (smooth < AERATED_HU)
        solid = (smooth > SOLID_HU[0]) & (smooth < SOLID_HU[1])
        masks[Tissue.SOLID] = ndimage.binary_erosion(solid, iterations=1) & inner
    if Tissue.BODY in wanted:
        masks[Tissue.BODY] = inner
    return masks


def _accumulate(strength: _Strength, k: int, window: Window, size: Slice, mask: Mask, brightness: Slice) -> None:
    weight = mask.astype(np.float32)
    clipped = np.minimum(size, CLIP * np.float32(np.median(size[mask])))
    rows, columns = (slice(edge.start // COARSE, -(-edge.stop // COARSE)) for edge in window)
    for target, values in (
        (strength.count, weight),
        (strength.total, clipped * weight),
        (strength.brightness, np.maximum(brightness, AIR_HU) * weight),
    ):
        target[k, rows, columns] = _cell_sums(values)


def _cell_sums(values: Slice) -> Slice:
    rows, columns = values.shape
    if rows % COARSE or columns % COARSE:
        values = np.pad(values, ((0, -rows % COARSE), (0, -columns % COARSE)))
        rows, columns = values.shape
    strips = values.reshape(rows // COARSE, COARSE, columns).sum(axis=1)
    return np.asarray(sum(strips[:, start::COARSE] for start in range(COARSE)), dtype=np.float32)


def _deviation(volume: Volume, strengths: list[_Strength], cue: Cue, pixel_mm: float, judged: Mask | None) -> Map:
    """Strengths (one, or two for a ratio) → Map of z. Places outside `judged` help to predict, but are not judged."""
    pool = _pooling(volume, cue.window_mm, pixel_mm)
    shares = [pool(strength.count) for strength in strengths]
    known = np.logical_and.reduce(
        [(share > MIN_FILL[cue.tissue] * COARSE**2) & (s.count > 0) for s, share in zip(strengths, shares, strict=True)]
    )
    z = np.full(known.shape, np.nan, dtype=np.float32)
    if known.sum() < MIN_PLACES:
        return z
    logs = [_log_mean(volume, pool(s.total)[known] / share[known]) for s, share in zip(strengths, shares, strict=True)]
    log_strength = logs[0] if cue.against is None else logs[0] - logs[1]
    brightness = pool(strengths[0].brightness)[known] / shares[0][known]
    follows_dose = cue.residual != "corner"
    expected = predicted(log_strength, brightness, known, follows_dose=follows_dose)
    if not follows_dose and volume.modality is not Modality.CT:
        # of a slice that was altered for the most part, the rest would stand out: the whole scan must bear it out
        further = np.maximum if cue.sign > 0 else np.minimum
        expected = np.asarray(further(expected, np.median(log_strength)), dtype=np.float32)
    excess = log_strength - expected
    spread = 1.4826 * float(np.median(np.abs(excess)))
    floor = SPREAD_FLOOR[cue.tissue] if cue.against is None else RATIO_SPREAD_FLOOR
    z[known] = cue.sign * excess / (spread + floor)
    if judged is not None:
        z[~judged] = np.nan
    return z


def _log_mean(volume: Volume, mean: Map) -> Map:
    """Logarithm of a mean strength, above the floor of rounding (CT) or of a tenth of the median (MR, unknown rounding)."""
    ct = volume.modality is Modality.CT
    floor = FLOOR * (volume.provenance.step or 1.0) if ct else 0.1 * float(np.median(mean))
    return np.asarray(np.log(mean + max(floor, 1e-9)), dtype=np.float32)


def _pooling(volume: Volume, window_mm: float, pixel_mm: float) -> Callable[[Map], Map]:
    """Gaussian mean over the window, across slices too where there are several."""
    in_plane = window_mm / (pixel_mm * COARSE)
    step = volume.geometry.slice_step_mm if volume.geometry else None
    across = POOL_Z_MM / step if volume.shape[0] > 1 and step else 0.0

    def pool(values: Map) -> Map:
        return np.asarray(
            ndimage.gaussian_filter(values, (across, in_plane, in_plane), truncate=2.5, mode="constant"), np.float32
        )

    return pool


def predicted(log_strength: Map, brightness: Map, known: Mask, *, follows_dose: bool) -> Map:
    """What the scan itself predicts at each known place: the median of its slice + a robust trend in brightness, radius and height.

    The corners of the spectrum lie outside the scanner's band: they do not follow dose, so no trend is taken there.
    """
    k, j, i = np.nonzero(known)
    parts = np.split(log_strength, np.cumsum(known.sum(axis=(1, 2)))[:-1])
    medians = np.array([np.median(part) if part.size else 0.0 for part in parts], dtype=np.float32)
    level = medians[k]
    if not follows_dose:
        return np.asarray(level)
    rows, columns = known.shape[1:]
    down, radius = j / rows - 0.5, np.hypot(j / rows - 0.5, i / columns - 0.5)
    low, middle, high = np.percentile(brightness, (5, 50, 95))
    tone = (np.clip(brightness, low, high) - middle) / (high - low + 1e-6)  # no parabola beyond what the scan shows
    design = np.stack([np.ones_like(tone), tone, tone**2, radius, radius**2, down, down**2], axis=1)
    return np.asarray(level + design @ _robust_fit(design, log_strength - level), dtype=np.float32)


def _robust_fit(
    design: npt.NDArray[np.float64], target: Map, rounds: int = 5, most: int = 20_000
) -> npt.NDArray[np.float64]:
    """Least squares reweighted by a Cauchy weight of 2 robust standard deviations; at most `most` places, evenly taken."""
    every = max(1, len(target) // most)
    x, y = design[::every].astype(np.float64), target[::every].astype(np.float64)
    weight = np.ones(len(y))
    solution: npt.NDArray[np.float64] = np.zeros(x.shape[1])
    for _ in range(rounds):
        solution = np.asarray(np.linalg.lstsq(x * weight[:, None], y * weight, rcond=None)[0])
        error = y - x @ solution
        scale = 2 * 1.4826 * float(np.median(np.abs(error))) + 1e-9
        weight = 1 / np.sqrt(1 + (error / scale) ** 2)
    return solution
