"""Parameters of a nodule (or MRI lesion) → how much of it fills every voxel, and its value there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial.transform import Rotation

from jachai.core.volume import Voxels
from jachai.tamper.attack import Index, Shape

Density = Literal["solid", "part-solid", "ground-glass"]
LOBE_SHARPNESS = 5.0
"""Concentration κ of a lobe exp(κ(cos θ − 1)): it fades to 1/e at θ ≈ 37° from its axis."""
TEXTURE_MM = 1.4
"""Grain (Gaussian σ) of the inner texture: fat, necrosis and small air spaces of a few millimetres."""
SPIKE_ROOT = 0.55
"""Spikes begin this far out (share of the radius), so that they are joined to the body."""
MARGINS = 4.0
"""The body's soft rim is followed this many margins outwards: σ(−4) = 0.018."""

HU_RANGES: dict[Density, tuple[float, float]] = {
    "solid": (-20.0, 70.0),
    "part-solid": (-10.0, 50.0),
    "ground-glass": (-680.0, -450.0),
}
"""Core attenuation in HU (Fleischner Society glossary 2008: ground glass leaves vessels visible; solid is soft tissue)."""


@dataclass(frozen=True, slots=True)
class NoduleShape:
    """A nodule. diameter_mm: mean, 4–30. axes: relative half axes, mean about 1. angles: Euler 'zyx' in radians.

    hu: core value (HU; for MRI, the voxel value). halo_hu: value of a part-solid nodule's outer part, else None;
    core_share: radius of its solid core over the whole. margin_mm: softness of the rim. texture_hu: standard deviation of
    the inner texture. lobes: number of bulges, lobe_height: their height over the radius. spikes: number of spicules,
    spike_mm: (length, width at the root). tail_mm: (length, width) of a pleural tail towards `tail_to` (unit (k, j, i)
    direction in mm), None without. seed: where lobes, spikes and texture lie.
    """

    diameter_mm: float
    density: Density = "solid"
    axes: Index = (1.0, 1.0, 1.0)
    angles: Index = (0.0, 0.0, 0.0)
    hu: float = 30.0
    halo_hu: float | None = None
    core_share: float = 0.5
    margin_mm: float = 0.5
    texture_hu: float = 15.0
    lobes: int = 0
    lobe_height: float = 0.2
    spikes: int = 0
    spike_mm: tuple[float, float] = (5.0, 1.0)
    tail_mm: tuple[float, float] | None = None
    tail_to: Index = (0.0, 1.0, 0.0)
    seed: int = 0

    @property
    def reach_mm(self) -> float:
        """Nothing of the nodule lies further from its centre."""
        body = self.diameter_mm / 2 * max(self.axes) * (1 + self.lobe_height * bool(self.lobes))
        spikes = self.spike_mm[0] if self.spikes else 0.0
        tail = self.tail_mm[0] if self.tail_mm else 0.0
        return body + max(spikes, tail, MARGINS * self.margin_mm) + 1.0

    def rendered(self, shape: Shape, spacing_mm: Index, centre: Index) -> tuple[Voxels, Voxels]:
        """(alpha, value), both float32 of `shape`. alpha: share of the voxel that is nodule, 0…1; value: the nodule's own.

        centre: (k, j, i) voxel index, fractions allowed. Voxels beyond `reach_mm` stay 0.
        """
        alpha = np.zeros(shape, dtype=np.float32)
        value = np.full(shape, self.hu, dtype=np.float32)
        where, axes = _window(shape, spacing_mm, centre, self.reach_mm)
        if not all(len(axis) for axis in axes):
            return alpha, value
        rng = np.random.default_rng(self.seed)
        place = np.stack(np.broadcast_arrays(*np.meshgrid(*axes, indexing="ij")))
        body, core = self._body(place, rng)
        alpha[where] = np.maximum(body, self._spikes(place, rng))
        value[where] = self._values(core, body.shape, spacing_mm, rng)
        return alpha, value

    def _body(self, place: Voxels, rng: np.random.Generator) -> tuple[Voxels, Voxels]:
        """place: (3, …) mm from the centre → (share of the body, share of the solid core)."""
        turn = Rotation.from_euler("zyx", self.angles).as_matrix().astype(np.float32)
        turned = np.tensordot(turn, place, axes=1) / np.array(self.axes, dtype=np.float32)[:, None, None, None]
        distance = np.sqrt((turned**2).sum(axis=0))
        radius = np.full_like(distance, self.diameter_mm / 2)
        for direction in _directions(self.lobes, rng):
            cosine = np.tensordot(direction, turned, axes=1) / np.maximum(distance, 1e-3)
            radius += self.diameter_mm / 2 * self.lobe_height * np.exp(LOBE_SHARPNESS * (cosine - 1))
        body = _soft(radius - distance, self.margin_mm)
        core = _soft(self.core_share * radius - distance, max(self.margin_mm, 0.5))
        return body, core

    def _spikes(self, place: Voxels, rng: np.random.Generator) -> Voxels | float:
        """Share of spicules and pleural tail: cones that thin out along their length."""
        radius = self.diameter_mm / 2
        length, width = self.spike_mm
        cones = [
            (direction, length * float(rng.uniform(0.5, 1)), width * float(rng.uniform(0.6, 1)))
            for direction in _directions(self.spikes, rng)
        ]
        if self.tail_mm:
            cones.append((np.array(self.tail_to, dtype=np.float32), *self.tail_mm))
        if not cones:
            return 0.0
        square = (place**2).sum(axis=0)
        share: Voxels = np.zeros_like(square)
        for direction, reach, thick in cones:
            along = np.tensordot(direction, place, axes=1)
            left = np.clip((radius + reach - along) / reach, 0, 1)
            off = np.sqrt(np.maximum(square - along**2, 0))
            cone = (
                _soft(thick / 2 * left - off, max(0.3, thick / 4))
                * (along > SPIKE_ROOT * radius)
                * np.minimum(4 * left, 1)
            )
            np.maximum(share, cone, out=share)
        return share

    def _values(
        self, core: Voxels, shape: tuple[int, ...], spacing_mm: Index, rng: np.random.Generator
    ) -> npt.NDArray[np.float32]:
        texture = ndimage.gaussian_filter(
            rng.standard_normal(shape, dtype=np.float32), [TEXTURE_MM / s for s in spacing_mm]
        )
        spread = float(texture.std())
        texture *= self.texture_hu / spread if spread else 0.0
        if self.halo_hu is None:
            return np.asarray(self.hu + texture)
        return np.asarray(self.halo_hu + (self.hu - self.halo_hu) * core + texture)


