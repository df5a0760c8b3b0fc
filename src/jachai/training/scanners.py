"""A sample and what was done to it → the same place as it is, as an archive or a launderer leaves it, or as another scanner gives it.

The intact scans at hand come from a handful of scanners. A network that learns their kernels and grids takes those of the next one
for tampering; so each attack is also seen through filters, grids and noise that no scanner of the collection has. A pair of
an altered and an unaltered place is changed alike: nothing that is done here tells the class.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from jachai.forensics.channels import MAD_TO_SIGMA, noise_place, residuals
from jachai.tamper import filters

Slices = npt.NDArray[np.float32]
"""(3, j, i) HU."""
Target = npt.NDArray[np.int8]
"""(j, i), as in `search_data`."""
Copy = Callable[[Slices, Target, np.random.Generator], tuple[Slices, Target]]

UNEVEN = 0.5
"""How often what is processed is first given uneven noise."""
MOVED, FILTERED, GRID, NOISY, DENOISED = 0.5, 0.6, 0.3, 0.3, 0.35
"""How often another scanner's picture lies on another grid, has another kernel, a pattern, more noise, or was denoised."""
TURN_DEG, ZOOM = 4.0, (0.88, 1.12)
FREQUENCIES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
"""Of Nyquist's: where the logarithm of a kernel's gain is drawn, with the standard deviations GAIN; between, it is linear."""
GAIN = (0.0, 0.12, 0.3, 0.45, 0.55, 0.6)
LEAST_GAIN, MOST_GAIN = -1.5, 0.8
"""Of that logarithm."""
UNEQUAL = 0.4
"""Most that it differs between two directions, either way."""
PERIOD, STRENGTH = (2.1, 8.0), (0.3, 3.0)
"""Of a pattern: pixels, and its amplitude over the finest noise of the lungs."""
SPACING_MM = (1.0, 0.7, 0.7)
"""That filters in mm are told: samples are cut in pixels."""
DENOISERS: tuple[tuple[filters.Filter, tuple[float, float], float], ...] = (
    (filters.non_local, (0.4, 1.3), 0.4),
    (filters.bilateral, (1.0, 4.0), 0.2),
    (filters.median, (0.3, 1.0), 0.2),
    (filters.gaussian, (0.3, 0.6), 0.2),
)
"""Filter, strengths, and how often it is taken."""
PAD = 16


def as_it_is(slices: Slices, target: Target, rng: np.random.Generator) -> tuple[Slices, Target]:
    """Nothing is changed."""
    return slices, target


def processed(slices: Slices, target: Target, rng: np.random.Generator) -> tuple[Slices, Target]:
    """(3, j, i) as another scanner, an archive or a launderer may leave it: noisier here than there, smoothed, sharpened,
    coarser in value, resampled."""
    if rng.random() < UNEVEN:
        slices = slices + uneven_noise(slices.shape, rng)
    kind = int(rng.integers(6))
    if kind == 0:
        slices = ndimage.gaussian_filter(slices, (0, *[float(rng.uniform(0.25, 0.7))] * 2))
    elif kind == 1:
        blurred = ndimage.gaussian_filter(slices, (0, *[float(rng.uniform(0.5, 1.0))] * 2))
        slices = slices + np.float32(rng.uniform(0.2, 1.0)) * (slices - blurred)
    elif kind == 2:
        slices = slices + rng.standard_normal(slices.shape, dtype=np.float32) * np.float32(rng.uniform(1, 12))
    elif kind == 3:
        step = np.float32(rng.choice((2.0, 4.0, 8.0)))
        slices = np.rint(slices / step) * step
    elif kind == 4:
        shift = rng.uniform(-0.5, 0.5, 2)
        slices = ndimage.shift(slices, (0, *shift), order=int(rng.choice((1, 3))), mode="nearest")
    else:
        slices = ndimage.median_filter(slices, (1, 3, 3)) * np.float32(0.5) + slices * np.float32(0.5)
    return np.rint(slices).astype(np.float32), target


def another_scanner(slices: Slices, target: Target, rng: np.random.Generator) -> tuple[Slices, Target]:
    """(3, j, i) on another grid, with another kernel, a pattern, other noise, or denoised: one or several of them."""
    moved = rng.random() < MOVED
    if moved:
        slices, target = regridded(slices, target, rng)
    if rng.random() < FILTERED or not moved:
        slices = with_kernel(slices, rng)
    if rng.random() < GRID:
        slices = slices + pattern(slices, rng)
    if rng.random() < NOISY:
        slices = slices + uneven_noise(slices.shape, rng)
    if rng.random() < DENOISED:
        filter_, strengths, _ = DENOISERS[int(rng.choice(len(DENOISERS), p=[often for _, _, often in DENOISERS]))]
        slices = filter_(slices, _between(strengths, rng), SPACING_MM, "2d")
    return np.rint(slices).astype(np.float32), target


