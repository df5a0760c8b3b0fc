"""Laws of the one convention: index → mm → index is the identity, for even, uneven, tilted and oblique stacks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jachai.core.errors import Damaged
from jachai.core.geometry import Geometry


def rotation(seed: int) -> np.ndarray:
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return q * np.sign(np.diag(r))


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    n = draw(st.integers(1, 7))
    frame = rotation(draw(st.integers(0, 500)))
    column, row = frame[0], frame[1]
    normal = np.cross(column, row)
    steps = np.array(draw(st.lists(st.floats(0.3, 9), min_size=n, max_size=n)))
    tilt = draw(st.floats(-0.5, 0.5))
    along = np.cumsum(steps)[:, None]
    origins = np.array([10.0, -250.0, 33.0]) + along * (normal + tilt * row)
    dj, di = draw(st.floats(0.2, 3)), draw(st.floats(0.2, 3))
    return Geometry(origins, row * dj, column * di, 2.5)


@given(geometries(), st.lists(st.floats(-40, 600), min_size=3, max_size=3))
def test_index_to_mm_and_back_is_the_identity(geometry: Geometry, index: list[float]) -> None:
    assert np.allclose(geometry.mm_to_index(geometry.index_to_mm(index)), index, atol=1e-6)


def test_positions_follow_the_dicom_plane_equation() -> None:
    geometry = Geometry.regular(4, (2.0, 0.5, 0.75), (-10, -20, 5))
    assert np.allclose(geometry.index_to_mm([[3, 8, 4]]), [[-10 + 4 * 0.75, -20 + 8 * 0.5, 5 + 3 * 2.0]])
    assert geometry.spacing_mm == (2.0, 0.5, 0.75)
    assert geometry.plane == "axial" and geometry.is_even and geometry.gaps == ()


def test_a_missing_slice_is_a_gap_and_keeps_true_positions() -> None:
    origins = np.zeros((4, 3))
    origins[:, 2] = [0, 1, 3, 4]
    geometry = Geometry(origins, np.array([0, 1.0, 0]), np.array([1.0, 0, 0]))
    assert geometry.gaps == (1,) and not geometry.is_even
    assert geometry.index_to_mm([1.5, 0, 0])[2] == pytest.approx(2.0)


def test_tilt_is_told_and_the_origin_shifts_with_the_slice() -> None:
    origins = np.stack([np.zeros(5), np.arange(5) * 1.0, np.arange(5) * 2.0], axis=1)
    geometry = Geometry(origins, np.array([0, 1.0, 0]), np.array([1.0, 0, 0]))
    assert geometry.tilt_degrees == pytest.approx(np.degrees(np.arctan(0.5)))
    assert geometry.slice_step_mm == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("origins", "row", "column"),
    [
        ([[0, 0, 0]], [0, 0, 0], [1, 0, 0]),
        ([[0, 0, 0]], [0, np.nan, 0], [1, 0, 0]),
        ([[0, 0, np.inf]], [0, 1, 0], [1, 0, 0]),
        ([[0, 0, 1e9]], [0, 1, 0], [1, 0, 0]),
        ([[0, 0, 0]], [0.5, 1, 0], [1, 0, 0]),
        ([[0, 0, 1], [0, 0, 0]], [0, 1, 0], [1, 0, 0]),
        ([[0, 0, 1], [0, 0, 1]], [0, 1, 0], [1, 0, 0]),
        ([[0, 0, 0]], [0, 1e4, 0], [1, 0, 0]),
    ],
)
def test_impossible_geometry_is_damaged_never_one(origins: list, row: list, column: list) -> None:
    with pytest.raises(Damaged):
        Geometry(np.array(origins, dtype=float), np.array(row, dtype=float), np.array(column, dtype=float))


@given(geometries())
def test_a_crop_keeps_positions(geometry: Geometry) -> None:
    n = len(geometry.origins_mm)
    part = geometry.cropped(((n - 1, n), (3, 9), (2, 5)))
    assert np.allclose(part.index_to_mm([0, 1, 1]), geometry.index_to_mm([n - 1, 4, 3]))
