"""Settings → an MRI of a head made by code, with coil shading and Rician noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jachai.core.errors import UsageError
from jachai.core.geometry import Geometry
from jachai.core.volume import Modality, Provenance, Volume, Voxels
from jachai.phantom.head import Head, Lesion, Tissue, slice_signal
from jachai.phantom.noise import FWHM_PER_SIGMA, rician
from jachai.phantom.organs import Grains
from jachai.phantom.texture import Sampling, Texture
from jachai.phantom.torso import Plane

RELAXATION_MS = {
    Tissue.AIR: (1.0, 1.0, 0.0),
    Tissue.SKIN: (900.0, 47.0, 0.75),
    Tissue.FAT: (350.0, 70.0, 1.0),
    Tissue.BONE: (900.0, 3.0, 0.12),
    Tissue.MARROW: (450.0, 65.0, 0.75),
    Tissue.FLUID: (2569.0, 329.0, 1.0),
    Tissue.GREY: (833.0, 83.0, 0.86),
    Tissue.WHITE: (500.0, 70.0, 0.77),
    Tissue.MUSCLE: (900.0, 47.0, 0.95),
    Tissue.LESION: (1300.0, 150.0, 0.95),
}
"""T1 and T2 in ms and proton density of each tissue at 1.5 T: BrainWeb (Kwan et al., IEEE Trans. Med. Imaging 18:1085,
1999); skin, bone, marrow and lesion are typical values."""
SEQUENCES_MS = {"T1": (2000.0, 4.0, 900.0), "T2": (4500.0, 100.0, None), "PD": (4500.0, 20.0, None)}
"""Repetition, echo and inversion time (None: a plain spin echo) of the sequences on offer."""
WHITE_VALUE = 600.0
"""Stored value of white matter before shading."""
SHADE_STEP_MM = 70.0
"""Lattice step of the coil shading: it changes over about the size of the head."""
PSF_PIXELS = 0.45
"""In-plane blur in pixels: a filtered k-space."""


@dataclass(frozen=True, slots=True)
class BrainPhantom:
    """What to make. The head lives in mm and depends on `seed` alone: another grid samples the same head.

    shape_kji, spacing_mm, center_mm (x, y, z): of the volume; 0 is the middle of the brain, the vertex at z = 92 mm.
    weighting: 'T1', 'T2' or 'PD'. noise: standard deviation per channel as a share of the signal of white matter.
    shading: standard deviation of the coil shading, as a share of the signal. lesion: an optional lesion.
    noise_seed: another scan of the same head; None: `seed`.
    """

    shape_kji: tuple[int, int, int] = (40, 192, 192)
    spacing_mm: tuple[float, float, float] = (3.0, 1.2, 1.2)
    seed: int = 0
    weighting: str = "T1"
    noise: float = 0.03
    shading: float = 0.12
    lesion: Lesion | None = None
    center_mm: tuple[float, float, float] = (0.0, 0.0, 20.0)
    noise_seed: int | None = None

    def __post_init__(self) -> None:
        if self.weighting not in SEQUENCES_MS:
            raise UsageError(f"There is no weighting {self.weighting!r}.", f"Choose one of {', '.join(SEQUENCES_MS)}.")
        if min(self.shape_kji) < 1 or min(self.spacing_mm) <= 0 or not np.isfinite(self.spacing_mm).all():
            raise UsageError("A phantom needs a shape of at least 1 voxel and a spacing above 0 mm.")
        if self.noise < 0 or self.shading < 0 or self.seed < 0 or (self.noise_seed or 0) < 0:
            raise UsageError("Noise, shading and seeds must be 0 or larger.")


def brain(settings: BrainPhantom = BrainPhantom()) -> Volume:
    """An MRI of a head in whole numbers from 0, white matter near 600. The same settings give the same voxels."""
    dk, dj, di = settings.spacing_mm
    k, j, i = ((n - 1) / 2 for n in settings.shape_kji)
    x, y, z = settings.center_mm
    geometry = Geometry.regular(settings.shape_kji[0], (dk, dj, di), (x - i * di, y - j * dj, z - k * dk))
    x0, y0, _ = geometry.origins_mm[0]
    sampling = Sampling(
        x0 + np.arange(settings.shape_kji[2]) * di,
        y0 + np.arange(settings.shape_kji[1]) * dj,
        PSF_PIXELS * float(np.sqrt(dj * di)),
        dk / FWHM_PER_SIGMA,
    )
    voxels = _signal(settings, sampling, geometry)
    seed = settings.seed if settings.noise_seed is None else settings.noise_seed
    rng = np.random.default_rng((seed, 23))
    for layer in voxels:
        layer[:] = rician(layer, settings.noise * WHITE_VALUE, rng)
    np.rint(voxels, out=voxels)
    attributes = {"weighting": settings.weighting, "seed": str(settings.seed)}
    return Volume(
        voxels, Modality.MR, geometry, Provenance("phantom:brain", "phantom", step=1.0, attributes=attributes)
    )


def tissue_signal(weighting: str) -> Voxels:
    """(tissue,) signal of each tissue, white matter = WHITE_VALUE: PD · recovery · exp(-TE/T2).

    Recovery: 1 - exp(-TR/T1), after an inversion |1 - 2 exp(-TI/T1) + exp(-TR/T1)|.
    """
    repetition, echo, inversion = SEQUENCES_MS[weighting]
    t1, t2, density = np.array([RELAXATION_MS[tissue] for tissue in Tissue]).T
    if inversion is None:
        recovery = 1 - np.exp(-repetition / t1)
    else:
        recovery = np.abs(1 - 2 * np.exp(-inversion / t1) + np.exp(-repetition / t1))
    signal = density * recovery * np.exp(-echo / t2)
    return np.asarray(signal * (WHITE_VALUE / signal[Tissue.WHITE]), dtype=np.float32)


def _signal(settings: BrainPhantom, sampling: Sampling, geometry: Geometry) -> Voxels:
    """(k, j, i) signal without noise."""
    plane, head = Plane(sampling), Head(settings.seed)
    grains = Grains(settings.seed, sampling)
    shade = Texture((settings.seed, 24), SHADE_STEP_MM, sampling)
    value = tissue_signal(settings.weighting)
    voxels = np.empty(settings.shape_kji, dtype=np.float32)
    for k, z in enumerate(geometry.origins_mm[:, 2]):
        grain = grains.at(float(z))
        layer = slice_signal(head, plane, float(z), grain, settings.lesion, value)
        mottle = 1 + 0.012 * grain.fine + 0.012 * grain.medium + 0.01 * grain.coarse
        voxels[k] = layer * mottle * np.exp(settings.shading * shade.at(float(z)))
    return voxels
