"""Settings → a chest CT made by code, with the noise of a scanner, and the nodules that are in it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import fft, sparse

from jachai.core.errors import UsageError
from jachai.core.geometry import Geometry
from jachai.core.volume import AIR_HU, Modality, Provenance, Volume, Voxels
from jachai.phantom.noise import FWHM_PER_SIGMA, Kernel, NoiseLevel, ct_noise_slices, kernel_named
from jachai.phantom.organs import AIR, BLOOD, Grains, edge, flat_grain, lung_field, paint, slice_hu
from jachai.phantom.texture import Sampling
from jachai.phantom.torso import Patient, Plane
from jachai.phantom.tubes import FloatArray, Tubes, draw
from jachai.phantom.vessels import bronchi, grow

HU_MAX = 3071.0
"""Largest value of a 12-bit CT: 4095 with an intercept of -1024."""
SLAB = 12
"""Slices made at a time: bounds the memory of the vessels."""
TWIGS = 4500
"""Ends of each of the four trees of vessels (arteries and veins, right and left): the last are 1 mm wide."""
ARTERY_MM, VEIN_MM = 5.7, 4.9
"""Radius of the main artery and vein of a lung where they enter it."""
LUNG_GRID_MM = 5.0
"""Step of the grid on which places in the lungs are looked for."""
COARSE_MM = 6.0
"""Step of the grid on which the noise level is worked out; it changes slowly."""
NODULE_CLEARANCE_MM = 4.0
"""Least lung between a nodule and the pleura."""
NODULE_DIAMETERS_MM = (6.0, 16.0)
NODULE_HU = (0.0, 60.0)
"""Range of the nodules that are placed by chance: solid ones."""


@dataclass(frozen=True, slots=True)
class Nodule:
    """A round nodule: ground truth. center_mm (x, y, z) LPS; hu: its density before blur and noise."""

    center_mm: tuple[float, float, float]
    diameter_mm: float
    hu: float


@dataclass(frozen=True, slots=True)
class ChestPhantom:
    """What to make. The patient lives in mm and depends on `seed` alone: another grid samples the same patient.

    shape_kji, spacing_mm: of the volume. thickness_mm: width of the slice profile, None: the slice spacing.
    center_mm: (x, y, z) of the middle of the volume; 0 is the middle of the chest, whose lungs reach from about
    z = -115 to 105 mm. kernel: 'soft', 'standard' or 'sharp'. noise_hu: standard deviation of the noise in the middle of
    the body at z = 0 (the dose); 0 for none. nodules: how many to place by chance within the volume, or which ones.
    noise_seed: another scan of the same patient; None: `seed`.
    """

    shape_kji: tuple[int, int, int] = (96, 256, 256)
    spacing_mm: tuple[float, float, float] = (2.5, 1.4, 1.4)
    seed: int = 0
    kernel: str = "standard"
    noise_hu: float = 14.0
    nodules: int | tuple[Nodule, ...] = 3
    thickness_mm: float | None = None
    center_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    noise_seed: int | None = None

    def __post_init__(self) -> None:
        kernel_named(self.kernel)
        thick = self.spacing_mm[0] if self.thickness_mm is None else self.thickness_mm
        if min(self.shape_kji) < 1 or min(*self.spacing_mm, thick) <= 0 or not np.isfinite(self.spacing_mm).all():
            raise UsageError("A phantom needs a shape of at least 1 voxel and a spacing above 0 mm.")
        if not 0 <= self.noise_hu < 1000:
            raise UsageError("noise_hu must lie between 0 and 1000 HU.")
        if self.seed < 0 or (self.noise_seed or 0) < 0:
            raise UsageError("Seeds must be 0 or larger.")


def chest(settings: ChestPhantom = ChestPhantom()) -> tuple[Volume, tuple[Nodule, ...]]:
    """A chest CT in whole HU between -1024 and 3071, and its nodules. The same settings give the same voxels.

    Fewer nodules than asked come back where the volume holds too little lung.
    """
    kernel = kernel_named(settings.kernel)
    geometry = _geometry(settings)
    plane = Plane(_sampling(settings, geometry, kernel))
    patient = Patient(settings.seed)
    nodules = _nodules(settings, geometry)
    voxels = _anatomy(settings, geometry, plane, patient, nodules, kernel)
    if settings.noise_hu > 0:
        _add_noise(voxels, settings, geometry, plane, patient, kernel)
    np.clip(np.rint(voxels, out=voxels), AIR_HU, HU_MAX, out=voxels)
    thickness = settings.spacing_mm[0] if settings.thickness_mm is None else settings.thickness_mm
    attributes = {"kernel": settings.kernel, "thickness_mm": f"{thickness:g}", "seed": str(settings.seed)}
    provenance = Provenance("phantom:chest", "phantom", step=1.0, attributes=attributes)
    return Volume(voxels, Modality.CT, geometry, provenance), nodules


def _geometry(settings: ChestPhantom) -> Geometry:
    dk, dj, di = settings.spacing_mm
    k, j, i = ((n - 1) / 2 for n in settings.shape_kji)
    x, y, z = settings.center_mm
    geometry = Geometry.regular(settings.shape_kji[0], (dk, dj, di), (x - i * di, y - j * dj, z - k * dk))
    if settings.thickness_mm is None:
        return geometry
    return Geometry(geometry.origins_mm, geometry.row_step_mm, geometry.column_step_mm, settings.thickness_mm)


def _sampling(settings: ChestPhantom, geometry: Geometry, kernel: Kernel) -> Sampling:
    """Coordinates of columns and rows, and the blur: kernel and pixel in-plane, slice profile across."""
    _, height, width = settings.shape_kji
    _, dj, di = settings.spacing_mm
    x0, y0 = geometry.origins_mm[0, :2]
    blur = float(np.sqrt(kernel.psf_mm**2 + (dj**2 + di**2) / 24))
    thickness = settings.spacing_mm[0] if settings.thickness_mm is None else settings.thickness_mm
    return Sampling(x0 + np.arange(width) * di, y0 + np.arange(height) * dj, blur, thickness / FWHM_PER_SIGMA)


@dataclass(frozen=True, slots=True, eq=False)
class _LungSpace:
    """Places inside the lungs: (n, 3) mm, on a jittered grid, and (n,) distance in mm to the surface."""

    places: FloatArray
    depth: FloatArray


@lru_cache(maxsize=8)
def _lung_space(seed: int) -> _LungSpace:
    x, y = np.arange(-145, 146, LUNG_GRID_MM), np.arange(-110, 111, LUNG_GRID_MM)
    z = np.arange(-125, 116, LUNG_GRID_MM)
    plane = Plane(Sampling(x, y, 1.0, 1.0))
    patient = Patient(seed)
    depth = -np.stack([lung_field(patient, plane, float(height)) for height in z])
    inside = np.argwhere(depth > 1.0)
    jitter = np.random.default_rng((seed, 3)).uniform(-0.5, 0.5, (len(inside), 3)) * LUNG_GRID_MM
    places = np.stack([x[inside[:, 2]], y[inside[:, 1]], z[inside[:, 0]]], axis=1) + jitter
    return _LungSpace(places, depth[tuple(inside.T)].astype(np.float64))


@dataclass(frozen=True, slots=True, eq=False)
class _Trees:
    """Vessels, walls of bronchi and their lumens, of both lungs."""

    vessels: Tubes
    walls: Tubes
    lumens: Tubes


@lru_cache(maxsize=8)
def _trees(seed: int) -> _Trees:
    space, patient = _lung_space(seed), Patient(seed)
    vessels, walls, lumens = [], [], []
    for n, (hilum, sign) in enumerate(zip(patient.hilum, (-1, 1), strict=True)):
        rng = np.random.default_rng((seed, 4, n))
        lung = space.places[(np.sign(space.places[:, 0]) == sign) & (space.depth > 2.5)]
        ends = lung[rng.permutation(len(lung))[: 2 * TWIGS]]
        arteries = grow(ends[::2], hilum, np.array([sign * 6.0, 2, -2]), ARTERY_MM, rng)
        veins = grow(ends[1::2], hilum - np.array([0.0, 0, 18]), np.array([sign * 6.0, 0, -2]), VEIN_MM, rng)
        vessels += [arteries.tubes(rng), veins.tubes(rng)]
        wall, lumen = bronchi(arteries, np.array([sign * 0.25, 0.85, 0.4]))
        walls.append(wall)
        lumens.append(lumen)
    return _Trees(Tubes.joined(vessels), Tubes.joined(walls), Tubes.joined(lumens))


def _nodules(settings: ChestPhantom, geometry: Geometry) -> tuple[Nodule, ...]:
    """The nodules asked for, or the first so many places, in an order that only the seed decides, that the volume holds."""
    if not isinstance(settings.nodules, int):
        return settings.nodules
    space = _lung_space(settings.seed)
    rng = np.random.default_rng((settings.seed, 5))
    low = geometry.index_to_mm((0, 0, 0))
    high = geometry.index_to_mm(np.array(settings.shape_kji) - 1)
    found: list[Nodule] = []
    for place in rng.permutation(len(space.places)):
        diameter, hu = float(rng.uniform(*NODULE_DIAMETERS_MM)), float(rng.uniform(*NODULE_HU))
        centre = space.places[place]
        reach = diameter / 2 + NODULE_CLEARANCE_MM
        apart = all(np.linalg.norm(centre - other.center_mm) > 40 for other in found)
        if len(found) == settings.nodules:
            break
        inside = space.depth[place] > reach + LUNG_GRID_MM / 2
        if inside and apart and (centre - reach > low).all() and (centre + reach < high).all():
            x, y, z = (round(float(c), 1) for c in centre)
            found.append(Nodule((x, y, z), round(diameter, 1), round(hu)))
    return tuple(found)


def _anatomy(
    settings: ChestPhantom,
    geometry: Geometry,
    plane: Plane,
    patient: Patient,
    nodules: tuple[Nodule, ...],
    kernel: Kernel,
) -> Voxels:
    """(k, j, i) HU without noise."""
    voxels = np.empty(settings.shape_kji, dtype=np.float32)
    grains = Grains(settings.seed, plane.sampling)
    trees = _trees(settings.seed)
    z = geometry.origins_mm[:, 2]
    for first in range(0, len(z), SLAB):
        slab = voxels[first : first + SLAB]
        height = z[first : first + SLAB]
        shares = np.empty_like(slab)
        for k, at in enumerate(height):
            slab[k], shares[k] = slice_hu(patient, plane, float(at), grains.at(float(at)))
        paint(slab, draw(trees.vessels, plane.sampling, height) * shares, BLOOD)
        paint(slab, draw(trees.walls, plane.sampling, height) * shares, BLOOD - 20)
        paint(slab, draw(trees.lumens, plane.sampling, height) * shares, AIR + 20)
        for nodule in nodules:
            _put_nodule(slab, nodule, plane, height)
        if kernel.edge:
            for layer in slab:
                layer[:] = _enhanced(layer, settings.spacing_mm[1:], kernel)
    return voxels


def _put_nodule(slab: Voxels, nodule: Nodule, plane: Plane, height: FloatArray) -> None:
    """Replace what is there by a ball."""
    x, y, z = nodule.center_mm
    radius = nodule.diameter_mm / 2
    blur = float(np.sqrt((2 * plane.blur**2 + plane.blur_z**2) / 3))
    reach = radius + 3 * max(plane.blur, plane.blur_z)
    i = slice(*np.searchsorted(plane.x[0], (x - reach, x + reach)))
    j = slice(*np.searchsorted(plane.y[:, 0], (y - reach, y + reach)))
    for k in np.flatnonzero(np.abs(height - z) < reach):
        distance = np.sqrt((plane.x[:, i] - x) ** 2 + (plane.y[j] - y) ** 2 + (height[k] - z) ** 2)
        paint(slab[k, j, i], edge(distance.astype(np.float32) - radius, blur), nodule.hu)


def _enhanced(layer: Voxels, pixel_mm: tuple[float, float], kernel: Kernel) -> Voxels:
    """The slice with the kernel's edge enhancement; its rim is mirrored, so that opposite edges do not meet."""
    rim = 12
    padded = np.pad(layer, rim, mode="edge")
    fj = np.fft.fftfreq(padded.shape[0], pixel_mm[0])[:, None]
    fi = np.fft.rfftfreq(padded.shape[1], pixel_mm[1])[None, :]
    gain = kernel.enhancement(np.hypot(fj, fi)).astype(np.float32)
    return np.asarray(fft.irfft2(fft.rfft2(padded) * gain, padded.shape)[rim:-rim, rim:-rim])


