"""Planes: drawn as a radiologist expects them, whatever the direction of the stack."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest

from jachai.core.finding import HeatMap
from jachai.core.geometry import Geometry
from jachai.core.volume import Modality, Provenance, Volume
from jachai.report.planes import Plane, planes_through

SHAPE = (9, 11, 13)
STEP = (3.0, 2.0, 1.0)
AXES = {"R": (0, -1), "L": (0, 1), "A": (1, -1), "P": (1, 1), "F": (2, -1), "H": (2, 1)}


def stack(order: tuple[int, ...], signs: tuple[int, ...]) -> Volume:
    """A volume whose rows and columns run along the given patient axes; slices along whatever makes k grow."""
    row, column = np.zeros(3), np.zeros(3)
    row[order[1]], column[order[2]] = signs[0] * STEP[1], signs[1] * STEP[2]
    normal = np.cross(column, row) / (STEP[1] * STEP[2])
    geometry = Geometry(np.arange(SHAPE[0])[:, None] * STEP[0] * normal, row, column)
    voxels = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    return Volume(voxels, Modality.CT, geometry, Provenance("x", "made"))


STACKS = [stack(order, signs) for order in permutations(range(3)) for signs in product((1, -1), repeat=2)]


def patient_position(volume: Volume, value: float) -> np.ndarray:
    assert volume.geometry is not None
    return volume.geometry.index_to_mm(np.argwhere(volume.voxels == value)[0])


@pytest.mark.parametrize("volume", STACKS)
def test_letters_tell_the_truth_and_follow_the_convention(volume: Volume) -> None:
    planes = planes_through(volume, (4, 5, 6))
    assert {plane.name for plane in planes} == {"axial", "coronal", "sagittal"}
    expected = {"axial": ("R", "L", "A", "P"), "coronal": ("R", "L", "H", "F"), "sagittal": ("A", "P", "H", "F")}
    for plane in planes:
        assert plane.letters == expected[plane.name]
        picture = plane.picture(volume.voxels)
        corner, right, below = (patient_position(volume, v) for v in (picture[0, 0], picture[0, -1], picture[-1, 0]))
        axis, sign = AXES[plane.letters[1]]
        assert np.sign((right - corner)[axis]) == sign
        assert np.linalg.norm(right - corner) == pytest.approx((picture.shape[1] - 1) * plane.step[1])
        axis, sign = AXES[plane.letters[3]]
        assert np.sign((below - corner)[axis]) == sign
        assert np.linalg.norm(below - corner) == pytest.approx((picture.shape[0] - 1) * plane.step[0])


@pytest.mark.parametrize("volume", STACKS)
def test_rectangle_and_heat_lie_where_the_voxels_are(volume: Volume) -> None:
    box = ((2, 5), (1, 6), (8, 12))
    marked = np.zeros(SHAPE, dtype=np.float32)
    marked[2:5, 1:6, 8:12] = 1
    coarse = HeatMap(
        np.maximum.reduceat(np.maximum.reduceat(marked, range(0, 11, 4), axis=1), range(0, 13, 4), axis=2), 4
    )
    for plane in planes_through(volume, (3, 4, 9)):
        rows, columns = np.nonzero(plane.picture(marked))
        rectangle = plane.rectangle(box)
        assert rectangle.y == pytest.approx(rows.min() * plane.step[0])
        assert rectangle.x == pytest.approx(columns.min() * plane.step[1])
        assert rectangle.height == pytest.approx((np.ptp(rows) + 1) * plane.step[0])
        assert rectangle.width == pytest.approx((np.ptp(columns) + 1) * plane.step[1])
        assert np.array_equal(spread(plane, coarse), plane.picture(coarse.on_grid(SHAPE)))


def spread(plane: Plane, heatmap: HeatMap) -> np.ndarray:
    """The coarse heat looked up at the centre of every voxel of the plane."""
    cells, at = plane.heat(heatmap)
    y = (np.arange(plane.size_voxels[0]) + 0.5) * plane.step[0]
    x = (np.arange(plane.size_voxels[1]) + 0.5) * plane.step[1]
    rows = ((y - at.y) / at.height * cells.shape[0]).astype(int)
    columns = ((x - at.x) / at.width * cells.shape[1]).astype(int)
    return cells[np.ix_(rows, columns)]


def test_few_slices_and_pictures_show_their_own_plane_only() -> None:
    thin = Volume(np.zeros((3, 9, 9), np.float32), Modality.CT, Geometry.regular(3, (1, 1, 1)), Provenance("x", "made"))
    picture = Volume(np.zeros((1, 9, 9), np.float32), Modality.PICTURE, None, Provenance("x", "PNG"))
    assert [plane.name for plane in planes_through(thin, (1, 4, 4))] == ["axial"]
    [plane] = planes_through(picture, (0, 4, 4))
    assert (plane.name, plane.letters, plane.width) == ("picture", None, 9.0)


def test_a_center_outside_is_drawn_at_the_edge() -> None:
    assert [plane.index for plane in planes_through(STACKS[0], (-3, 50, 6.4))] == [0, 10, 6]
