"""Voxel indices (k, j, i) ⇄ patient positions (x, y, z) in mm, LPS: the only convention.

k counts slices, j rows (downwards), i columns; the centre of the first voxel is (0, 0, 0). Positions follow DICOM
PS3.3 C.7.6.2.1.1: x grows to the patient's left, y to the back, z to the head. Every slice keeps its own origin, so that
uneven spacing, missing slices and a tilted gantry (slices that shift along their plane) need no special case.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jachai.core.errors import Damaged

FloatArray = npt.NDArray[np.float64]

MAX_ABS_MM = 1e5
"""Largest believable coordinate (100 m): beyond it a header is damaged, not a patient far away."""
SPACING_RANGE_MM = (1e-3, 100.0)
"""Believable distance between voxel centres: 1 µm (micro-CT) to 100 mm."""


@dataclass(frozen=True, slots=True, eq=False)
class Geometry:
    """Where the voxels of a volume lie.

    origins_mm: (n_slices, 3) position (x, y, z) of voxel (k, 0, 0) of each slice, ordered along `normal`.
    row_step_mm: (3,) step from row j to j + 1. column_step_mm: (3,) step from column i to i + 1.
    thickness_mm: slice thickness as the file states it, None where it does not; it stands in for the spacing of a
    single slice only.

    Raises Damaged for anything that is not finite, not believable or not a proper frame.
    """

    origins_mm: FloatArray
    row_step_mm: FloatArray
    column_step_mm: FloatArray
    thickness_mm: float | None = None

    def __post_init__(self) -> None:
        for name in ("origins_mm", "row_step_mm", "column_step_mm"):
            array = np.array(getattr(self, name), dtype=np.float64)
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        if self.origins_mm.ndim != 2 or self.origins_mm.shape[1:] != (3,) or not len(self.origins_mm):
            raise Damaged(f"Slice positions have the shape {self.origins_mm.shape}, not (slices, 3).")
        if not (np.isfinite(self.origins_mm).all() and (np.abs(self.origins_mm) <= MAX_ABS_MM).all()):
            raise Damaged("A slice position is not a believable number of millimetres.")
        for name, step in (("rows", self.row_step_mm), ("columns", self.column_step_mm)):
            if step.shape != (3,) or not np.isfinite(step).all():
                raise Damaged(f"The spacing or direction of the {name} is not a number.")
            if not SPACING_RANGE_MM[0] <= float(np.linalg.norm(step)) <= SPACING_RANGE_MM[1]:
                raise Damaged(f"The spacing of the {name} is not between 0.001 and 100 mm.")
        cosine = abs(float(self.row_step_mm @ self.column_step_mm)) / float(
            np.linalg.norm(self.row_step_mm) * np.linalg.norm(self.column_step_mm)
        )
        if cosine > 1e-2:
            raise Damaged("Rows and columns of the image are not at right angles.")
        if len(self.origins_mm) > 1 and float(np.diff(self.positions_mm).min()) <= 0:
            raise Damaged("Two slices lie at the same position, or the slices are out of order.")

    @property
    def normal(self) -> FloatArray:
        """(3,) unit vector across the slices; k grows along it."""
        across = np.cross(self.column_step_mm, self.row_step_mm)
        return np.asarray(across / np.linalg.norm(across), dtype=np.float64)

    @property
    def positions_mm(self) -> FloatArray:
        """(n_slices,) position of each slice along `normal`, strictly increasing."""
        return np.asarray(self.origins_mm @ self.normal, dtype=np.float64)

    @property
    def slice_step_mm(self) -> float | None:
        """Median distance between neighbouring slices; of a single slice its thickness, None if unknown."""
        if len(self.origins_mm) < 2:
            return self.thickness_mm
        return float(np.median(np.diff(self.positions_mm)))

    @property
    def pixel_mm(self) -> tuple[float, float]:
        """(row, column) spacing in mm."""
        return float(np.linalg.norm(self.row_step_mm)), float(np.linalg.norm(self.column_step_mm))

    @property
    def spacing_mm(self) -> tuple[float | None, float, float]:
        """(k, j, i) spacing in mm; k is None for a single slice of unknown thickness."""
        return (self.slice_step_mm, *self.pixel_mm)

    @property
    def gaps(self) -> tuple[int, ...]:
        """Each k after which the distance to the next slice exceeds 1.5 times the median: slices are missing there."""
        steps = np.diff(self.positions_mm)
        return tuple(int(k) for k in np.flatnonzero(steps > 1.5 * np.median(steps))) if len(steps) else ()

    @property
    def is_even(self) -> bool:
        """True if all slice distances agree within 2 % of their median (or there are fewer than three slices)."""
        steps = np.diff(self.positions_mm)
        return len(steps) < 2 or bool(np.ptp(steps) <= 0.02 * float(np.median(steps)))

    @property
    def tilt_degrees(self) -> float:
        """Angle between the line through the slice origins and the slice normal: gantry tilt; 0 for a single slice."""
        if len(self.origins_mm) < 2:
            return 0.0
        along = self.origins_mm[-1] - self.origins_mm[0]
        cosine = float(along @ self.normal) / float(np.linalg.norm(along))
        return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))

    @property
    def plane(self) -> str:
        """'axial', 'coronal', 'sagittal', or 'oblique' where the normal is more than 35° off every axis."""
        normal = np.abs(self.normal)
        axis = int(np.argmax(normal))
        return ("sagittal", "coronal", "axial")[axis] if normal[axis] >= np.cos(np.radians(35)) else "oblique"

    def index_to_mm(self, index_kji: npt.ArrayLike) -> FloatArray:
        """(..., 3) indices (k, j, i), fractions allowed → (..., 3) positions (x, y, z) in mm.

        Between slices, and half a slice beyond the ends, positions are interpolated along the slice origins.
        """
        index = np.asarray(index_kji, dtype=np.float64)
        k, j, i = index[..., 0, None], index[..., 1, None], index[..., 2, None]
        return np.asarray(self._origin_at(k[..., 0]) + j * self.row_step_mm + i * self.column_step_mm)

    def mm_to_index(self, position_mm: npt.ArrayLike) -> FloatArray:
        """(..., 3) positions (x, y, z) in mm → (..., 3) fractional indices (k, j, i). The inverse of `index_to_mm`."""
        position = np.asarray(position_mm, dtype=np.float64)
        along = position @ self.normal
        k = self._slice_at(np.asarray(along))
        rest = position - self._origin_at(k)
        j = rest @ self.row_step_mm / float(self.row_step_mm @ self.row_step_mm)
        i = rest @ self.column_step_mm / float(self.column_step_mm @ self.column_step_mm)
        return np.stack([k, j, i], axis=-1)

    def _step_beyond(self) -> FloatArray:
        """(2, 3) slice step before the first and after the last slice."""
        if len(self.origins_mm) > 1:
            return np.stack([self.origins_mm[1] - self.origins_mm[0], self.origins_mm[-1] - self.origins_mm[-2]])
        return np.stack([self.normal * (self.thickness_mm or 1.0)] * 2)

    def _origin_at(self, k: FloatArray) -> FloatArray:
        """(...) fractional slice index → (..., 3) origin of that slice in mm, extrapolated at the ends."""
        last = len(self.origins_mm) - 1
        inside = np.stack([np.interp(k, np.arange(last + 1), self.origins_mm[:, axis]) for axis in range(3)], axis=-1)
        before, after = self._step_beyond()
        return np.asarray(inside + np.minimum(k, 0)[..., None] * before + np.maximum(k - last, 0)[..., None] * after)

    def _slice_at(self, along_mm: FloatArray) -> FloatArray:
        """(...) position along the normal in mm → fractional slice index, extrapolated at the ends."""
        positions = self.positions_mm
        before, after = self._step_beyond() @ self.normal
        inside = np.interp(along_mm, positions, np.arange(len(positions)))
        beyond = np.minimum(along_mm - positions[0], 0) / before + np.maximum(along_mm - positions[-1], 0) / after
        return np.asarray(inside + beyond)

    def cropped(self, box_kji: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]) -> Geometry:
        """The geometry of voxels [k0:k1, j0:j1, i0:i1]."""
        (k0, k1), (j0, _), (i0, _) = box_kji
        return Geometry(
            self.origins_mm[k0:k1] + j0 * self.row_step_mm + i0 * self.column_step_mm,
            self.row_step_mm,
            self.column_step_mm,
            self.thickness_mm if self.thickness_mm else self.slice_step_mm,
        )

    @staticmethod
    def regular(
        n_slices: int,
        spacing_mm: tuple[float, float, float],
        origin_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
    ) -> Geometry:
        """An axial stack: spacing (k, j, i), origin (x, y, z); slices from feet to head, rows to the back."""
        dk, dj, di = spacing_mm
        origins = np.asarray(origin_mm) + np.arange(n_slices)[:, None] * np.array([0.0, 0.0, dk])
        return Geometry(origins, np.array([0.0, dj, 0.0]), np.array([di, 0.0, 0.0]), dk)