def _add_noise(
    voxels: Voxels, settings: ChestPhantom, geometry: Geometry, plane: Plane, patient: Patient, kernel: Kernel
) -> None:
    """Add noise whose level follows the attenuation round every place, in place."""
    x, y = np.arange(-192, 193, COARSE_MM), np.arange(-138, 139, COARSE_MM)
    coarse = Plane(Sampling(x, y, COARSE_MM / 3, COARSE_MM / 3))
    still, level = flat_grain(coarse.shape), NoiseLevel(x, y)
    middle = level.of(slice_hu(patient, coarse, 0.0, still)[0])
    reference = float(middle[np.ix_(np.abs(y) < 20, np.abs(x) < 20)].mean())
    across, down = _linear(plane.sampling.x_mm, x), _linear(plane.sampling.y_mm, y)
    seed = settings.seed if settings.noise_seed is None else settings.noise_seed
    rng = np.random.default_rng((seed, 6))
    layers = ct_noise_slices(settings.shape_kji, settings.spacing_mm, kernel, rng, settings.thickness_mm)
    for k, layer in enumerate(layers):
        z = float(geometry.origins_mm[k, 2])
        sigma = level.of(slice_hu(patient, coarse, z, still)[0]) * np.float32(settings.noise_hu / reference)
        voxels[k] += layer * (down @ (across @ sigma.T).T)


def _linear(at: FloatArray, nodes: FloatArray) -> sparse.csr_array:
    """(n, nodes) weights of linear interpolation at `at`, constant beyond the ends."""
    place = np.clip((at - nodes[0]) / (nodes[1] - nodes[0]), 0, len(nodes) - 1)
    return sparse.csr_array(np.maximum(1 - np.abs(place[:, None] - np.arange(len(nodes))), 0).astype(np.float32))
