"""Volume + what could be measured of it → why a verdict calibrated on chest CT would not be honest there."""

from __future__ import annotations

import numpy as np

from jachai.core.volume import Modality, Volume
from jachai.forensics.selfreference import Evidence

STACK = 8
"""Fewer slices than this are judged by the single-slice calibration."""
PIXEL_MM = (0.4, 1.2)
SLICE_MM = (0.4, 8.5)
"""In-plane and slice spacing of the intact scans, with some air: outside, a verdict is inconclusive."""
MIN_SIDE = 64
"""Voxels. A smaller picture has too few windows to predict anything from."""
COARSE_HU = 3.5
"""Stored values of a CT lie 1 HU apart (rarely 2). Further apart, they went through 8 bit or a coarse quantiser, which alters
the noise that the engines read."""
LOOKED_AT = 4
"""Slices whose values are looked at."""
MIN_EXAMINED_CM2 = 10.0
"""Least examined area in the fullest slice: about a third of a lung near its top."""


def basis_of(volume: Volume) -> tuple[str, str]:
    """(modality, basis) whose calibration a volume is judged by. Pictures borrow MR's, and are always inconclusive."""
    modality = "CT" if volume.modality is Modality.CT else "MR"
    return modality, "volume" if volume.shape[0] >= STACK else "slice"


def limits_of(volume: Volume, evidence: Evidence) -> tuple[str, ...]:
    """Why this engine's calibration does not cover a volume: whole sentences, empty where it does."""
    limits = []
    if volume.modality is Modality.PICTURE:
        limits.append("It is a picture: without Hounsfield units and spacing nothing was calibrated.")
    if min(volume.shape[1:]) < MIN_SIDE:
        limits.append(f"It is smaller than {MIN_SIDE} × {MIN_SIDE} pixels.")
    if float(np.ptp(volume.voxels[:: max(1, volume.shape[0] // 8)])) == 0:
        limits.append("It has no content: sampled slices hold one single value.")
    if volume.provenance.lossy:
        limits.append("It was compressed with loss, which alters the noise that the engine reads.")
    if volume.modality is Modality.CT and value_step(volume) >= COARSE_HU:
        limits.append(f"Its values lie {value_step(volume):.0f} HU apart: it went through 8 bit or a coarse quantiser.")
    if volume.geometry is not None:
        limits += _geometry_limits(volume)
    if volume.modality is Modality.CT and not evidence.has_lung:
        limits.append("No lungs were found, and the CT calibration rests on chests only.")
    pixel_cm2 = float(np.prod(volume.geometry.pixel_mm)) / 100 if volume.geometry else 0.005
    area = float(evidence.examined.sum(axis=(1, 2)).max()) * evidence.stride**2 * pixel_cm2
    if area < MIN_EXAMINED_CM2:
        limits.append(f"Only {area:.0f} cm² of tissue could be examined in the fullest slice.")
    return tuple(limits)


def value_step(volume: Volume) -> float:
    """Median distance in HU between neighbouring values that occur between air and bone; 0 where there are too few."""
    n = volume.shape[0]
    few = volume.voxels[:: max(1, n // LOOKED_AT)]
    seen = np.unique(np.round(few[(few > -990) & (few < 400)], 2))
    return float(np.median(np.diff(seen))) if len(seen) > 20 else 0.0


def _geometry_limits(volume: Volume) -> list[str]:
    geometry = volume.geometry
    limits: list[str] = []
    if geometry is None:
        return limits
    pixel, step = max(geometry.pixel_mm), geometry.slice_step_mm
    if not PIXEL_MM[0] <= min(geometry.pixel_mm) <= pixel <= PIXEL_MM[1]:
        limits.append(f"Its pixels of {pixel:.2f} mm lie outside the calibrated {PIXEL_MM[0]}–{PIXEL_MM[1]} mm.")
    if volume.shape[0] > 1 and step is not None and not SLICE_MM[0] <= step <= SLICE_MM[1]:
        limits.append(
            f"Its slice distance of {step:.2f} mm lies outside the calibrated {SLICE_MM[0]}–{SLICE_MM[1]} mm."
        )
    if volume.modality is Modality.CT and geometry.plane != "axial":
        limits.append(f"Its slices are {geometry.plane}: reformatted CT was not calibrated.")
    return limits
