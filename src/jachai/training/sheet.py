"""Cubes, what a painter saw of them, and what it painted → one picture to look at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from jachai.core.volume import Voxels
from jachai.report.atomic import replacing
from jachai.training.cubes import Batch

ENLARGED = 3
GAP = 2
"""Pixels between pictures."""


def write_sheet(file: Path, batch: Batch, painted: Voxels) -> None:
    """A PNG, one row per cube: original, seen and painted, each the middle slice of z, then of y. −0.5…0.5 is black…white.

    painted: (n, 1, k, j, i) normalised.
    """
    rows = []
    for cube, seen, made in zip(batch.cubes[:, 0], batch.seen[:, 0], painted[:, 0]):
        middle = cube.shape[0] // 2
        views = [part[middle] for part in (cube, seen, made)] + [part[:, middle] for part in (cube, seen, made)]
        rows.append(np.concatenate([_framed(view) for view in views], axis=1))
    picture = np.concatenate(rows)
    grey = (np.clip(picture + 0.5, 0, 1) * 255).astype(np.uint8)
    with replacing(file) as part:
        Image.fromarray(grey).save(part)


def _framed(view: Voxels) -> Voxels:
    return np.pad(view.repeat(ENLARGED, 0).repeat(ENLARGED, 1), GAP, constant_values=0.5)
