"""New content for a box → what is written there: resampled or not, with noise, joined, quantised."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from jachai.core.volume import AIR_HU, Modality, Volume, Voxels
from jachai.tamper import noise
from jachai.tamper.attack import Index, Shape, box_around, cut, slices, spacing_of
from jachai.tamper.blend import Blend, Joint, Rounding, quantised
from jachai.tamper.noise import NoiseKind
from jachai.tamper.resample import zoomed

NOISE_BLOCK_MM = 24.0
"""Side of the block whose noise is measured or copied."""
JOINTS: tuple[Joint, ...] = ("feathered", "feathered", "poisson", "ellipsoid", "box")


@dataclass(frozen=True, slots=True)
class Finish:
    """How content becomes part of the scan.

    blend: the joint. noise, noise_share: what is added to the content, and how much of the scan's own standard deviation.
    noise_from: centre of the block of healthy tissue that noise is measured on or copied from. working_mm: grid the
    content went through (0: the scan's own), with splines of `order`. rounding: float → stored integer.
    """

    blend: Blend
    noise: NoiseKind
    noise_share: float
    noise_from: Shape
    working_mm: float
    order: int
    rounding: Rounding

    @staticmethod
    def drawn(rng: np.random.Generator, noise_from: Shape, kinds: tuple[NoiseKind, ...]) -> Finish:
        """By chance: of every joint, 2D or 3D, resampled or not, with one of these kinds of noise."""
        blend = Blend(
            joint=JOINTS[int(rng.integers(len(JOINTS)))],
            dims=2 if rng.random() < 0.2 else 3,
            feather_mm=float(rng.uniform(2, 6)),
        )
        return Finish(
            blend=blend,
            noise=kinds[int(rng.integers(len(kinds)))],
            noise_share=float(rng.uniform(0.8, 1.1)),
            noise_from=noise_from,
            working_mm=0.0 if rng.random() < 0.6 else float(rng.uniform(0.7, 1.5)),
            order=int(rng.choice((1, 3, 3, 5))),
            rounding=("floor", "zero", "nearest")[int(rng.integers(3))],  # type: ignore[arg-type]
        )

    def on_native_grid(self) -> Finish:
        """The same without resampling."""
        return replace(self, working_mm=0.0)

    def resampled(self, content: Voxels, spacing: Index) -> Voxels:
        """The content through the working grid and back."""
        if not self.working_mm or min(content.shape[1:]) < 2:
            return content
        grid = tuple(max(2, round(n * s / self.working_mm)) if n > 1 else 1 for n, s in zip(content.shape, spacing))
        return zoomed(zoomed(content, grid, self.order), content.shape, self.order)

    def field(self, volume: Volume, shape: Shape, rng: np.random.Generator) -> Voxels:
        """A noise field of `shape` of the chosen kind, in voxel units."""
        if self.noise == "none":
            return np.zeros(shape, dtype=np.float32)
        own = own_noise(volume, self.noise_from)
        if self.noise == "copied":
            wide = [(n - 1) // m + 1 for n, m in zip(shape, own.shape)]
            return np.asarray(self.noise_share * np.tile(own, wide)[tuple(slice(n) for n in shape)])
        if self.noise == "white":
            return noise.white(shape, self.noise_share * float(own.std()), rng)
        return self.noise_share * noise.like(own, shape, rng)

    def noisy(self, volume: Volume, content: Voxels, share: Voxels | float, rng: np.random.Generator) -> Voxels:
        """Content + share · noise; in MRI as the magnitude of two such channels (Rician)."""
        if self.noise == "none":
            return content
        shape: Shape = content.shape  # type: ignore[assignment]
        real = content + share * self.field(volume, shape, rng)
        if volume.modality is not Modality.MR:
            return np.asarray(real, dtype=np.float32)
        return np.asarray(np.hypot(real, share * self.field(volume, shape, rng)), dtype=np.float32)

    def joined(self, volume: Volume, original: Voxels, content: Voxels) -> Voxels:
        """Joined to the original and put on the scan's quantisation grid."""
        merged = self.blend.merged(original, content, spacing_of(volume))
        low = AIR_HU if volume.modality is Modality.CT else min(0.0, float(original.min()))
        return quantised(original, merged, volume.provenance.step, self.rounding, low)


def own_noise(volume: Volume, centre: Shape) -> Voxels:
    """The scan's noise in a block of NOISE_BLOCK_MM round a healthy place: float32, mean 0."""
    spacing = spacing_of(volume)
    sides: Shape = tuple(min(n, max(1, round(NOISE_BLOCK_MM / s))) for n, s in zip(volume.shape, spacing))  # type: ignore[assignment]
    detrend = noise.MRI_DETREND_MM if volume.modality is Modality.MR else noise.DETREND_MM
    return noise.residual(cut(volume.voxels, box_around(centre, sides)), spacing, detrend)


def region(volume: Volume, box: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]) -> Voxels:
    """A writable copy of a box that lies inside the scan."""
    return volume.voxels[slices(box)].copy()
