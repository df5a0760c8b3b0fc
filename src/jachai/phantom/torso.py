"""Seed → a patient: outlines of body and chest wall, heart, great vessels, and where the lungs are, in mm.

Frame: x to the patient's left, y to the back, z to the head; the middle of the chest at 0. A field is negative inside and
about the distance in mm to the surface. Sizes are those of an adult of average build (ICRP Publication 110, 2009, by eye).
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from jachai.core.volume import Voxels
from jachai.phantom.texture import Sampling
from jachai.phantom.tubes import FloatArray, Tubes

Field = npt.NDArray[np.floating[Any]]
"""(j, i) distances in mm to a surface, negative inside."""

ANGLES = 4096
"""Outlines are tables of the radius at so many angles: steps of 0.25 mm at 160 mm."""
FAR_MM = 1000.0
"""Distance given where a structure is too far to matter."""

_Z = np.array([-120.0, -60, 0, 40, 80, 105, 140])
_BODY_WIDTH = np.array([156.0, 160, 163, 167, 170, 171, 168])
_BODY_FRONT = np.array([118.0, 121, 118, 110, 95, 83, 76])
_BODY_BACK = np.array([100.0, 103, 104, 104, 100, 94, 88])
_CHEST_WIDTH = np.array([130.0, 133, 128, 116, 89, 63, 54])
_CHEST_FRONT = np.array([92.0, 95, 91, 81, 61, 47, 42])
_CHEST_BACK = np.array([74.0, 79, 79, 76, 64, 52, 46])
_MIDLINE_Y = np.array([-90.0, -62, -35, 5, 35, 60, 95])
_MIDLINE_UPPER = np.array([4.0, 6, 22, 29, 20, 16, 16])
_MIDLINE_LOWER = np.array([5.0, 9, 18, 22, 17, 16, 16])

VERTEBRA_MM = 25.0
"""Height of a thoracic vertebra with its disc, and so the distance of ribs at the spine."""


def soft_min(a: Field, b: Field, width_mm: float) -> Voxels:
    """Union of two fields with corners rounded over `width_mm`."""
    overlap = np.maximum(width_mm - np.abs(a - b), 0)
    return np.asarray(np.minimum(a, b) - overlap * overlap / (4 * width_mm))


def soft_max(a: Field, b: Field, width_mm: float) -> Voxels:
    """Intersection of two fields with corners rounded over `width_mm`."""
    overlap = np.maximum(width_mm - np.abs(a - b), 0)
    return np.asarray(np.maximum(a, b) + overlap * overlap / (4 * width_mm))


def ellipsoid(dx: Field, dy: Field, dz: Field | float, axes: tuple[float, float, float]) -> Voxels:
    """Field of an ellipsoid with half axes in mm, at offsets from its middle (first-order distance)."""
    u, v, w = dx / axes[0], dy / axes[1], dz / axes[2]
    near = np.sqrt(u * u + v * v + w * w) + 1e-6
    steep = np.sqrt((u / axes[0]) ** 2 + (v / axes[1]) ** 2 + (w / axes[2]) ** 2) + 1e-6
    return np.asarray(near * (near - 1) / steep)


class Plane:
    """The pixels of one sampling, ready for every z: coordinates, angles, and the two blurs."""

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling
        self.x = sampling.x_mm.astype(np.float32)[None, :]
        self.y = sampling.y_mm.astype(np.float32)[:, None]
        self.blur = float(sampling.blur_mm)
        self.blur_z = float(sampling.blur_z_mm)
        self.radius = np.hypot(self.x, self.y)
        angle = np.arctan2(self.y, self.x)
        self.angle_index = np.rint((angle + np.pi) * (ANGLES / (2 * np.pi))).astype(np.intp) % ANGLES

    @property
    def shape(self) -> tuple[int, int]:
        """(j, i)."""
        return self.y.shape[0], self.x.shape[1]

    def window(self, x0: float, x1: float, y0: float, y1: float) -> tuple[slice, slice]:
        """(rows, columns) between those mm."""
        j = np.searchsorted(self.y[:, 0], (y0, y1))
        i = np.searchsorted(self.x[0], (x0, x1))
        return slice(int(j[0]), int(j[1])), slice(int(i[0]), int(i[1]))

    def cropped(self, part: tuple[slice, slice]) -> Plane:
        """Those rows and columns only; shares memory."""
        plane = copy(self)
        plane.x, plane.y = self.x[:, part[1]], self.y[part[0]]
        plane.radius, plane.angle_index = self.radius[part], self.angle_index[part]
        return plane

    def outside(self, outline: FloatArray) -> Voxels:
        """Field of a star-shaped outline: (ANGLES,) radius in mm → (j, i)."""
        slope = np.gradient(np.concatenate([outline[-1:], outline, outline[:1]]))[1:-1] * (ANGLES / (2 * np.pi))
        cosine = outline / np.hypot(outline, slope)
        return np.asarray((self.radius - self.at_angle(outline)) * self.at_angle(cosine))

    def at_angle(self, table: FloatArray) -> Voxels:
        """(ANGLES,) any quantity of the angle → (j, i)."""
        return np.asarray(table.astype(np.float32)[self.angle_index])

    def tubes(self, tubes: Tubes, z: float, reach_mm: float) -> Voxels:
        """Field of tubes in the slice at z, right up to `reach_mm` from them and FAR_MM beyond."""
        field = np.full(self.shape, FAR_MM, dtype=np.float32)
        reach = np.maximum(tubes.r0, tubes.r1) + reach_mm
        low = np.minimum(tubes.start, tubes.end) - reach[:, None]
        high = np.maximum(tubes.start, tubes.end) + reach[:, None]
        for n in np.flatnonzero((low[:, 2] < z) & (z < high[:, 2])):
            i = slice(*np.searchsorted(self.x[0], (low[n, 0], high[n, 0])))
            j = slice(*np.searchsorted(self.y[:, 0], (low[n, 1], high[n, 1])))
            window = field[j, i]
            if window.size:
                np.minimum(window, _tube(tubes, int(n), self.x[:, i], self.y[j], z), out=window)
        return field


def _tube(tubes: Tubes, n: int, x: Voxels, y: Voxels, z: float) -> Voxels:
    """Field of one tapering tube."""
    along = tubes.end[n] - tubes.start[n]
    length = float(np.sqrt(along @ along))
    ux, uy, uz = (float(u) for u in along / length)
    px, py, pz = x - float(tubes.start[n, 0]), y - float(tubes.start[n, 1]), z - float(tubes.start[n, 2])
    forward = px * ux + py * uy + pz * uz
    t = np.clip(forward, 0, length)
    distance = np.sqrt(np.maximum(px * px + py * py + pz * pz + t * (t - 2 * forward), 0))
    return np.asarray(distance - float(tubes.r0[n]) - t * float((tubes.r1[n] - tubes.r0[n]) / length))


@dataclass(frozen=True)
class Patient:
    """Everything that differs between patients, drawn from the seed."""

    seed: int

    @cached_property
    def _draw(self) -> FloatArray:
        return np.random.default_rng((self.seed, 1)).standard_normal(40)

    @cached_property
    def width(self) -> float:
        """Width of the chest relative to the average; within 6 %."""
        return 1 + 0.06 * float(np.tanh(self._draw[0]))

    @cached_property
    def depth(self) -> float:
        """Depth of the chest relative to the average; within 6 %."""
        return 1 + 0.06 * float(np.tanh(self._draw[1]))

    @cached_property
    def fat_mm(self) -> float:
        """Thickness of the fat under the skin, 6 to 14 mm."""
        return 10 + 4 * float(np.tanh(self._draw[2]))

    @cached_property
    def vertebra_phase_mm(self) -> float:
        """Height of the middle of one vertebra."""
        return VERTEBRA_MM * float(np.tanh(self._draw[3])) / 2

    @cached_property
    def dome_mm(self) -> tuple[float, float]:
        """Height of the right and the left dome of the diaphragm: how deeply the patient breathed in."""
        top = -60 + 7 * float(np.tanh(self._draw[4]))
        return top, top - 9 + 3 * float(np.tanh(self._draw[5]))

    @cached_property
    def rib_shift_mm(self) -> FloatArray:
        """(24,) how far single ribs lie from their even spacing."""
        return np.random.default_rng((self.seed, 2)).normal(0, 1.2, 24)

    @cached_property
    def angle(self) -> FloatArray:
        """(ANGLES,) angles of the outlines: 0 left, π/2 back, -π/2 front."""
        return np.asarray(np.arange(ANGLES) * (2 * np.pi / ANGLES) - np.pi, dtype=np.float64)

    @cached_property
    def from_back(self) -> FloatArray:
        """(ANGLES,) angle from the spine: 0 at the back, π at the front, on both sides."""
        return np.abs((self.angle - np.pi / 2 + np.pi) % (2 * np.pi) - np.pi)

    def _outline(self, z: float, width: FloatArray, front: FloatArray, back: FloatArray, power: float) -> FloatArray:
        """(ANGLES,) radius of a superellipse, deeper or flatter at the front than at the back."""
        sine = np.sin(self.angle)
        deep = np.where(sine < 0, np.interp(z, _Z, front), np.interp(z, _Z, back)) * self.depth
        wide = np.interp(z, _Z, width) * self.width
        total = np.abs(np.cos(self.angle) / wide) ** power + np.abs(sine / deep) ** power
        return np.asarray(total ** (-1 / power), dtype=np.float64)

    def skin(self, z: float) -> FloatArray:
        """(ANGLES,) radius of the skin at height z."""
        outline = self._outline(z, _BODY_WIDTH, _BODY_FRONT, _BODY_BACK, 2.5)
        wobble = sum(
            a * np.cos(n * self.angle + b + 0.004 * z) for n, a, b in zip(range(2, 6), self._draw[8:], self._draw[16:])
        )
        groove = 5.0 * np.exp(-((self.from_back / 0.14) ** 2))
        return np.asarray(outline + 0.8 * wobble - groove)

    def chest(self, z: float) -> FloatArray:
        """(ANGLES,) radius of the inside of the rib cage at height z."""
        return self._outline(z, _CHEST_WIDTH, _CHEST_FRONT, _CHEST_BACK, 2.3)

    def fat(self, z: float) -> FloatArray:
        """(ANGLES,) thickness in mm of the fat under the skin."""
        shape = 0.75 + 0.35 * np.cos(self.angle) ** 2 + 0.3 * np.exp(-(((self.from_back - 2.3) / 0.35) ** 2))
        return np.asarray(self.fat_mm * shape * (1 + 0.15 * np.cos(0.02 * z + 3 * self.angle + self._draw[30])))

    def spine_y(self, z: float) -> float:
        """y of the middle of the vertebral body at height z."""
        return (48 - 0.0011 * (z + 10) ** 2) * self.depth

    @cached_property
    def hilum(self) -> tuple[FloatArray, FloatArray]:
        """Where vessels and bronchi enter the right and the left lung."""
        return np.array([-40.0 * self.width, 8, 8]), np.array([42.0 * self.width, 10, 10])

    def _chain(self, radii: list[float] | float, *points: tuple[float, float, float]) -> Tubes:
        scale = np.array([self.width, self.depth, 1.0])
        return Tubes.along(np.array(points) * scale, radii)

    @cached_property
    def great_vessels(self) -> Tubes:
        """Aorta with its branches, pulmonary arteries and veins, caval veins."""
        chain = self._chain
        right, left = ((float(h[0] / self.width), float(h[1] / self.depth), float(h[2])) for h in self.hilum)
        return Tubes.joined(
            [
                chain(
                    [16, 15, 15, 14, 13, 13],
                    (5, -20, -14),
                    (-9, -29, 8),
                    (-9, -29, 30),
                    (-1, -23, 46),
                    (14, -7, 54),
                    (26, 12, 49),
                ),
                chain(
                    [13, 12.5, 12, 12, 11.5, 11, 10.5],
                    (26, 12, 49),
                    (29, 24, 34),
                    (26, 30, 8),
                    (23, 33, -40),
                    (15, 33, -90),
                    (8, 31, -140),
                    (5, 28, -220),
                ),
                chain([6.5, 6, 5], (1, -20, 52), (-14, -14, 82), (-27, -6, 120)),
                chain([4, 4, 4], (13, -6, 58), (15, -4, 90), (18, -2, 150)),
                chain([5.5, 5, 4.5], (22, 6, 56), (26, 12, 86), (40, 6, 112)),
                chain([9, 10, 11], (-25, -14, 76), (-25, -17, 40), (-22, -14, 0)),
                chain([7, 7, 8], (-46, -18, 108), (-36, -18, 92), (-25, -14, 74)),
                chain([6.5, 7, 7], (42, -22, 104), (14, -32, 84), (-24, -17, 72)),
                chain([14, 14, 12], (15, -40, -14), (20, -31, 12), (23, -14, 24)),
                chain([11, 9, 7.5], (23, -14, 24), (33, 2, 22), left),
                chain([11, 10, 7.5], (18, -18, 20), (-8, -9, 16), right),
                chain([7, 6.5], (-14, 10, -14), (-40, 8, -10)),
                chain([7, 6.5], (18, 12, -14), (42, 12, -8)),
                chain([11, 11, 11], (-22, 0, -38), (-24, 4, -75), (-22, 12, -140)),
            ]
        )

    @cached_property
    def gullet(self) -> Tubes:
        """The oesophagus."""
        return self._chain(6.0, (3, 21, 150), (3, 25, 40), (9, 22, 0), (13, 18, -60), (26, 6, -98))

    @cached_property
    def windpipe(self) -> Tubes:
        """Lumen of trachea and main bronchi."""
        right, left = ((float(h[0] / self.width), float(h[1] / self.depth), float(h[2])) for h in self.hilum)
        return Tubes.joined(
            [
                self._chain([8.5, 8.7, 8.7], (0, -3, 150), (0, 4, 85), (0, 10, 40)),
                self._chain([7.4, 6.8, 6.0], (-1, 10, 38), (-18, 13, 25), right),
                self._chain([6.8, 6.2, 5.4], (1, 10, 38), (20, 15, 24), left),
            ]
        )

    @cached_property
    def collar_bones(self) -> Tubes:
        """The clavicles."""
        half = [(22.0, -58.0, 84.0), (55.0, -55.0, 92.0), (95.0, -25.0, 104.0), (140.0, 5.0, 112.0)]
        return Tubes.joined([self._chain(6.0, *[(s * x, y, z) for x, y, z in half]) for s in (-1, 1)])

    def heart(self, plane: Plane, z: float) -> Voxels:
        """Field of the heart with its fat: a tilted ellipsoid, the tip to the left, front and below, and the left atrium."""
        dx, dy = plane.x - 22 * self.width, plane.y + 30 * self.depth
        dz = z + 44 - 3 * float(np.tanh(self._draw[6]))
        size = (1 + 0.05 * float(np.tanh(self._draw[7]))) * self.width
        u = 0.74 * dx - 0.38 * dy - 0.55 * dz
        v = 0.38 * dx + 0.915 * dy - 0.12 * dz
        w = 0.55 * dx - 0.12 * dy + 0.826 * dz
        body = ellipsoid(u, v, w, (64 * size, 47 * size, 48 * size))
        atria = ellipsoid(plane.x + 4, plane.y - 8, z + 18, (36 * size, 18 * size, 24 * size))
        return soft_min(body, atria, 10)

    def diaphragm(self, plane: Plane, z: float) -> Voxels:
        """Field of what lies below the two domes: negative below."""
        right, left = self.dome_mm
        a = self._dome(plane, z, (-62 * self.width, -2 * self.depth), right)
        b = self._dome(plane, z, (62 * self.width, 4 * self.depth), left)
        return soft_min(a, b, 12)

    def _dome(self, plane: Plane, z: float, middle: tuple[float, float], top: float) -> Voxels:
        u = (plane.x - middle[0]) / (80 * self.width)
        v = (plane.y - middle[1]) / (78 * self.depth)
        square = u * u + v * v
        slope = (2 * 40 + 4 * 26 * square) * np.sqrt((u / 80) ** 2 + (v / 78) ** 2)
        return np.asarray((z - top + square * (40 + 26 * square)) / np.sqrt(1 + slope * slope))

    def midline(self, plane: Plane, z: float, heart: Voxels, vessels: Voxels) -> Voxels:
        """Field of everything between the lungs: the mediastinum with heart, great vessels and spine."""
        upper = np.clip((z - 10) / 30, 0, 1)
        half = np.interp(plane.y[:, 0] / self.depth, _MIDLINE_Y, upper * _MIDLINE_UPPER + (1 - upper) * _MIDLINE_LOWER)
        slab = np.abs(plane.x - 2 - 3 * upper) - (half * self.width).astype(np.float32)[:, None]
        back = plane.y - self.spine_y(z)
        side = np.abs(plane.x)
        spine = soft_min(
            np.hypot(plane.x, back) - 19, np.maximum(0.97 * (side - 19) - 0.25 * np.maximum(back, 0), -back), 6
        )
        field = soft_min(slab, spine, 8)
        field = soft_min(field, heart - 1.5, 8)
        return soft_min(field, vessels - 2.0, 6)

    def lungs(self, plane: Plane, z: float, midline: Voxels, chest: Voxels, diaphragm: Voxels) -> Voxels:
        """Field of both lungs, from the fields of what bounds them."""
        dx = np.abs(plane.x) - 42 * self.width
        dy = plane.y - 14 * self.depth
        slope = (0.028 * dx) ** 2 + (0.021 * dy) ** 2
        apex = (z - 108 + 0.014 * dx * dx + 0.0105 * dy * dy) / np.sqrt(1 + slope)
        field = soft_max(chest + 1.5, -midline, 7)
        field = soft_max(field, apex, 8)
        return soft_max(field, -diaphragm, 4)
