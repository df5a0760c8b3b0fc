"""The name of a frame → a small volume that lies so: for the tests of readers and of the writer."""

from __future__ import annotations

import numpy as np

from jachai.core.geometry import Geometry
from jachai.core.volume import Modality, Provenance, Volume

SHAPE = (6, 8, 10)
ORIGIN = np.array([-31.25, 12.5, 407.125])
_ANGLE = np.radians(25)
_OBLIQUE = np.array([[np.cos(_ANGLE), -np.sin(_ANGLE), 0], [np.sin(_ANGLE), np.cos(_ANGLE), 0], [0, 0, 1]]) @ np.array(
    [[1, 0, 0], [0, np.cos(0.4), -np.sin(0.4)], [0, np.sin(0.4), np.cos(0.4)]]
)

ROWS_AND_COLUMNS = {
    "axial": ((0, 1, 0), (1, 0, 0)),
    "flipped": ((0, -1, 0), (1, 0, 0)),
    "prone": ((0, -1, 0), (-1, 0, 0)),
    "sagittal": ((0, 0, -1), (0, 1, 0)),
    "coronal": ((0, 0, -1), (1, 0, 0)),
    "oblique": (tuple(_OBLIQUE[:, 1]), tuple(_OBLIQUE[:, 0])),
}
"""Direction from row to row, and from column to column, in LPS."""
FRAMES = tuple(ROWS_AND_COLUMNS)


def geometry(frame: str = "axial", n_slices: int = SHAPE[0], tilt_mm: float = 0.0, uneven: bool = False) -> Geometry:
    """tilt_mm: shift along the rows from slice to slice (a tilted gantry). uneven: one slice is missing."""
    rows, columns = (np.array(direction, dtype=float) for direction in ROWS_AND_COLUMNS[frame])
    at = np.arange(n_slices, dtype=float)
    if uneven:
        at[n_slices // 2 :] += 1
    across = 2.5 * np.cross(columns, rows) + tilt_mm * rows
    return Geometry(ORIGIN + at[:, None] * across, 0.75 * rows, 0.625 * columns)


def voxels(shape: tuple[int, int, int] = SHAPE, seed: int = 0) -> np.ndarray:
    """Whole HU: a third of air, the rest tissue. float32 (k, j, i)."""
    rng = np.random.default_rng(seed)
    values = rng.integers(-150, 1500, shape)
    values[:, : max(1, shape[1] // 3)] = rng.integers(-1020, -950, (shape[0], max(1, shape[1] // 3), shape[2]))
    return values.astype(np.float32)


def volume(where: Geometry | None = None, modality: Modality = Modality.CT, seed: int = 0) -> Volume:
    """A volume of SHAPE (or as many slices as `where` has), with a step of 1."""
    where = geometry() if where is None else where
    values = voxels((len(where.origins_mm), *SHAPE[1:]), seed)
    if modality is Modality.MR:
        values = np.abs(values)
    return Volume(values, modality, where, Provenance("made up", "phantom", step=1.0))
