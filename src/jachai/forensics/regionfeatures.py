"""A slice + places in it → measurements of noise, grain and rim at each place, relative to the rest of the same slice.

Each measurement is made everywhere in the slice first, on a coarse grid, within one tissue; what is reported of a place is
how many robust standard deviations it lies from what the slice shows elsewhere. Brightness itself is not reported: a bright
blob is a nodule, not a forgery. Wavelets: Daubechies 1992 (four taps), undecimated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from jachai.forensics.regionpatches import Place, SliceView, SliceViews
from jachai.forensics.residual import Slice
from jachai.forensics.tissue import COARSE, coarse_mean

Map = npt.NDArray[np.float32]
"""(j', i') on the coarse grid; NaN where nothing can be measured."""
Plane = npt.NDArray[np.bool_]
AERATED_HU = -600.0
"""Lung without vessels and their blur."""
SOLID_HU = (-300.0, 200.0)
"""Soft tissue, nodules and vessels with their rims."""
NEAR_CELLS = 6
"""Coarse cells round the lung in which soft tissue counts: nodules at the pleura, not the back muscles."""
WINDOWS_MM = {"small": 3.0, "wide": 7.0}
"""Gaussian sigma of pooling."""
LEAST_FILL = {"lung": 0.12, "solid": 0.05, "chest": 0.12}
"""Least share of a window that must be of the tissue."""
LEAST_CELLS = 50
CLIP = 8.0
"""Residuals are cut at so many times their median: one edge must not outshine a window of noise."""
FLOOR = 0.05
"""HU, added to a strength before its logarithm."""
SPREAD_FLOOR = 0.03
Z_CLIP = 6.0
INNER_MM, OUTER_MM, RING_MM = 5.0, 12.0, (22.0, 40.0)
"""Of a place: its middle, its region (of the 32 mm that CT-GAN replaces), and what surrounds the ± 25 mm that it touches."""
LOW, HIGH = (
    np.array([0.48296291, 0.83651630, 0.22414387, -0.12940952], dtype=np.float32) / np.float32(np.sqrt(2)),
    np.array([-0.12940952, -0.22414387, 0.83651630, -0.48296291], dtype=np.float32) / np.float32(np.sqrt(2)),
)
"""Wavelet taps of db2, scaled so that nothing is decimated."""
BANDS = ("corner", "diagonal", "middle", "grain", "lines", "rows", "wave1", "wave2", "wave2across")
RATIOS = ("corner", "middle", "grain", "wave1", "wave2", "wave2across")
"""Bands that are also looked at relative to `diagonal`: the colour of the noise whatever its strength."""
LAGS = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (0, 3))
"""(j, i) pixels at which the residual is compared with itself: interpolation and upsampling leave their rhythm there."""


def _bands(view: SliceView) -> dict[str, Slice]:
    """Name → high-pass residual in HU, from fine to coarse."""
    hu = view.hu
    gauss = [ndimage.gaussian_filter(hu, sigma, truncate=3.0) for sigma in (1.0, 1.6)]
    out = dict(view.residuals)
    out["grain"] = gauss[0] - gauss[1]
    fourth = np.array([1, -4, 6, -4, 1], dtype=np.float32) / np.float32(np.sqrt(70))
    out["lines"] = ndimage.correlate1d(hu, fourth, axis=1)
    out["rows"] = ndimage.correlate1d(hu, fourth, axis=0)
    low = ndimage.correlate1d(hu, LOW, axis=0)
    out["wave1"] = ndimage.correlate1d(ndimage.correlate1d(hu, HIGH, axis=0), HIGH, axis=1)
    low = ndimage.correlate1d(low, LOW, axis=1)
    wide_low, wide_high = _stretched(LOW), _stretched(HIGH)
    high = ndimage.correlate1d(low, wide_high, axis=0)
    out["wave2"] = ndimage.correlate1d(high, wide_high, axis=1)
    smooth = ndimage.correlate1d(low, wide_low, axis=0)
    out["wave2across"] = np.hypot(
        ndimage.correlate1d(smooth, wide_high, axis=1), ndimage.correlate1d(high, wide_low, axis=1)
    )
    return out


def _stretched(taps: Slice) -> Slice:
    """With a zero between each two (à trous)."""
    out = np.zeros(2 * len(taps) - 1, dtype=np.float32)
    out[::2] = taps
    return out


def _tissues(view: SliceView) -> dict[str, Plane]:
    aerated = ndimage.binary_erosion(view.lung & (view.hu < AERATED_HU), iterations=2)
    near = ndimage.binary_dilation(view.lung[::COARSE, ::COARSE], iterations=NEAR_CELLS)
    near = near.repeat(COARSE, 0).repeat(COARSE, 1)[: view.hu.shape[0], : view.hu.shape[1]]
    solid = view.body & near & (view.hu > SOLID_HU[0]) & (view.hu < SOLID_HU[1])
    return {"lung": np.asarray(aerated), "solid": np.asarray(solid), "chest": view.lung}


class _Pool:
    """Means over Gaussian windows within one tissue of a slice."""

    def __init__(self, mask: Plane, name: str, pixel_mm: tuple[float, float]) -> None:
        self._mask, self._cell = mask.astype(np.float32), [COARSE * mm for mm in pixel_mm]
        share = self._coarse(self._mask)
        self._shares = {window: self._smooth(share, window) for window in WINDOWS_MM}
        self.valid = {window: share > LEAST_FILL[name] for window, share in self._shares.items()}

    def __call__(self, values: Slice, window: str) -> Map:
        """NaN where the tissue fills too little of the window."""
        total = self._smooth(self._coarse(values * self._mask), window)
        mean = total / np.maximum(self._shares[window], 1e-6)
        return np.where(self.valid[window], mean, np.float32(np.nan))

    @staticmethod
    def _coarse(values: Slice) -> Map:
        return np.asarray(coarse_mean(values[None])[0])

    def _smooth(self, values: Map, window: str) -> Map:
        sigma = [WINDOWS_MM[window] / mm for mm in self._cell]
        return np.asarray(ndimage.gaussian_filter(values, sigma, truncate=3.0), dtype=np.float32)


def _measured(view: SliceView) -> Iterator[tuple[str, Map]]:
    """(name, map) of every measurement; the names are the same for every slice."""
    bands = _bands(view)
    fine = view.hu - ndimage.gaussian_filter(view.hu, 1.5, truncate=3.0)
    for name, mask in _tissues(view).items():
        pool = _Pool(mask, name, view.pixel_mm)
        limit = {band: CLIP * _median(np.abs(values), mask) + 1e-3 for band, values in bands.items()}
        for window in WINDOWS_MM:
            log = {
                band: np.log(pool(np.minimum(np.abs(values), limit[band]), window) + FLOOR)
                for band, values in bands.items()
            }
            yield from ((f"{name} {band} {window}", values) for band, values in log.items())
            yield from ((f"{name} {band}/diagonal {window}", log[band] - log["diagonal"]) for band in RATIOS)
            yield f"{name} lines/rows {window}", log["lines"] - log["rows"]
        most = 6 * _median(np.abs(fine), mask)
        cut = np.clip(fine, -most, most)
        yield from ((f"{name} {what}", values) for what, values in _moments(cut, pool))


def _moments(cut: Slice, pool: _Pool) -> Iterator[tuple[str, Map]]:
    """Autocorrelation at LAGS, skewness and the weight of the tails."""
    square = cut * cut
    second = np.maximum(pool(square, "wide"), 1e-3)
    for lag in LAGS:
        product = cut * np.roll(cut, (-lag[0], -lag[1]), (0, 1))
        yield f"lag {lag[0]} {lag[1]}", _map(pool(product, "wide") / second)
    yield "skewness", _map(pool(square * cut, "wide") / second**1.5)
    yield "tails", _map(np.log(np.maximum(pool(square * square, "wide"), 1e-6) / second**2))


def _map(values: npt.NDArray[np.floating]) -> Map:
    return np.asarray(values, dtype=np.float32)


def _median(values: Slice, mask: Plane) -> float:
    return float(np.median(values[mask])) if mask.any() else 1.0


@dataclass(frozen=True, slots=True, eq=False)
class SliceMeasurements:
    """z: float32 (measurements, j', i'), robust standard deviations from the slice's own median; NaN: not measurable."""

    names: tuple[str, ...]
    z: npt.NDArray[np.float32]
    pixel_mm: tuple[float, float]

    def at(self, j: float, i: float) -> npt.NDArray[np.float32]:
        """(3 · measurements,): the mean of the middle, of the region, and the region less its surroundings; 0 where not
        measurable, which is what the slice shows elsewhere."""
        reach = [int(RING_MM[1] / (mm * COARSE)) + 1 for mm in self.pixel_mm]
        centre = (j + 0.5) / COARSE - 0.5, (i + 0.5) / COARSE - 0.5
        low = [max(0, int(c) - r) for c, r in zip(centre, reach)]
        high = [min(n, int(c) + r + 2) for c, r, n in zip(centre, reach, self.z.shape[1:])]
        part = self.z[:, low[0] : high[0], low[1] : high[1]]
        axes = [
            (np.arange(a, b) - c) * COARSE * mm for a, b, c, mm in zip(low, high, centre, self.pixel_mm, strict=True)
        ]
        apart = np.hypot(axes[0][:, None], axes[1][None, :])
        inner, region = _mean(part, apart <= INNER_MM), _mean(part, apart <= OUTER_MM)
        around = _mean(part, (apart > RING_MM[0]) & (apart <= RING_MM[1]))
        return np.asarray(np.nan_to_num(np.concatenate([inner, region, region - around]), nan=0.0))


