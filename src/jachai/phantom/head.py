"""Seed, height and the signal of each tissue → one slice of a head, blurred like the scanner does.

Frame: x to the left, y to the back, z to the head; the middle of the brain at 0. Proportions of an adult (MNI 152, by eye).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import numpy as np
from scipy import ndimage
from scipy.special import expit

from jachai.core.volume import Voxels
from jachai.phantom.organs import Grain, edge, paint
from jachai.phantom.torso import ANGLES, Field, Plane, ellipsoid, soft_max, soft_min
from jachai.phantom.tubes import FloatArray, Tubes

_Z = np.array([-110.0, -80, -50, -20, 10, 35, 55, 70, 80, 87, 92])
_WIDTH = np.array([60.0, 64, 69, 74, 76, 73, 64, 51, 37, 22, 4])
_FRONT = np.array([88.0, 92, 96, 97, 94, 86, 74, 58, 42, 25, 5])
_BACK = np.array([58.0, 70, 86, 97, 100, 93, 79, 62, 44, 26, 5])

SKIN_MM, FAT_MM, TABLE_MM, DIPLOE_MM, FLUID_MM = 2.0, 4.0, 1.6, 3.6, 2.2
"""Thickness of skin, fat under it, each table of the skull, the marrow between them, and the fluid over the brain."""
CORTEX_MM = 3.6
"""Thickness of the cortex as a slice cuts it, mostly askew (1.5 to 4.5 mm; Fischl and Dale, PNAS 97:11050, 2000)."""
SULCUS_MM = 18.0
"""Depth of the folds."""
FOLD_STEP_MM = 6.3
"""Lattice step of the noise whose zeros are the folds, at the surface of the brain."""
FOLIA_STEP_MM = 3.6
"""The same for the cerebellum."""
RADIAL = 0.8
"""How far folds run inwards: 0 no direction, 1 exactly towards the middle."""
MEAN_RADIUS_MM = 68.0
_LATTICE = 34
"""Nodes to each side of 0 of the lattices of folds."""


class Tissue(IntEnum):
    """What the head is made of."""

    AIR = 0
    SKIN = 1
    FAT = 2
    BONE = 3
    MARROW = 4
    FLUID = 5
    GREY = 6
    WHITE = 7
    MUSCLE = 8
    LESION = 9


@dataclass(frozen=True, slots=True)
class Lesion:
    """A round lesion: center_mm (x, y, z), diameter_mm."""

    center_mm: tuple[float, float, float]
    diameter_mm: float


@dataclass(frozen=True)
class Head:
    """A head, drawn from the seed."""

    seed: int

    @cached_property
    def _draw(self) -> FloatArray:
        return np.random.default_rng((self.seed, 21)).standard_normal(20)

    @cached_property
    def size(self) -> tuple[float, float]:
        """Width and length relative to the average."""
        return 1 + 0.04 * float(np.tanh(self._draw[0])), 1 + 0.04 * float(np.tanh(self._draw[1]))

    @cached_property
    def _lattices(self) -> tuple[Voxels, Voxels]:
        side = 2 * _LATTICE + 1
        rng = np.random.default_rng((self.seed, 22))
        folds = rng.standard_normal((side, side, side), dtype=np.float32)
        return folds, rng.standard_normal((side, side, side), dtype=np.float32)

    @cached_property
    def ventricles(self) -> Tubes:
        """Lateral ventricles with their horns, third and fourth ventricle."""
        wide = 1 + 0.15 * float(np.tanh(self._draw[2]))
        parts = [
            Tubes.along([(0, -16, 6), (0, 0, 2), (0, 12, -6)], [2.2, 2.6, 1.6]),
            Tubes.along([(0, 12, -6), (0, 18, -22), (0, 27, -36), (0, 27, -46)], [1.0, 1.0, 5.0, 2.0]),
        ]
        for s in (-1, 1):
            body = [
                (s * 7, -36, 4),
                (s * 8, -24, 14),
                (s * 11, 0, 22),
                (s * 16, 20, 20),
                (s * 24, 36, 8),
                (s * 22, 52, 2),
            ]
            horn = [(s * 24, 36, 8), (s * 32, 24, -8), (s * 32, 4, -20)]
            parts += [
                Tubes.along(body, np.array([4.0, 6.0, 5.5, 6.0, 7.0, 2.5]) * wide),
                Tubes.along(horn, [5.0, 3.0, 2.0]),
            ]
        return Tubes.joined(parts)

    @cached_property
    def stem(self) -> Tubes:
        """Midbrain, pons and medulla."""
        return Tubes.along([(0, 4, -4), (0, 6, -16), (0, 6, -32), (0, 14, -52), (0, 20, -110)], [12, 13, 15, 10, 7])

    def _outline(self, z: float) -> FloatArray:
        angle = np.arange(ANGLES) * (2 * np.pi / ANGLES) - np.pi
        sine = np.sin(angle)
        deep = np.where(sine < 0, np.interp(z, _Z, _FRONT), np.interp(z, _Z, _BACK)) * self.size[1]
        wide = np.interp(z, _Z, _WIDTH) * self.size[0]
        radius = (np.abs(np.cos(angle) / wide) ** 2.2 + np.abs(sine / deep) ** 2.2) ** (-1 / 2.2)
        return np.asarray(radius, dtype=np.float64)

    def surface(self, plane: Plane, z: float) -> Voxels:
        """Field of the head: negative inside, about mm, also where the surface slopes towards the vertex."""
        lean = (self._outline(z + 2) - self._outline(z - 2)) / 4
        return np.asarray(plane.outside(self._outline(z)) * plane.at_angle(1 / np.sqrt(1 + lean**2)))

    def base(self, plane: Plane, z: float) -> Voxels:
        """Field of what lies below the brain: the three steps of the skull base, negative below."""
        front = expit(-(plane.y + 38) / 3.0)
        back = expit((plane.y - 4) / 4.0)
        sides = expit((np.abs(plane.x) - 14) / 2.5)
        middle = (1 - front) * (1 - back)
        floor = -20 * front - 68 * back - (20 + 24 * sides) * middle
        return np.asarray((z - floor) * 0.8)

    def folds(self, plane: Plane, z: float, which: int) -> Voxels:
        """Distance in mm to the nearest fold of the cerebrum (0) or the cerebellum (1)."""
        step = (FOLD_STEP_MM, FOLIA_STEP_MM)[which]
        dz = z - (0.0, -42.0)[which]
        y = plane.y - (0.0, 45.0)[which]
        radius = np.sqrt(plane.x**2 + y**2 + dz**2) + 4.0
        pull = (MEAN_RADIUS_MM / radius) ** RADIAL if which == 0 else np.ones_like(radius)
        stretch = (1.0, 1.0, 1.0) if which == 0 else (1.0, 0.55, 0.3)
        at = np.stack([dz * pull / stretch[2], y * pull / stretch[1], plane.x * pull / stretch[0]]) / step
        value = ndimage.map_coordinates(
            self._lattices[which], at + _LATTICE, order=3, prefilter=False, mode="grid-wrap", output=np.float32
        )
        gy = np.gradient(value, plane.y[:, 0], axis=0) if plane.shape[0] > 1 else np.zeros_like(value)
        gx = np.gradient(value, plane.x[0], axis=1) if plane.shape[1] > 1 else np.zeros_like(value)
        steep = np.sqrt(gx * gx + gy * gy + (0.18 / step * pull) ** 2)
        return np.asarray(np.abs(value) / steep, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class _Canvas:
    """A slice in the making. image (j, i); value (tissue,) what each tissue is painted with."""

    image: Voxels
    value: Voxels

    def put(self, tissue: Tissue, share: Field) -> None:
        """Replace `share` of what is there by a tissue."""
        paint(self.image, share, float(self.value[tissue]))


def slice_signal(head: Head, plane: Plane, z: float, grain: Grain, lesion: Lesion | None, value: Voxels) -> Voxels:
    """(j, i) signal of the slice at z mm; value: (tissue,) signal of each tissue; where tissues meet, their mixture."""
    canvas = _Canvas(np.full(plane.shape, value[Tissue.AIR], dtype=np.float32), value)
    blur = float(np.sqrt((2 * plane.blur**2 + plane.blur_z**2) / 3))
    surface = head.surface(plane, z)
    below = soft_max(head.base(plane, z), surface + SKIN_MM + FAT_MM, 4)
    depth = _shell(canvas, surface, grain, blur)
    _face(canvas, head, plane, z, grain, below, blur)
    inside = soft_max(depth, -head.base(plane, z), 6)
    canvas.put(Tissue.FLUID, edge(inside, blur))
    _brain(canvas, head, plane, z, grain, inside + FLUID_MM + 0.8 * np.maximum(grain.wide, -1), blur)
    if lesion is not None:
        x, y, height = lesion.center_mm
        ball = np.sqrt((plane.x - x) ** 2 + (plane.y - y) ** 2 + (z - height) ** 2) - lesion.diameter_mm / 2
        canvas.put(Tissue.LESION, edge(ball, blur))
    return canvas.image


def _shell(canvas: _Canvas, surface: Voxels, grain: Grain, blur: float) -> Voxels:
    """Skin, fat, skull; → field of the inside of the skull."""
    canvas.put(Tissue.SKIN, edge(surface, blur))
    canvas.put(Tissue.FAT, edge(surface + SKIN_MM, blur))
    depth = surface + SKIN_MM + FAT_MM + 0.7 * grain.wide
    for tissue, thickness in ((Tissue.BONE, TABLE_MM), (Tissue.MARROW, DIPLOE_MM), (Tissue.BONE, TABLE_MM)):
        canvas.put(tissue, edge(depth, blur))
        depth = depth + thickness
    return depth


def _face(canvas: _Canvas, head: Head, plane: Plane, z: float, grain: Grain, below: Field, blur: float) -> None:
    """Below the skull base: muscle, fat and marrow, the eyes in their fat, sinuses with air."""
    if float(below.min()) > 4:
        return
    soft = edge(below, blur)
    canvas.put(Tissue.BONE, soft)
    inner = edge(below + 2.5, blur)
    for tissue, field in (
        (Tissue.MUSCLE, np.full(plane.shape, -1.0, dtype=np.float32)),
        (Tissue.FAT, 2 * grain.coarse - 1.0),
        (Tissue.MARROW, 2 * grain.wide + 1.5),
    ):
        canvas.put(tissue, inner * edge(field, 0.5))
    side = np.abs(plane.x)
    orbit = np.maximum(ellipsoid(side - 31, plane.y + 62, z + 36, (17, 30, 16)), below)
    canvas.put(Tissue.FAT, edge(orbit, blur))
    canvas.put(Tissue.FLUID, edge(ellipsoid(side - 32, plane.y + 74, z + 36, (12, 12, 12)), blur) * inner)
    sinus = soft_min(
        ellipsoid(plane.x, plane.y + 62, z + 42, (12, 26, 14)),
        ellipsoid(side - 27, plane.y + 66, z + 66, (14, 18, 12)),
        2,
    )
    canvas.put(Tissue.AIR, edge(np.maximum(sinus, np.abs(grain.medium) - 2.2), blur) * inner)


def _brain(canvas: _Canvas, head: Head, plane: Plane, z: float, grain: Grain, surface: Field, blur: float) -> None:
    """Cortex with its folds, white matter, deep grey nuclei, ventricles, cerebellum and brain stem."""
    if float(surface.min()) > 4:
        return
    behind = ellipsoid(plane.x, plane.y - 46, z + 44, (54, 40, 27))
    cerebrum = soft_max(surface, 1 - behind, 3)
    fluid = _to_fluid(head, plane, z, grain, cerebrum)
    canvas.put(Tissue.GREY, edge(-np.minimum(fluid, -cerebrum), blur))
    core = np.minimum(fluid - 0.3 * grain.coarse, -cerebrum) - CORTEX_MM
    canvas.put(Tissue.WHITE, edge(-core, blur))
    _nuclei(canvas, plane, z, cerebrum, blur)
    _cerebellum(canvas, head, plane, z, np.maximum(behind + 1.0, surface), blur)
    stem = np.maximum(plane.tubes(head.stem, z, 5.0), surface - 4)
    canvas.put(Tissue.FLUID, edge(stem - 2.5, blur) * edge(cerebrum, blur) * float(z < -12))
    canvas.put(Tissue.WHITE, edge(stem, blur))
    canvas.put(Tissue.FLUID, edge(plane.tubes(head.ventricles, z, 5.0), blur))


def _cerebellum(canvas: _Canvas, head: Head, plane: Plane, z: float, small: Voxels, blur: float) -> None:
    """Folia of grey matter round a white core."""
    if float(small.min()) > 4:
        return
    folia = np.maximum(head.folds(plane, z, 1) - 0.25, 0)
    canvas.put(Tissue.GREY, edge(np.maximum(small, 0.6 - folia), blur))
    canvas.put(Tissue.WHITE, edge(np.maximum(small + 5, 1.6 - folia), blur))
    canvas.put(Tissue.WHITE, edge(soft_max(small + 13, np.abs(plane.x) - 24, 6), blur))


def _to_fluid(head: Head, plane: Plane, z: float, grain: Grain, cerebrum: Voxels) -> Voxels:
    """Distance in mm to the nearest fluid-filled fold of the cerebrum; negative within the fluid."""
    deep = np.maximum(-cerebrum - SULCUS_MM - 3 * grain.wide, 0)
    wide = 0.35 + 0.9 * np.exp(np.minimum(cerebrum, 0) / 6.0)
    fold = np.hypot(head.folds(plane, z, 0), 1.2 * deep) - wide
    middle = np.hypot(plane.y / 46, (z - 4) / 30)
    away = np.maximum(1 - middle, 0) * 40
    split = np.hypot(plane.x - 0.8 * grain.coarse, away) - 0.9
    side = np.abs(plane.x)
    across = np.hypot(
        (z + 2 - 0.28 * plane.y + 5 * grain.wide + 2 * grain.coarse) * 0.8,
        np.maximum(np.maximum(36 - side, plane.y - 22), np.maximum(-22 - plane.y, 0)),
    )
    return soft_min(soft_min(fold, split, 1.5), np.asarray(across - 1.6, dtype=np.float32), 1.5)


def _nuclei(canvas: _Canvas, plane: Plane, z: float, cerebrum: Voxels, blur: float) -> None:
    """Caudate, lentiform nucleus and thalamus; the corpus callosum is left white."""
    side = np.abs(plane.x)
    island = np.maximum(ellipsoid(side - 17, plane.y + 2, z - 6, (24, 44, 21)), cerebrum + 6)
    canvas.put(Tissue.WHITE, edge(island, blur))
    for offset, axes in (
        ((26.0, -4.0, 3.0), (6.5, 19.0, 13.0)),
        ((14.0, -24.0, 9.0), (5.0, 12.0, 10.0)),
        ((11.0, 11.0, 7.0), (9.0, 15.0, 10.0)),
    ):
        x, y, height = offset
        canvas.put(Tissue.GREY, edge(ellipsoid(side - x, plane.y - y, z - height, axes), blur))
