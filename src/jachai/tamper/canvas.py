"""What a painter gets, a normalised cube with a hole, and what it gives back: the cube painted anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from jachai.core.volume import Mask, Voxels
from jachai.tamper.attack import Index, Shape
from jachai.tamper.nodule import NoduleShape


@dataclass(frozen=True, slots=True, eq=False)
class Canvas:
    """What a painter gets.

    cube: float32 (n, n, n), −0.5…0.5, normalised as in CT-GAN, whole. hole: the bool mask to be painted. wall: chest wall
    or mediastinum that reaches into the cube, which a painter without a network leaves standing. examples():
    (m, n, n, n) float32, cubes of healthy tissue of the same scan on the same grid and scale, made when called.
    spacing_mm: of the cube. encode, decode: HU ⇄ normalised. nodule: what to paint, None for removal.
    rng: the only source of chance.
    """

    cube: Voxels
    hole: Mask
    wall: Mask
    examples: Callable[[], Voxels]
    spacing_mm: Index
    encode: Callable[[Voxels], Voxels]
    decode: Callable[[Voxels], Voxels]
    nodule: NoduleShape | None
    rng: np.random.Generator

    @property
    def masked(self) -> Voxels:
        """The cube with the hole set to 0: all that CT-GAN's generator sees."""
        return np.where(self.hole, np.float32(0), self.cube)

    @property
    def lung_hole(self) -> Mask:
        """The hole without what goes on outside it."""
        return self.hole & ~self.wall

    def patch_side(self, size_mm: float) -> Shape:
        """Voxels of a patch of about that size, at least 2 per axis."""
        k, j, i = (max(2, round(size_mm / s)) for s in self.spacing_mm)
        return k, j, i


class Painter(Protocol):
    """Paints a cube. Networks (`tamper.generators`) fit it too."""

    def paint(self, canvas: Canvas) -> Voxels:
        """The whole cube, float32, same shape: what stands outside the hole is the painter's too."""
