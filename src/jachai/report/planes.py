"""Volume + a place in it → the planes through that place, turned as a radiologist expects them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jachai.core.finding import HeatMap
from jachai.core.volume import Box, Volume

MIN_SLICES_ACROSS = 8
"""With fewer slices a plane across them is a strip that shows nothing."""

_NAMES = ("sagittal", "coronal", "axial")
"""The plane that is perpendicular to x, y, z."""
_LETTERS = (("R", "L"), ("A", "P"), ("F", "H"))
"""At the low and high end of x, y, z in LPS: right, left, anterior, posterior, foot, head."""
_LAYOUT = (((2, -1), (1, 1)), ((2, -1), (0, 1)), ((1, 1), (0, 1)))
"""For sagittal, coronal, axial: (axis downwards, its sign), (axis to the right, its sign). Axial is seen from the feet."""


@dataclass(frozen=True, slots=True)
class Rectangle:
    """x to the right, y downwards, in the unit of the plane."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Plane:
    """One plane through a volume. fixed, down, right: axes of the array (0 k, 1 j, 2 i); flip_*: drawn backwards.

    size_voxels and step: along `down` and `right`; step in mm, or 1 pixel for pictures. letters: left, right, top, bottom.
    """

    name: str
    fixed: int
    index: int
    down: int
    right: int
    flip_down: bool
    flip_right: bool
    size_voxels: tuple[int, int]
    step: tuple[float, float]
    letters: tuple[str, str, str, str] | None

    @property
    def width(self) -> float:
        """Extent to the right in mm (pixels for pictures)."""
        return self.size_voxels[1] * self.step[1]

    @property
    def height(self) -> float:
        """Extent downwards in mm (pixels for pictures)."""
        return self.size_voxels[0] * self.step[0]

    def picture(self, array_kji: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(k, j, i) → (rows, columns) of this plane."""
        return self.turned(np.take(array_kji, self.index, axis=self.fixed))

    def heat(self, heatmap: HeatMap) -> tuple[npt.NDArray[np.float32], Rectangle]:
        """The coarse heat map in this plane and where it lies; it may reach past the last row and column."""
        strides = (1, heatmap.stride, heatmap.stride)
        index = min(self.index // strides[self.fixed], heatmap.values.shape[self.fixed] - 1)
        cells = self.turned(np.take(heatmap.values, index, axis=self.fixed))
        height = cells.shape[0] * strides[self.down] * self.step[0]
        width = cells.shape[1] * strides[self.right] * self.step[1]
        x = self.width - width if self.flip_right else 0.0
        y = self.height - height if self.flip_down else 0.0
        return cells, Rectangle(x, y, width, height)

    def rectangle(self, box_kji: Box) -> Rectangle:
        """Where a box lies in this plane."""
        y0, y1 = _span(box_kji[self.down], self.size_voxels[0], self.step[0], self.flip_down)
        x0, x1 = _span(box_kji[self.right], self.size_voxels[1], self.step[1], self.flip_right)
        return Rectangle(x0, y0, x1 - x0, y1 - y0)

    def turned(self, flat: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(the two other axes, in array order, as `take` leaves them) → (rows, columns), transposed and flipped as it is drawn."""
        drawn = flat if self.down < self.right else flat.T
        drawn = drawn[::-1] if self.flip_down else drawn
        return drawn[:, ::-1] if self.flip_right else drawn


def planes_through(volume: Volume, center_kji: tuple[float, float, float]) -> list[Plane]:
    """The plane of the slices first, then the two across them if there are enough slices."""
    place = [int(np.clip(round(c), 0, n - 1)) for c, n in zip(center_kji, volume.shape, strict=True)]
    fixed_axes = (0, 1, 2) if volume.shape[0] >= MIN_SLICES_ACROSS and volume.geometry is not None else (0,)
    return [_plane(volume, fixed, place[fixed]) for fixed in fixed_axes]


def _plane(volume: Volume, fixed: int, index: int) -> Plane:
    if volume.geometry is None:
        return Plane("picture", 0, index, 1, 2, False, False, volume.shape[1:], (1.0, 1.0), None)
    patient_axes, signs = _patient_axes(volume)
    spacing = [step or 1.0 for step in volume.geometry.spacing_mm]
    name = patient_axes[fixed]
    (down_axis, down_sign), (right_axis, right_sign) = _LAYOUT[name]
    down, right = patient_axes.index(down_axis), patient_axes.index(right_axis)
    top, bottom = _LETTERS[down_axis][::down_sign]
    left, right_letter = _LETTERS[right_axis][::right_sign]
    return Plane(
        _NAMES[name],
        fixed,
        index,
        down,
        right,
        signs[down] != down_sign,
        signs[right] != right_sign,
        (volume.shape[down], volume.shape[right]),
        (spacing[down], spacing[right]),
        (left, right_letter, top, bottom),
    )


def _patient_axes(volume: Volume) -> tuple[list[int], list[int]]:
    """For each axis of the array the patient axis (0 x, 1 y, 2 z) it runs along most, each used once, and its sign."""
    assert volume.geometry is not None
    frame = np.stack([volume.geometry.normal, volume.geometry.row_step_mm, volume.geometry.column_step_mm])
    frame = frame / np.linalg.norm(frame, axis=1, keepdims=True)
    axes, signs, free = [-1, -1, -1], [1, 1, 1], np.abs(frame)
    for _ in range(3):
        array_axis, patient_axis = (int(n) for n in np.unravel_index(int(np.argmax(free)), (3, 3)))
        axes[array_axis] = patient_axis
        signs[array_axis] = 1 if frame[array_axis, patient_axis] >= 0 else -1
        free[array_axis, :] = -1
        free[:, patient_axis] = -1
    return axes, signs


def _span(edge: tuple[int, int], size: int, step: float, flip: bool) -> tuple[float, float]:
    low, high = (size - edge[1], size - edge[0]) if flip else edge
    return low * step, high * step
