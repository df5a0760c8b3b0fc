"""The affine of a stored array → Geometry and the one axis that must be read backwards.

A NIfTI or MetaImage file may store its axes in any direction; `core.geometry` wants k to grow along the normal
(i direction × j direction), that is, a right-handed array. A right-handed file is taken as it is stored: array index
(i, j, k) of the file is voxel (k, j, i) of the volume. Of a left-handed file exactly one axis is read backwards: the rows
(j) if they run against the way a slice is displayed (to the back, or down), else the columns (i) if they do (to the
patient's left, or to the back), else the slices (k). Positions in mm are exact either way; gantry tilt (a shear along the
slices) is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jachai.core.errors import Damaged, Unsupported
from jachai.core.geometry import MAX_ABS_MM, SPACING_RANGE_MM, FloatArray, Geometry
from jachai.core.volume import Voxels

DISPLAY_DIRECTION = (1.0, 1.0, -1.0)
"""Sign of (x, y, z) along which rows and columns of a displayed slice run: to the left, to the back, to the feet."""
MIN_INDEPENDENCE = 0.02
"""Least volume of the cell of three unit axes; below it (axes within about 1° of a plane) the affine is singular."""
MAX_IN_PLANE_COSINE = 1e-2
"""Largest cosine between rows and columns that `Geometry` accepts."""
AXIS_NAMES = ("slices", "rows", "columns")


@dataclass(frozen=True, slots=True, eq=False)
class Placement:
    """geometry: of the volume. backwards: axis 0, 1 or 2 of (k, j, i) that is read backwards, None if none is."""

    geometry: Geometry
    backwards: int | None

    def as_stored(self, voxels: Voxels) -> Voxels:
        """A view of `voxels` (k, j, i) in the order of the file: what is written into it lands in its place."""
        return voxels if self.backwards is None else np.flip(voxels, self.backwards)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user who compares indices with other software should know."""
        if self.backwards is None:
            return ()
        name = AXIS_NAMES[self.backwards]
        return (f"The file stores a mirrored (left-handed) array: its {name} are counted from the other end here.",)


def place(shape_kji: tuple[int, int, int], affine_lps: FloatArray) -> Placement:
    """(4, 4) affine from stored (i, j, k, 1) to (x, y, z, 1) in mm, LPS → where the volume lies.

    Raises Damaged for an affine that is not finite, not believable or singular, Unsupported if rows and columns are not
    at right angles.
    """
    steps = [affine_lps[:3, axis].astype(np.float64) for axis in (2, 1, 0)]
    origin = affine_lps[:3, 3].astype(np.float64)
    _check(steps, origin)
    handedness = float(np.cross(steps[2], steps[1]) @ steps[0])
    backwards = None if handedness > 0 else _axis_to_reverse(steps)
    if backwards is not None:
        origin = origin + (shape_kji[backwards] - 1) * steps[backwards]
        steps[backwards] = -steps[backwards]
    origins = origin + np.arange(shape_kji[0])[:, None] * steps[0]
    normal = np.cross(steps[2], steps[1])
    thickness = float(steps[0] @ normal / np.linalg.norm(normal)) if shape_kji[0] == 1 else None
    return Placement(Geometry(origins, steps[1], steps[2], thickness), backwards)


def _check(steps: list[FloatArray], origin: FloatArray) -> None:
    remedy = "Convert the scan again from its DICOM files."
    if not (np.isfinite(steps).all() and np.isfinite(origin).all()):
        raise Damaged("The position or direction of the image holds a value that is not a number.", remedy)
    if np.abs(origin).max() > MAX_ABS_MM:
        raise Damaged("The position of the image is not a believable number of millimetres.", remedy)
    lengths = np.linalg.norm(steps, axis=1)
    if not ((lengths >= SPACING_RANGE_MM[0]) & (lengths <= SPACING_RANGE_MM[1])).all():
        raise Damaged("The voxel spacing is not between 0.001 and 100 mm.", remedy)
    directions = np.array(steps) / lengths[:, None]
    if abs(np.linalg.det(directions)) < MIN_INDEPENDENCE:
        raise Damaged("The three axes of the image lie in one plane: its affine is singular.", remedy)
    if abs(float(directions[1] @ directions[2])) > MAX_IN_PLANE_COSINE:
        raise Unsupported(
            "Rows and columns of the image are not at right angles (sheared affine).",
            "Resample the scan onto a right-angled grid, or scan the original DICOM files.",
        )


def _axis_to_reverse(steps: list[FloatArray]) -> int:
    """The axis of (k, j, i) to read backwards in a left-handed array: see the module."""
    for axis in (1, 2):
        main = int(np.argmax(np.abs(steps[axis])))
        if steps[axis][main] * DISPLAY_DIRECTION[main] < 0:
            return axis
    return 0
