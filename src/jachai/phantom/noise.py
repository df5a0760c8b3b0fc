"""Kernel, spacing and generator → the noise of a CT or MR scanner, without a signal.

CT (filtered back-projection): the in-plane noise power is NPS(f) ∝ f · MTF(f)², the ramp times the squared apodisation
(Riederer, Pelc, Chesler, Phys. Med. Biol. 23:446, 1978; Boedeker et al., Phys. Med. Biol. 52:4027, 2007), folded at the
Nyquist frequency of the pixels, since an image is a point sample. Between slices it is correlated as the slice profiles
overlap. MR magnitude images: Rician (Gudbjartsson and Patz, Magn. Reson. Med. 34:910, 1995).
"""

from __future__ import annotations

import difflib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft

from jachai.core.errors import UsageError
from jachai.core.volume import Voxels

FloatArray = npt.NDArray[np.float64]

FWHM_PER_SIGMA = 2 * np.sqrt(2 * np.log(2))
"""Full width at half maximum of a Gaussian of standard deviation 1."""
PADDING_MM = 12.0
"""Rim cut off after filtering by FFT, so that opposite edges of a slice share nothing: kernels die out within 6 mm."""
FOLDS = 3
"""Aliases summed on each side: ±3 sampling frequencies reach beyond the band of every kernel here."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A reconstruction kernel. MTF(f) = exp(-2π²·psf_mm²·f²) · (1 + edge · bump(f)), f in cycles per mm.

    psf_mm: standard deviation of the Gaussian part. edge: height of the edge enhancement, a bump of 1 at `edge_per_mm`.
    """

    name: str
    psf_mm: float
    edge: float = 0.0
    edge_per_mm: float = 0.5

    def enhancement(self, frequency: FloatArray) -> FloatArray:
        """Edge enhancement at frequencies in cycles per mm: 1 at 0, largest at `edge_per_mm`, 1 far above."""
        u = (frequency / self.edge_per_mm) ** 2
        return np.asarray(1 + self.edge * u * np.exp(1 - u))

    def mtf(self, frequency: FloatArray) -> FloatArray:
        """Modulation transfer at frequencies in cycles per mm; 1 at 0."""
        return np.asarray(np.exp(-2 * (np.pi * self.psf_mm * frequency) ** 2) * self.enhancement(frequency))

    def nps(self, frequency: FloatArray) -> FloatArray:
        """Noise power (any unit) before sampling, at frequencies in cycles per mm: ramp × apodisation squared."""
        return np.asarray(np.abs(frequency) * self.mtf(frequency) ** 2)


KERNELS = {
    kernel.name: kernel
    for kernel in (
        Kernel("soft", psf_mm=0.54),  # 50 % MTF at 0.35/mm, noise peak 0.21/mm: Siemens B31f, GE SOFT
        Kernel("standard", psf_mm=0.43),  # 50 % MTF at 0.44/mm, noise peak 0.26/mm: GE STANDARD, Philips B
        Kernel("sharp", psf_mm=0.28, edge=0.55, edge_per_mm=0.55),  # 50 % at 0.84/mm: GE LUNG, Siemens B70f
    )
}
"""Name → kernel. Names after what a radiographer chooses; beside each what it stands for."""


