"""Volume → where in the body each place lies: tissue, distance to the pleura and to the nearest vessel, on a coarse grid.

Everything is measured within the slice, so that a single slice and a stack give the same numbers. They choose which places
are compared with each other; they never reach a model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from jachai.core.volume import Mask, Modality, Volume, Voxels
from jachai.dataset.voxels import pixel_mm
from jachai.forensics.tissue import COARSE, coarse_body, coarse_lung, coarse_mean

Maps = npt.NDArray[np.float16]
Table = npt.NDArray[np.float32]
TISSUE, PLEURA, VESSEL = 0, 1, 2
"""Channels of the maps."""
HU_BOUNDS = (-250.0, -20.0, 150.0)
"""Outside the lung: between air-like, fat, soft tissue, and bone or contrast medium."""
OUTSIDE, LUNG = -1.0, 0.0
"""The tissue of what is not body; of the lung with its vessels and nodules, which the distance to a vessel tells apart."""
FAR_MM = 40.0
"""Distances are cut there: further away it makes no difference to what an image looks like."""
VESSEL_HU = -500.0
"""A coarse cell of lung denser than this holds a vessel (or a nodule) of about half the cell or more."""
MAX_PLACES = 24_000
"""Places kept per volume, three quarters of them in the lung if there is one."""
LUNG_SHARE = 0.75
COLUMNS = ("k", "j", "i", "tissue", "pleura_mm", "vessel_mm", "front_back", "off_middle", "height")
"""Of the table of places: voxel, features in mm, and the position within the body, each 0…1."""


@dataclass(frozen=True, slots=True, eq=False)
class Surroundings:
    """maps: float16 (3, k, ⌈j/COARSE⌉, ⌈i/COARSE⌉): tissue class, signed distance to the pleura in mm (negative outside
    the lung), distance to a vessel in mm. places: float32 (n, 9), see COLUMNS."""

    maps: Maps
    places: Table


def surroundings(volume: Volume) -> Surroundings:
    """The maps, and up to MAX_PLACES places of body drawn from them (always the same for the same volume)."""
    body = coarse_body(volume)
    lung = coarse_lung(volume, body)
    mean = coarse_mean(volume.voxels)
    cell = tuple(mm * COARSE for mm in pixel_mm(volume)[1:])
    bounds = _bounds(mean, body & ~lung, volume.modality)
    maps = np.empty((3, *body.shape), dtype=np.float16)
    for k in range(len(body)):
        vessel = lung[k] & (mean[k] > VESSEL_HU)
        tissue = np.where(lung[k], LUNG, 1 + np.digitize(mean[k], bounds))
        maps[TISSUE, k] = np.where(body[k], tissue, OUTSIDE)
        maps[PLEURA, k] = _distance(~lung[k], cell) - _distance(lung[k] if lung[k].any() else ~body[k], cell)
        maps[VESSEL, k] = _distance(vessel, cell)
    return Surroundings(maps, _places(maps, body, lung, volume.shape))


def features_of(surround: Maps, place_kji: tuple[int, int, int], shape_kji: tuple[int, int, int]) -> Table:
    """(6,) features of one place: the last columns of COLUMNS."""
    k, j, i = (min(max(c, 0), n - 1) for c, n in zip(place_kji, shape_kji))
    body = surround[TISSUE, k] != OUTSIDE
    at = surround[:, k, j // COARSE, i // COARSE].astype(np.float32)
    position = _position(np.array([[k, j // COARSE, i // COARSE]]), body[None], np.array([0]), shape_kji[0])[0]
    return np.asarray(np.concatenate([at, position]), dtype=np.float32)


def _bounds(mean: Voxels, rest: Mask, modality: Modality) -> npt.NDArray[np.float32]:
    """Between tissues outside the lung: in HU for CT, else quartiles of the body."""
    if modality is Modality.CT or not rest.any():
        return np.array(HU_BOUNDS, dtype=np.float32)
    return np.asarray(np.quantile(mean[rest], [0.25, 0.5, 0.75]), dtype=np.float32)


def _distance(to: Mask, cell: tuple[float, ...]) -> npt.NDArray[np.float32]:
    """Distance of each cell to the nearest one of `to`, in mm, at most FAR_MM."""
    if not to.any():
        return np.full(to.shape, FAR_MM, dtype=np.float32)
    return np.asarray(np.minimum(ndimage.distance_transform_edt(~to, sampling=cell), FAR_MM), dtype=np.float32)


def _places(maps: Maps, body: Mask, lung: Mask, shape_kji: tuple[int, int, int]) -> Table:
    rng = np.random.default_rng(0)
    chosen = []
    inside, rest = np.argwhere(lung & body), np.argwhere(body & ~lung)
    wanted = int(MAX_PLACES * LUNG_SHARE) if len(inside) else 0
    for cells, most in ((inside, wanted), (rest, MAX_PLACES - min(wanted, len(inside)))):
        chosen.append(cells[np.sort(rng.permutation(len(cells))[:most])])
    cells = np.concatenate(chosen)
    if not len(cells):
        return np.zeros((0, len(COLUMNS)), dtype=np.float32)
    k, j, i = cells.T
    features = maps[:, k, j, i].T.astype(np.float32)
    jitter = rng.integers(0, COARSE, (len(cells), 2))
    voxels = np.column_stack([k, np.minimum(cells[:, 1:] * COARSE + jitter, np.array(shape_kji[1:]) - 1)])
    position = _position(cells, body, k, shape_kji[0])
    return np.column_stack([voxels, features, position]).astype(np.float32)


def _position(
    cells: npt.NDArray[np.int64], body: Mask, row: npt.NDArray[np.int64], n_slices: int
) -> npt.NDArray[np.float64]:
    """(n, 3) from front to back, off the middle, and height, each 0…1 within the body of the slice. row: index into
    `body` of each cell's slice."""
    bounds = np.array([_extent(one) for one in body])
    top, bottom, left, right = bounds[row].T
    down = (cells[:, 1] - top) / np.maximum(bottom - top, 1)
    off = np.abs(2 * (cells[:, 2] - left) / np.maximum(right - left, 1) - 1)
    height = cells[:, 0] / max(n_slices - 1, 1)
    return np.asarray(np.clip(np.column_stack([down, off, height]), 0, 1))


def _extent(mask: Mask) -> tuple[int, int, int, int]:
    """First and last row, first and last column; the whole slice where there is no body."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return 0, mask.shape[0] - 1, 0, mask.shape[1] - 1
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])
