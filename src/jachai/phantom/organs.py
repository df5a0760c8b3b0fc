"""A patient and a height → one slice of HU without lung vessels, blurred like the scanner does, and the lungs' share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jachai.core.volume import Voxels
from jachai.phantom.texture import Sampling, Texture
from jachai.phantom.torso import VERTEBRA_MM, Field, Patient, Plane, ellipsoid
from jachai.phantom.tubes import FloatArray

AIR, FAT, MUSCLE, BLOOD, HEART, LIVER, SPLEEN, STOMACH = -1000.0, -104.0, 54.0, 42.0, 47.0, 58.0, 49.0, 32.0
CORTEX, MARROW, SPONGY, CARTILAGE, DISC, CORD, CSF = 900.0, 210.0, 170.0, 95.0, 80.0, 38.0, 12.0
SKIN, TABLE_SHELL, TABLE_FOAM = 20.0, 120.0, -930.0
"""HU at 120 kVp without contrast medium: Schneider et al., Phys. Med. Biol. 45:459, 2000, and textbooks."""
LUNG = -858.0
"""Parenchyma without visible vessels, breathed in, at mid height; +0.25 HU per mm to the back (gravity)."""
RIB_MM = (3.6, 6.8)
"""Half thickness and half height of a rib."""
GRAIN_STEPS_MM = (1.7, 4.0, 9.0, 20.0)
"""Lattice steps of the textures that tissue is made of."""
TABLE_TOP_MM = 6.0
"""Gap between the back and the table (mattress)."""


def edge(field: Field, blur: float) -> Voxels:
    """Share inside a surface, 1 within and 0 outside, blurred: field in mm, blur as standard deviation in mm."""
    t = np.multiply(field, np.float32(-0.266 / blur))
    t += np.float32(0.5)
    np.clip(t, 0, 1, out=t)
    return np.asarray(t * t * (3 - 2 * t))


def paint(hu: Voxels, share: Field, value: Field | float) -> None:
    """Replace `share` of what is there by `value`, in place."""
    hu += share * (value - hu)


@dataclass(frozen=True, slots=True)
class Grain:
    """Four textures of one slice, mean 0 and variance 1: structures of about 3, 8, 18 and 40 mm."""

    fine: Voxels
    medium: Voxels
    coarse: Voxels
    wide: Voxels


class Grains:
    """The textures of one patient, at every z."""

    def __init__(self, seed: int, sampling: Sampling) -> None:
        self._textures = [Texture((seed, 10 + n), step, sampling) for n, step in enumerate(GRAIN_STEPS_MM)]

    def at(self, z: float) -> Grain:
        """The slice at z."""
        fine, medium, coarse, wide = (texture.at(z) for texture in self._textures)
        return Grain(fine, medium, coarse, wide)


def flat_grain(shape_ji: tuple[int, int]) -> Grain:
    """No texture."""
    nothing = np.zeros(shape_ji, dtype=np.float32)
    return Grain(nothing, nothing, nothing, nothing)


@dataclass(frozen=True, slots=True)
class Canvas:
    """A slice in the making, or a window of it: painting in a window paints the slice."""

    hu: Voxels
    patient: Patient
    plane: Plane
    z: float
    grain: Grain
    chest: Voxels
    """Field of the inside of the rib cage."""

    @property
    def blur(self) -> float:
        """Standard deviation in mm of the blur of a surface of no particular direction."""
        return float(np.sqrt((2 * self.plane.blur**2 + self.plane.blur_z**2) / 3))

    def window(self, x0: float, x1: float, y0: float, y1: float) -> Canvas:
        """The part between x0…x1 and y0…y1 in mm of the average patient; empty where the slice does not reach."""
        part = self.plane.window(x0 * self.patient.width, x1 * self.patient.width, y0, y1)
        plane = self.plane.cropped(part)
        grain = Grain(*(g[part] for g in (self.grain.fine, self.grain.medium, self.grain.coarse, self.grain.wide)))
        return Canvas(self.hu[part], self.patient, plane, self.z, grain, self.chest[part])


def slice_hu(patient: Patient, plane: Plane, z: float, grain: Grain) -> tuple[Voxels, Voxels]:
    """(j, i) HU of the slice at z in mm, and (j, i) share of lung in each pixel."""
    hu = np.full(plane.shape, AIR, dtype=np.float32)
    share = np.zeros(plane.shape, dtype=np.float32)
    whole = Canvas(hu, patient, plane, z, grain, plane.outside(patient.chest(z)))
    _table(whole)
    body = whole.window(-200, 200, -132, 132)
    if body.hu.size:
        share[plane.window(-200 * patient.width, 200 * patient.width, -132, 132)] = _body(body)
    return hu, share


def _body(c: Canvas) -> Voxels:
    """Everything but the table; → share of lung."""
    heart = c.patient.heart(c.plane, c.z)
    vessels = c.plane.tubes(c.patient.great_vessels, c.z, 9.0)
    diaphragm = c.patient.diaphragm(c.plane, c.z)
    lungs = c.patient.lungs(c.plane, c.z, c.patient.midline(c.plane, c.z, heart, vessels), c.chest, diaphragm)
    _wall(c)
    paint(c.hu, edge(c.chest - 1, c.plane.blur), FAT + 10 + 9 * c.grain.medium + 35 * np.maximum(c.grain.coarse, 0))
    if float(diaphragm.min()) < 4:
        _belly(c, diaphragm)
    _heart(c, heart)
    _vessels(c.window(-70, 70, -80, 80))
    _ribs(c)
    _breastbone(c.window(-40, 40, -130, -20))
    _shoulder(c)
    _spine(c.window(-48, 48, 8, 132))
    share = edge(lungs, c.blur)
    paint(c.hu, share, _parenchyma(c))
    _windpipe(c.window(-60, 60, -30, 40))
    return share


def lung_field(patient: Patient, plane: Plane, z: float) -> Voxels:
    """(j, i) field of the lungs alone: negative inside, about mm."""
    heart = patient.heart(plane, z)
    midline = patient.midline(plane, z, heart, plane.tubes(patient.great_vessels, z, 9.0))
    return patient.lungs(plane, z, midline, plane.outside(patient.chest(z)), patient.diaphragm(plane, z))


def _table(c: Canvas) -> None:
    """A curved couch under the back: a thin shell round foam."""
    top = 106 * c.patient.depth + TABLE_TOP_MM
    c = c.window(-400, 400, top - 60, top + 30)
    field = np.maximum(np.abs(c.plane.y - (top + 9 - 0.0012 * c.plane.x**2)) - 9, np.abs(c.plane.x) - 205)
    paint(c.hu, edge(field, c.plane.blur), TABLE_SHELL)
    paint(c.hu, edge(field + 1.2, c.plane.blur), TABLE_FOAM)


def _wall(c: Canvas) -> None:
    """Skin, fat, and muscles with fat between them."""
    grain, blur = c.grain, c.plane.blur
    skin = c.plane.outside(c.patient.skin(c.z))
    paint(c.hu, edge(skin, blur), SKIN)
    strands = 40 * np.exp(-((grain.coarse / 0.06) ** 2)) * np.clip(grain.wide + 0.4, 0, 1)
    paint(c.hu, edge(skin + 1.8, blur), FAT + 4 * grain.medium + 3 * grain.coarse + strands)
    muscle = edge(skin + c.plane.at_angle(c.patient.fat(c.z)) + 1.5 * grain.wide, blur)
    sheet = np.exp(-((grain.wide / 0.13) ** 2)) * np.clip(0.6 + 0.5 * grain.coarse, 0, 1)
    sheet += 0.7 * np.exp(-(((c.chest - 13.5 - 1.5 * grain.wide) / 1.3) ** 2))
    tissue = MUSCLE + 4 * grain.medium + 3 * grain.coarse
    armpit = ellipsoid(np.abs(c.plane.x) - 122 * c.patient.width, c.plane.y - 6, c.z - 72, (17, 24, 46))
    sheet = np.maximum(sheet, edge(armpit + 5 * grain.coarse, 1.5) * (0.85 + 0.2 * grain.coarse))
    paint(c.hu, muscle, tissue - np.minimum(sheet, 0.9) * (tissue - FAT))


def _belly(c: Canvas, below: Voxels) -> None:
    """Below the diaphragm: liver, stomach with air, spleen."""
    grain, blur = c.grain, c.blur
    inside = np.maximum(below, c.chest + 1)
    paint(c.hu, edge(inside, blur), MUSCLE)
    paint(c.hu, edge(inside + 3, blur), FAT + 6 * grain.medium)
    x, y = c.plane.x / c.patient.width, c.plane.y / c.patient.depth
    spine = np.hypot(x, y - c.patient.spine_y(c.z)) - 34
    liver = np.maximum(np.maximum(inside + 1.5, x + 0.35 * y - 22 + 3 * grain.wide), -spine)
    paint(c.hu, edge(liver, blur), LIVER + 3 * grain.medium)
    veins = np.exp(-((grain.wide / 0.16) ** 2) - ((grain.coarse / 0.35) ** 2)) * edge(liver + 10, 3.0)
    paint(c.hu, veins, BLOOD)
    stomach = np.maximum(ellipsoid(x - 62, y + 14, c.z + 112, (40, 40, 44)), inside + 6)
    paint(c.hu, edge(stomach, blur), MUSCLE)
    paint(c.hu, edge(stomach + 3.5, blur), STOMACH + 10 * grain.coarse)
    paint(c.hu, edge(np.maximum(stomach + 3.5, y + 26), blur), AIR)
    spleen = np.maximum(ellipsoid(x - 88, y - 40, c.z + 108, (26, 38, 42)), inside + 5)
    paint(c.hu, edge(spleen, blur), SPLEEN + 3 * grain.medium)


def _heart(c: Canvas, field: Voxels) -> None:
    """The heart in its sac and fat, with a fatty groove between atria and ventricles."""
    if float(field.min()) > 4:
        return
    paint(c.hu, edge(field, c.blur), MUSCLE - 10)
    paint(c.hu, edge(field + 1.3, c.blur), FAT + 8)
    muscle = field + 4.5 + 1.8 * c.grain.wide + 1.2 * c.grain.coarse
    along = 0.74 * c.plane.x - 0.38 * c.plane.y - 0.55 * c.z - 32 + 3 * c.grain.wide
    groove = 12 * np.exp(-((along / 3.5) ** 2))
    paint(c.hu, edge(muscle + groove, c.blur), HEART + 2 * c.grain.medium)


def _vessels(c: Canvas) -> None:
    """Oesophagus and great vessels."""
    paint(c.hu, edge(c.plane.tubes(c.patient.gullet, c.z, 4.0), c.blur), 36 + 6 * c.grain.medium)
    paint(c.hu, edge(c.plane.tubes(c.patient.great_vessels, c.z, 4.0), c.blur), BLOOD + 1.5 * c.grain.medium)


def _ribs(c: Canvas) -> None:
    """Ribs and their cartilage in front."""
    turn, phase = c.patient.from_back, c.patient.vertebra_phase_mm
    drop = float(np.interp(c.z, [-120, 30, 105], [104, 92, 50])) * np.sin(np.minimum(turn, 2.6) / 2) ** 2
    level = (c.z + drop - phase) / VERTEBRA_MM
    number = np.rint(level).astype(np.intp)
    height = 0.93 * ((level - number) * VERTEBRA_MM - c.patient.rib_shift_mm[number % 24])
    height = np.where(number <= np.floor((98 - phase) / VERTEBRA_MM), height, 99.0)
    field = ellipsoid(c.chest - 5.2, c.plane.at_angle(height), 0.0, (RIB_MM[0], RIB_MM[1], 1.0))
    bone = c.plane.at_angle(_between(turn, 0.2, 2.35))
    gristle = c.plane.at_angle(_between(turn, 2.35, 3.0)) * float(c.z > -95)
    outer = edge(field, c.blur)
    paint(c.hu, outer * bone, CORTEX - 120)
    paint(c.hu, edge(field + 1.5, c.blur) * bone, MARROW + 50 * c.grain.fine + 20 * c.grain.medium)
    paint(c.hu, outer * gristle, CARTILAGE + 12 * c.grain.medium)


def _between(angle: FloatArray, first: float, last: float) -> FloatArray:
    """1 between two angles, 0 beyond, with a soft step at each."""
    return np.asarray(np.clip((angle - first) / 0.05 + 0.5, 0, 1) * np.clip((last - angle) / 0.05 + 0.5, 0, 1))


def _breastbone(c: Canvas) -> None:
    """The sternum."""
    if not -75 < c.z < 95:
        return
    half = float(np.interp(c.z, [-75, -55, 30, 50, 75, 95], [5, 15, 16, 23, 27, 20]))
    board = ellipsoid(c.plane.x, 1.1 * (c.chest - 7.5), 0.0, (half, 6.2, 1.0))
    paint(c.hu, edge(board, c.blur), CORTEX - 350)
    paint(c.hu, edge(board + 1.3, c.blur), SPONGY - 40 + 45 * c.grain.fine)


def _shoulder(c: Canvas) -> None:
    """Shoulder blades and collar bones."""
    if -25 < c.z < 100:
        half = float(np.interp(c.z, [-25, 0, 60, 100], [0.03, 0.22, 0.40, 0.30]))
        angle = c.plane.at_angle(c.patient.from_back) - (0.98 + 0.0018 * (c.z - 40))
        away = (np.abs(angle) - half) * 105
        bow = c.chest - 18 - 3.5 * np.sin(4 * angle)
        blade = np.maximum(np.abs(bow) - float(np.interp(c.z, [-25, 90], [1.8, 3.0])), away)
        field = np.minimum(blade, np.hypot(bow, away + 3) - 4.5)
        paint(c.hu, edge(field, c.plane.blur), CORTEX - 200)
        paint(c.hu, edge(field + 1.5, c.plane.blur), MARROW + 40 * c.grain.fine)
    if 70 < c.z < 125:
        field = c.plane.tubes(c.patient.collar_bones, c.z, 4.0)
        paint(c.hu, edge(field, c.blur), CORTEX)
        paint(c.hu, edge(field + 1.8, c.blur), MARROW + 40 * c.grain.fine)


def _spine(c: Canvas) -> None:
    """Vertebral bodies with discs between them, canal with cord, arch, transverse and spinous processes."""
    height = (c.z - c.patient.vertebra_phase_mm + VERTEBRA_MM / 2) % VERTEBRA_MM - VERTEBRA_MM / 2
    x, back = c.plane.x, c.plane.y - c.patient.spine_y(c.z)
    waist = 1.6 * (1 - (2 * height / VERTEBRA_MM) ** 2)
    canal = np.hypot(x, back - 20)
    body = np.maximum(ellipsoid(x, back, 0.0, (17 - waist, 14 - 0.6 * waist, 1.0)), 9.5 - canal)
    _arch(c, back, canal, height)
    outer = edge(body, c.plane.blur)
    paint(c.hu, outer, DISC + 5 * c.grain.medium)
    ends = np.array([2.3, 3.4], dtype=np.float32) + np.float32(abs(height) - VERTEBRA_MM / 2)
    bony, spongy = (float(share) for share in edge(ends, c.plane.blur_z))
    paint(c.hu, outer * bony, CORTEX - 420)
    paint(c.hu, edge(body + 1.2, c.plane.blur) * spongy, SPONGY + 45 * c.grain.fine + 15 * c.grain.medium)
    paint(c.hu, edge(canal - 8, c.plane.blur), CSF)
    paint(c.hu, edge(np.hypot(x / 1.15, back - 20) - 4.2, c.plane.blur), CORD)


def _arch(c: Canvas, back: Voxels, canal: Voxels, height: float) -> None:
    """The bony ring behind the canal with its processes; the spinous process slopes down from the one above."""
    ring = np.maximum(np.maximum(np.abs(canal - 10.5) - 2.4, 12 - back), abs(height + 1) - 8)
    side = np.abs(c.plane.x)
    wing = np.hypot(back - 24 - 0.28 * (side - 12), height - 1.0) - 4.2
    wing = np.maximum(wing, np.abs(side - 22) - 11)
    slope = (height + 0.62 * (back - 30) + VERTEBRA_MM / 2) % VERTEBRA_MM - VERTEBRA_MM / 2
    thorn = np.maximum(np.maximum(side - 2.6, np.abs(slope) * 0.85 - 6.5), np.abs(back - 36) - 9)
    field = np.minimum(np.minimum(ring, wing), thorn)
    paint(c.hu, edge(field, c.blur), CORTEX - 150)
    paint(c.hu, edge(field + 1.5, c.blur), MARROW + 80 + 50 * c.grain.fine)


def _windpipe(c: Canvas) -> None:
    """Trachea and main bronchi with their walls."""
    field = c.plane.tubes(c.patient.windpipe, c.z, 6.0)
    paint(c.hu, edge(field - 1.6, c.blur), 30.0)
    paint(c.hu, edge(field, c.blur), AIR)


def _parenchyma(c: Canvas) -> Voxels:
    """HU of lung tissue: denser at the back, mottled by what is too small to see, a fissure in each lung."""
    grain, plane = c.grain, c.plane
    tissue = LUNG + 0.25 * plane.y + 9 * grain.wide + 8 * grain.coarse + 8 * grain.medium + 24 * grain.fine
    tissue += 16 * np.maximum(grain.fine * grain.medium, 0)
    slope = np.where(plane.x < 0, np.float32(0.80), np.float32(0.70))
    fissure = (plane.y - 8 + slope * c.z - 3 * grain.wide - 0.0012 * (np.abs(plane.x) - 70) ** 2) / 1.28
    width = float(np.hypot(0.5, c.blur))
    return np.asarray(tissue + 150 * (0.5 / width) * np.exp(-((fissure / width) ** 2) / 2))