def kernel_named(name: str) -> Kernel:
    """The kernel of that name. Raises UsageError with the choices and the nearest one."""
    if name in KERNELS:
        return KERNELS[name]
    near = difflib.get_close_matches(name, KERNELS, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise UsageError(f"There is no kernel {name!r}.", f"Choose one of {', '.join(KERNELS)}.{hint}")


def folded_nps(kernel: Kernel, shape_ji: tuple[int, int], pixel_mm: tuple[float, float]) -> FloatArray:
    """Noise power after sampling at the pixels, on the half plane of `rfft2`: (j, i // 2 + 1), mean over the full plane 1."""
    fj = np.fft.fftfreq(shape_ji[0], pixel_mm[0])[:, None]
    fi = np.fft.rfftfreq(shape_ji[1], pixel_mm[1])[None, :]
    power = np.zeros(np.broadcast_shapes(fj.shape, fi.shape))
    for m in range(-FOLDS, FOLDS + 1):
        for n in range(-FOLDS, FOLDS + 1):
            power += kernel.nps(np.hypot(fj + m / pixel_mm[0], fi + n / pixel_mm[1]))
    return np.asarray(power / _full_plane_mean(power, shape_ji[1]))


def _full_plane_mean(half: FloatArray, width: int) -> float:
    """Mean over the whole frequency plane of a power given on the half plane of `rfft2`."""
    twice = np.full(half.shape[1], 2.0)
    twice[0] = 1.0
    if width % 2 == 0:
        twice[-1] = 1.0
    return float((half * twice).sum() / (half.shape[0] * width))


def slice_correlation(lag_mm: npt.ArrayLike, thickness_mm: float) -> FloatArray:
    """Correlation of noise at the same place of two slices `lag_mm` apart: overlap of two Gaussian slice profiles.

    thickness_mm: full width at half maximum of the profile (below a nanometre: slices share nothing).
    """
    lag = np.asarray(lag_mm, dtype=np.float64)
    if thickness_mm < 1e-6:
        return np.where(lag == 0, 1.0, 0.0)
    sigma = thickness_mm / FWHM_PER_SIGMA
    return np.asarray(np.exp(-(lag**2) / (4 * sigma**2)))


def slice_weights(step_mm: float, thickness_mm: float) -> FloatArray:
    """(2 n + 1,) weights that turn independent slices into slices correlated as `slice_correlation` says; energy 1.

    The symmetric square root of the correlation: its transform is the root of the transform of the correlation.
    """
    reach = max(8, int(np.ceil(4 * thickness_mm / step_mm)))
    size = 8 * reach
    lag = np.minimum(np.arange(size), size - np.arange(size)) * step_mm
    power = np.maximum(np.fft.rfft(slice_correlation(lag, thickness_mm)).real, 0)
    weights = np.roll(np.fft.irfft(np.sqrt(power), size), reach)[: 2 * reach + 1]
    kept = np.flatnonzero(np.abs(weights) > 1e-3 * np.abs(weights).max())
    n = int(max(reach - kept[0], kept[-1] - reach))
    weights = weights[reach - n : reach + n + 1]
    return np.asarray(weights / np.sqrt((weights**2).sum()))


def ct_noise_slices(
    shape_kji: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    kernel: Kernel | str,
    rng: np.random.Generator,
    thickness_mm: float | None = None,
) -> Iterator[Voxels]:
    """The slices of `ct_noise` one after the other: (j, i) each, float32, in the memory of a few slices."""
    kernel = kernel_named(kernel) if isinstance(kernel, str) else kernel
    n, height, width = shape_kji
    step, *pixel = spacing_mm
    weights = slice_weights(step, step if thickness_mm is None else thickness_mm).astype(np.float32)
    padded = _roomy(height, pixel[0]), _roomy(width, pixel[1])
    transfer = np.sqrt(folded_nps(kernel, padded, (pixel[0], pixel[1]))).astype(np.float32)
    for mixed in _white(n, padded, weights, rng):
        filtered = fft.irfft2(fft.rfft2(mixed) * transfer, padded)
        yield np.ascontiguousarray(filtered[:height, :width])


def _roomy(size: int, pixel_mm: float) -> int:
    """So many pixels are made that opposite edges share nothing, and that the transform is fast."""
    return int(fft.next_fast_len(size + int(np.ceil(PADDING_MM / pixel_mm)), real=True))


def _white(count: int, shape_ji: tuple[int, int], weights: Voxels, rng: np.random.Generator) -> Iterator[Voxels]:
    """White slices (j, i), each the weighted sum of independent ones, of which neighbours share all but one."""
    white: deque[Voxels] = deque(maxlen=len(weights))
    for _ in range(len(weights) - 1):
        white.append(rng.standard_normal(shape_ji, dtype=np.float32))
    for _ in range(count):
        white.append(rng.standard_normal(shape_ji, dtype=np.float32))
        mixed = white[0] * weights[0]
        for layer, weight in zip(list(white)[1:], weights[1:], strict=True):
            mixed += layer * weight
        yield mixed


def ct_noise(
    shape_kji: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    kernel: Kernel | str,
    rng: np.random.Generator,
    thickness_mm: float | None = None,
) -> Voxels:
    """CT noise of mean 0 and variance 1 everywhere: (k, j, i), float32; spacing (k, j, i) in mm.

    thickness_mm: width of the slice profile; None: the slice spacing. Thicker than the spacing: slices overlap.
    Raises UsageError for an unknown kernel.
    """
    noise = np.empty(shape_kji, dtype=np.float32)
    for k, layer in enumerate(ct_noise_slices(shape_kji, spacing_mm, kernel, rng, thickness_mm)):
        noise[k] = layer
    return noise


def rician(signal: Voxels, sigma: float, rng: np.random.Generator) -> Voxels:
    """Magnitude of `signal` + complex white noise of standard deviation `sigma` per channel; any shape, float32."""
    real = rng.standard_normal(signal.shape, dtype=np.float32)
    imaginary = rng.standard_normal(signal.shape, dtype=np.float32)
    return np.asarray(np.hypot(signal + np.float32(sigma) * real, np.float32(sigma) * imaginary))


WATER_PER_MM = 0.0193
"""Attenuation of water at 70 keV, the effective energy of a 120 kVp beam (NIST XCOM)."""
VIEWS = 18
"""Directions in which the body is projected: every 10°."""
BOWTIE_RADIUS_MM = 185.0
"""Half the width of the water cylinder whose profile the bowtie filter flattens by `BOWTIE_SHARE`."""
BOWTIE_SHARE = 0.35
"""How much of that cylinder's missing attenuation the filter adds off-centre (typical body filter, assumed)."""
DOSE_MODULATION = 0.75
"""Share of the contrast in attenuation left after tube current modulation (Kalra et al., Radiology 233:649, 2004)."""


class NoiseLevel:
    """A coarse slice of HU → the standard deviation of its noise, relative to nothing in particular: divide by a reference.

    The variance of filtered back-projection at a point is the mean over the views of the variance of the ray through it,
    which grows as exp(attenuation along the ray): more in the middle and behind shoulders, less at the rim and in air.
    """

    def __init__(self, x_mm: FloatArray, y_mm: FloatArray) -> None:
        """x_mm (i,), y_mm (j,): even coordinates of the coarse pixels, isocentre at 0."""
        self._pixel = float(x_mm[1] - x_mm[0])
        self._area = self._pixel * float(y_mm[1] - y_mm[0])
        angles = np.arange(VIEWS) * np.pi / VIEWS
        reach = float(np.hypot(np.abs(x_mm).max(), np.abs(y_mm).max())) + 2 * self._pixel
        self._size = int(2 * reach / self._pixel) + 2
        across = np.cos(angles)[:, None, None] * x_mm + np.sin(angles)[:, None, None] * y_mm[:, None]
        place = (across + reach) / self._pixel
        self._bin = place.astype(np.intp)
        self._part = (place - self._bin).astype(np.float64)
        offset = np.arange(self._size) * self._pixel - reach
        chord = 2 * np.sqrt(np.maximum(BOWTIE_RADIUS_MM**2 - offset**2, 0))
        self._bowtie = BOWTIE_SHARE * WATER_PER_MM * (2 * BOWTIE_RADIUS_MM - chord)

    def of(self, hu: Voxels) -> Voxels:
        """(j, i) HU → (j, i) relative standard deviation, float32, > 0."""
        return np.sqrt(sum(self.views(hu)) / VIEWS).astype(np.float32)

    def views(self, hu: Voxels, modulation: float = DOSE_MODULATION) -> Iterator[FloatArray]:
        """(j, i) HU → for each of VIEWS directions the relative variance (j, i) of the ray through every pixel."""
        mass = np.clip((hu.astype(np.float64) + 1000) / 1000, 0, None) * WATER_PER_MM * self._area / self._pixel
        for bins, part in zip(self._bin, self._part, strict=True):
            ray = np.bincount(bins.ravel(), (mass * (1 - part)).ravel(), self._size)
            ray += np.bincount(bins.ravel() + 1, (mass * part).ravel(), self._size)
            seen = np.exp(modulation * (ray + self._bowtie))
            yield seen[bins] * (1 - part) + seen[bins + 1] * part


SECTORS = 6
"""Ranges of direction whose noise is made apart, three views each: enough for the streaks behind shoulders and arms."""
COARSE_MM = 6.0
"""Pixels of the coarse slices on which rays are followed."""
BLUR_MM, BLUR_RADIUS_MM = 0.5, 100.0
"""Far from the isocentre the gantry's turning smears the image: σ of what noise is mixed with there, and where half of it is."""


def scanned_noise_slices(
    hu: Voxels,
    spacing_mm: tuple[float, float, float],
    kernel: Kernel,
    rng: np.random.Generator,
    modulation: float = DOSE_MODULATION,
    blur: float = 0.0,
    thickness_mm: float | None = None,
) -> Iterator[Voxels]:
    """(k, j, i) HU → the noise of each slice as a scanner would give it, float32 (j, i), on no particular scale: stronger where rays
    meet more of the body, in streaks along those rays, and smoother far from the isocentre.

    A view adds frequencies of its own direction alone (central slice theorem), with the variance of its rays (see `NoiseLevel`).
    modulation: how much of the contrast in attenuation is left. blur: 0…1, see BLUR_MM. Parameters otherwise as for `ct_noise`.
    """
    n, height, width = hu.shape
    step, *pixel = spacing_mm
    every = [max(1, min(round(COARSE_MM / mm), size // 2)) for mm, size in zip(pixel, (height, width))]
    weights = slice_weights(step, step if thickness_mm is None else thickness_mm).astype(np.float32)
    padded = _roomy(height, pixel[0]), _roomy(width, pixel[1])
    transfer = np.sqrt(folded_nps(kernel, padded, (pixel[0], pixel[1]))).astype(np.float32)
    down, across = np.fft.fftfreq(padded[0], pixel[0])[:, None], np.fft.rfftfreq(padded[1], pixel[1])[None]
    angle, frequency = np.arctan2(down, across), np.hypot(down, across)
    sector = np.floor(np.mod(angle, np.pi) * (SECTORS / np.pi)).astype(np.int8) % SECTORS
    sizes = [size // step for size, step in zip((height, width), every)]
    y, x = ((np.arange(size) - (size - 1) / 2) * mm * step for size, mm, step in zip(sizes, pixel, every))
    level = NoiseLevel(x, y)
    smear = np.exp(-2 * (np.pi * BLUR_MM * frequency) ** 2).astype(np.float32)
    radius = np.hypot(x[None], y[:, None]) / BLUR_RADIUS_MM
    smeared = enlarged((blur * radius**2 / (1 + radius**2)).astype(np.float32), (height, width))
    for k, mixed in enumerate(_white(n, padded, weights, rng)):
        spectrum = fft.rfft2(mixed) * transfer
        block = hu[k, : sizes[0] * every[0], : sizes[1] * every[1]]
        coarse = block.reshape(sizes[0], every[0], sizes[1], every[1]).mean(axis=(1, 3))
        views = np.array(list(level.views(coarse, modulation))).reshape(SECTORS, -1, *sizes).mean(axis=1)
        out = np.zeros((height, width), dtype=np.float32)
        for number, variance in enumerate(np.sqrt(views).astype(np.float32)):
            part = np.where(sector == number, spectrum, 0)
            streaks = fft.irfft2(part, padded)[:height, :width]
            if blur:
                streaks += smeared * (fft.irfft2(part * smear, padded)[:height, :width] - streaks)
            out += streaks * enlarged(variance, (height, width))
        yield out


def enlarged(coarse: Voxels, shape_ji: tuple[int, int]) -> Voxels:
    """(j', i') → (j, i), linear between the middles of coarse pixels, continued at the edges."""
    out: Voxels = coarse
    for axis, size in enumerate(shape_ji):
        place = np.clip((np.arange(size) + 0.5) * coarse.shape[axis] / size - 0.5, 0, coarse.shape[axis] - 1)
        low = np.minimum(place.astype(np.intp), coarse.shape[axis] - 2)
        part = (place - low).astype(np.float32)
        part = part[:, None] if axis == 0 else part[None]
        out = out.take(low, axis) * (1 - part) + out.take(low + 1, axis) * part
    return out