def regridded(slices: Slices, target: Target, rng: np.random.Generator) -> tuple[Slices, Target]:
    """Turned, enlarged and shifted a little about the middle, interpolated; the target moves along."""
    angle, zoom = np.deg2rad(rng.uniform(-TURN_DEG, TURN_DEG)), rng.uniform(*ZOOM)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * zoom
    middle = (np.array(target.shape) - 1) / 2
    offset = middle - matrix @ middle + rng.uniform(-0.5, 0.5, 2)
    order = int(rng.choice((1, 1, 3)))
    out = [ndimage.affine_transform(one, matrix, offset, order=order, mode="reflect") for one in slices]
    return np.stack(out), ndimage.affine_transform(target, matrix, offset, order=0, mode="reflect")


def with_kernel(slices: Slices, rng: np.random.Generator) -> Slices:
    """Every slice through the same filter, whose gain is drawn over frequency and direction; the mean stays."""
    room = np.pad(slices, ((0, 0), (PAD, PAD), (PAD, PAD)), mode="reflect")
    rows, columns = room.shape[1:]
    down, across = fft.fftfreq(rows)[:, None] * 2, fft.rfftfreq(columns)[None] * 2
    far, direction = np.hypot(down, across), np.arctan2(down, across)
    log = np.interp(far, FREQUENCIES, rng.standard_normal(len(GAIN)) * GAIN)
    log += rng.uniform(0, UNEQUAL) * np.minimum(far, 1) * np.cos(2 * (direction - rng.uniform(0, np.pi)))
    gain = np.exp(np.clip(log, LEAST_GAIN, MOST_GAIN)).astype(np.float32)
    out = fft.irfft2(fft.rfft2(room, axes=(1, 2)) * gain, s=(rows, columns), axes=(1, 2))
    return np.asarray(out[:, PAD:-PAD, PAD:-PAD], dtype=np.float32)


def pattern(slices: Slices, rng: np.random.Generator) -> Slices:
    """(1, j, i) up to three waves, the same in all slices, stronger here than there: a fine grid, as interpolation leaves it."""
    finest = residuals(slices[1])[0][noise_place(slices[1])]
    j, i = np.indices(slices.shape[1:], dtype=np.float32)
    waves = np.zeros(slices.shape[1:], np.float32)
    first = rng.uniform(0, np.pi)
    for number in range(int(rng.integers(1, 4))):
        angle = first + number * np.pi / 2 + rng.normal(0, 0.05)
        phase = 2 * np.pi / rng.uniform(*PERIOD) * (np.cos(angle) * j + np.sin(angle) * i) + rng.uniform(0, 2 * np.pi)
        waves += np.sin(phase).astype(np.float32)
    level = MAD_TO_SIGMA * float(np.median(np.abs(finest))) + 0.5
    return np.asarray(waves * np.exp(_slope(slices.shape, rng)) * level * _between(STRENGTH, rng), np.float32)[None]


def uneven_noise(shape: tuple[int, ...], rng: np.random.Generator) -> Slices:
    """(3, j, i) noise of a reconstruction's grain whose strength changes slowly over the slice, as behind shoulders, spine
    and heart: many scanners show it, the few intact scans at hand hardly do."""
    grain = float(rng.uniform(0.0, 1.0))
    noise = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), (0.3, grain, grain))
    noise /= np.float32(noise.std())
    field = noise * np.exp(_slope(shape, rng) * np.float32(rng.uniform(0, 1.2))) * np.float32(_between((3, 60), rng))
    return np.asarray(field, dtype=np.float32)


def _slope(shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """(j, i) a smooth field, mostly within −1…1."""
    values = rng.uniform(-1, 1, (3, 3)).astype(np.float32)
    return np.asarray(ndimage.zoom(values, [n / 3 for n in shape[1:]], order=2), dtype=np.float32)


def _between(bounds: tuple[float, float], rng: np.random.Generator) -> float:
    """Drawn log-uniformly."""
    return float(np.exp(rng.uniform(*np.log(bounds))))