def draw_nodule(
    rng: np.random.Generator,
    diameter_mm: tuple[float, float] = (6.0, 20.0),
    densities: tuple[Density, ...] = ("solid", "solid", "part-solid", "ground-glass"),
) -> NoduleShape:
    """A nodule by chance: diameter log-uniform in the range, density from the list (repeat to weigh), the rest likely."""
    diameter = float(np.exp(rng.uniform(*np.log(diameter_mm))))
    density = densities[int(rng.integers(len(densities)))]
    glass = HU_RANGES["ground-glass"]
    axes = rng.uniform(0.75, 1.15, 3)
    spiculated = density != "ground-glass" and diameter > 7 and rng.random() < 0.45
    direction = _directions(1, rng)[0]
    return NoduleShape(
        diameter_mm=diameter,
        density=density,
        axes=_triple(axes / axes.mean()),
        angles=_triple(rng.uniform(-np.pi, np.pi, 3)),
        hu=float(rng.uniform(*HU_RANGES[density])),
        halo_hu=float(rng.uniform(*glass)) if density == "part-solid" else None,
        core_share=float(rng.uniform(0.35, 0.7)),
        margin_mm=float(rng.uniform(0.15, 0.45) if density == "solid" else rng.uniform(0.4, 0.9)),
        texture_hu=float(rng.uniform(8, 25) if density != "ground-glass" else rng.uniform(25, 60)),
        lobes=int(rng.integers(2, 7)),
        lobe_height=float(rng.uniform(0.1, 0.35)),
        spikes=int(rng.integers(8, 20)) if spiculated else 0,
        spike_mm=(float(rng.uniform(0.3, 0.7) * diameter), float(rng.uniform(1.3, 2.6))),
        tail_mm=(float(rng.uniform(4, 12)), float(rng.uniform(1, 2))) if rng.random() < 0.25 else None,
        tail_to=_triple(direction),
        seed=int(rng.integers(2**31)),
    )


def draw_lesion(rng: np.random.Generator, level: float, spread: float) -> NoduleShape:
    """An MRI lesion by chance in tissue of that median and robust spread: T2- or contrast-like (brighter, in two of three
    cases) or T1-like (darker), rounded, without spicules, 6–20 mm."""
    nodule = draw_nodule(rng, (6.0, 20.0), ("solid",))
    sign = 1 if rng.random() < 2 / 3 else -0.6
    value = max(level + sign * float(rng.uniform(0.35, 0.9)) * max(level, spread), 0.1 * level)
    rim = value + float(rng.uniform(-0.3, 0.3)) * abs(value - level) if rng.random() < 0.4 else None
    return replace(
        nodule,
        hu=value,
        halo_hu=rim,
        margin_mm=float(rng.uniform(0.6, 1.6)),
        texture_hu=0.06 * abs(level),
        spikes=0,
        tail_mm=None,
    )


def _window(
    shape: Shape, spacing_mm: Index, centre: Index, reach_mm: float
) -> tuple[tuple[slice, ...], list[npt.NDArray[np.float32]]]:
    """The slices of the box within reach, and the mm from the centre along each axis there."""
    where, axes = [], []
    for n, step, middle in zip(shape, spacing_mm, centre):
        low = max(0, int(np.floor(middle - reach_mm / step)))
        high = min(n, int(np.ceil(middle + reach_mm / step)) + 1)
        where.append(slice(low, max(low, high)))
        axes.append(((np.arange(low, max(low, high)) - middle) * step).astype(np.float32))
    return tuple(where), axes


def _soft(depth_mm: Voxels, margin_mm: float) -> Voxels:
    """Depth under the surface → share, a logistic step of that margin."""
    return np.asarray(1 / (1 + np.exp(np.clip(-depth_mm / margin_mm, -30, 30))), dtype=np.float32)


def _directions(count: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """(count, 3) unit vectors, evenly distributed over the sphere."""
    vectors = rng.standard_normal((count, 3))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def _triple(values: npt.NDArray[np.floating]) -> Index:
    a, b, c = (float(v) for v in values)
    return a, b, c