def _mean(part: npt.NDArray[np.float32], where: Plane) -> npt.NDArray[np.float32]:
    """Over the cells that were measured; NaN where none was."""
    values = part[:, where]
    known = np.isfinite(values)
    count = known.sum(axis=1)
    total = np.where(known, values, 0).sum(axis=1)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan), dtype=np.float32)


def measured(view: SliceView) -> SliceMeasurements:
    """Every measurement of one slice."""
    names, maps = [], []
    for name, values in _measured(view):
        names.append(name)
        maps.append(_standardised(values))
    return SliceMeasurements(tuple(names), np.stack(maps).astype(np.float32), view.pixel_mm)


def _standardised(values: Map) -> Map:
    known = values[np.isfinite(values)]
    if len(known) < LEAST_CELLS:
        return np.full_like(values, np.nan)
    middle = float(np.median(known))
    spread = float(np.median(np.abs(known - middle))) / 0.6745 + SPREAD_FLOOR
    return np.asarray(np.clip((values - middle) / spread, -Z_CLIP, Z_CLIP), dtype=np.float32)


def feature_names() -> tuple[str, ...]:
    """What the columns of `region_features` are."""
    names = [name for tissue in LEAST_FILL for name in _names_of(tissue)]
    return tuple(f"{name}, {part}" for part in ("middle", "region", "against its surroundings") for name in names)


def _names_of(tissue: str) -> Iterator[str]:
    for window in WINDOWS_MM:
        yield from (f"{tissue} {band} {window}" for band in BANDS)
        yield from (f"{tissue} {band}/diagonal {window}" for band in RATIOS)
        yield f"{tissue} lines/rows {window}"
    yield from (f"{tissue} lag {lag[0]} {lag[1]}" for lag in LAGS)
    yield from (f"{tissue} {name}" for name in ("skewness", "tails"))


def region_features(views: SliceViews, places: Sequence[Place]) -> npt.NDArray[np.float32]:
    """(n, features) of places in a volume; every slice is measured once."""
    made: dict[int, SliceMeasurements] = {}
    rows = []
    for k, j, i in places:
        number = int(np.clip(round(k), 0, views.shape[0] - 1))
        if number not in made:
            made[number] = measured(views[number])
        rows.append(made[number].at(j, i))
    return np.stack(rows) if rows else np.zeros((0, len(feature_names())), dtype=np.float32)
