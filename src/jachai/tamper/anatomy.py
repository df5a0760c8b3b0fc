"""A block of lung in HU → the chest wall, mediastinum or diaphragm that reaches into it."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from jachai.core.volume import Mask, Voxels
from jachai.tamper.attack import Index

WALL_HU = -400.0
WALL_MM = 7.0
"""Dense tissue thicker than this that goes on outside the block is wall; thinner is a vessel."""
RIM_MM = 1.0


def wall(block: Voxels, spacing_mm: Index) -> Mask:
    """bool of the block's shape: dense tissue at least WALL_MM thick that touches a side of the block."""
    dense = block > WALL_HU
    if not dense.any():
        return dense
    size = [max(1, round(WALL_MM / s)) for s in spacing_mm]
    share = ndimage.uniform_filter(dense.astype(np.float32), size, mode="nearest")
    core = share > 0.97
    thick = ndimage.maximum_filter(core, size, mode="nearest") & dense
    labels, count = ndimage.label(thick)
    if not count:
        return np.zeros_like(dense)
    sides = [np.take(labels, end, axis).ravel() for axis in range(3) if block.shape[axis] > 2 for end in (0, -1)]
    keep = np.zeros(count + 1, dtype=bool)
    keep[np.unique(np.concatenate(sides))] = True
    keep[0] = False
    rim = [2 * round(RIM_MM / s) + 1 for s in spacing_mm]
    return np.asarray(ndimage.maximum_filter(keep[labels], rim, mode="nearest"))
