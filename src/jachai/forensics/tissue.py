"""Volume → masks of body and lung, slice by slice, on the volume's own grid.

Everything works within the slice, so that one slice gives the same answer as a stack, and on a grid coarsened by
`COARSE` voxels, so that it is quick. The masks choose where to look; they never enter a score.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from jachai.core.volume import Mask, Modality, Volume, Voxels

COARSE = 4
"""In-plane voxels per coarse cell side: 2–4 mm at clinical pixel sizes, finer than any structure masked here."""
BODY_HU = -500.0
"""Halfway between air (−1000 HU) and soft tissue (0 HU)."""
LUNG_HU = -400.0
"""Lung parenchyma lies below it (typically −900…−600 HU), chest wall and mediastinum above."""
MIN_BODY_SHARE = 0.01
"""A body component below this share of the slice is table, clothes or noise."""
MIN_LUNG_CELLS = 24
"""Smallest lung component in coarse cells (≈ 3–4 cm² at 0.7 mm): below it, it is bowel gas or an airway."""
IN_PLANE = np.zeros((3, 3, 3), dtype=bool)
IN_PLANE[1] = ndimage.generate_binary_structure(2, 1)


def coarse_mean(voxels: Voxels, cell: int = COARSE) -> Voxels:
    """(k, j, i) → (k, ⌈j/cell⌉, ⌈i/cell⌉) mean of each cell; cells at the far edges average what there is."""
    n, rows, columns = voxels.shape
    if rows % cell or columns % cell:
        voxels = np.pad(voxels, ((0, 0), (0, -rows % cell), (0, -columns % cell)), mode="edge")
    n, rows, columns = voxels.shape
    out = np.empty((n, rows // cell, columns // cell), dtype=np.float32)
    for k in range(n):
        strips = voxels[k].reshape(rows // cell, cell, columns).mean(axis=1)
        out[k] = sum(strips[:, start::cell] for start in range(cell)) / cell
    return out


def on_fine_grid(mask: Mask, shape_kji: tuple[int, int, int], cell: int = COARSE) -> Mask:
    """Coarse cells → voxels, cut to `shape_kji`."""
    fine = mask.repeat(cell, axis=1).repeat(cell, axis=2)
    return np.asarray(fine[:, : shape_kji[1], : shape_kji[2]])


def coarse_body(volume: Volume) -> Mask:
    """Body on the coarse grid, holes filled per slice: CT above BODY_HU; MR and pictures above `foreground`."""
    coarse = coarse_mean(volume.voxels)
    bright = coarse > (BODY_HU if volume.modality is Modality.CT else foreground(coarse))
    bright = ndimage.binary_opening(bright, IN_PLANE)
    labels, count = ndimage.label(bright, IN_PLANE)
    if not count:
        return np.asarray(bright)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    keep = sizes >= MIN_BODY_SHARE * coarse[0].size
    return np.stack([ndimage.binary_fill_holes(slice_) for slice_ in keep[labels]])


def coarse_lung(volume: Volume, body: Mask | None = None) -> Mask:
    """Lung on the coarse grid of a CT: air-like places enclosed by the body, vessels inside closed over.

    Empty for anything but CT in HU. A crop that lies inside the lung altogether counts as lung.
    """
    if volume.modality is not Modality.CT:
        return np.zeros_like(coarse_body(volume) if body is None else body)
    coarse = coarse_mean(volume.voxels)
    body = coarse_body(volume) if body is None else body
    dark = coarse < LUNG_HU
    labels, _ = ndimage.label(dark & body, IN_PLANE)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    lung = (sizes >= MIN_LUNG_CELLS)[labels]
    disc = ndimage.iterate_structure(IN_PLANE, 3)
    return np.asarray(ndimage.binary_closing(lung, disc[2:5] if disc.shape[0] == 7 else disc) & body)


def body_mask(volume: Volume) -> Mask:
    """(k, j, i) body, from `coarse_body`."""
    return on_fine_grid(coarse_body(volume), volume.shape)


def lung_mask(volume: Volume) -> Mask:
    """(k, j, i) lungs with their inner vessels, from `coarse_lung`."""
    return on_fine_grid(coarse_lung(volume), volume.shape)


def foreground(coarse: Voxels) -> float:
    """What tells tissue from air in MR and pictures, by the coarse cells of a volume: Otsu's threshold alone takes dark fat for air.

    Where the frame of the slices is dark, the geometric mean of Otsu's threshold and of what hardly any cell of the frame
    exceeds: its lower quartile plus 8 times the distance to its lowest twentieth.
    """
    frame = np.concatenate([coarse[:, [0, -1]].ravel(), coarse[:, :, [0, -1]].ravel()])
    lowest, quarter = np.percentile(frame, (5, 25))
    between, empty = otsu(coarse), float(quarter + 8 * (quarter - lowest))
    return float(np.sqrt(between * empty)) if 0 < empty < between else between


def otsu(values: npt.NDArray[np.float32], bins: int = 256) -> float:
    """Threshold between two classes of greatest between-class variance (Otsu 1979), on values up to their 99th percentile."""
    top = float(np.percentile(values, 99))
    low = float(values.min())
    if top <= low:
        return low
    counts, edges = np.histogram(values, bins=bins, range=(low, top))
    centres = (edges[:-1] + edges[1:]) / 2
    weight = np.cumsum(counts)
    mean = np.cumsum(counts * centres)
    apart = weight * (weight[-1] - weight)
    between = np.where(apart > 0, (mean[-1] * weight - mean * weight[-1]) ** 2 / np.maximum(apart, 1), -1.0)
    return float(centres[int(np.argmax(between))])
