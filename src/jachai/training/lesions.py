"""An intact CT → the same with nodules and masses that were there when it was taken.

Real lesions are few in a collection, and a network that sees round dense things mostly where something was injected takes the next
real one for an injection: the worst of false alarms. So lesions are drawn, added to the anatomy as a scanner would see them (blurred by its point spread,
its noise untouched above them), and in most scans a scanner's noise is put over all of it afterwards. Nothing here was tampered with.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from jachai.core.volume import Box, Volume
from jachai.forensics.slicewise import searched
from jachai.forensics.tissue import COARSE
from jachai.tamper.attack import Index, Shape, box_around, clipped, slices, spacing_of
from jachai.tamper.classical import under_noise
from jachai.tamper.nodule import Density, draw_nodule

DIAMETER_MM = (5.0, 40.0)
DENSITIES: tuple[Density, ...] = ("solid", "solid", "solid", "part-solid", "ground-glass")
PSF_MM = (0.3, 0.7)
"""Standard deviation of the point spread in the plane; of a slice's profile SLICE_SIGMA of the distance of slices."""
SLICE_SIGMA = 0.4


def with_lesions(volume: Volume, count: int, rng: np.random.Generator) -> tuple[Volume, list[tuple[Shape, float]]]:
    """(the scan with `count` lesions in its lungs and at their rim, centre (k, j, i) and diameter in mm of each). A scan without lungs stays
    as it is."""
    cells = np.argwhere(searched(volume))
    if not len(cells):
        return volume, []
    voxels = volume.voxels.copy()
    there: list[tuple[Shape, float]] = []
    for k, j, i in cells[rng.integers(len(cells), size=count)]:
        inside = rng.integers(0, COARSE, 2)
        rows, columns = volume.shape[1:]
        centre = (int(k), min(int(j * COARSE + inside[0]), rows - 1), min(int(i * COARSE + inside[1]), columns - 1))
        there.append((centre, _added(voxels, centre, spacing_of(volume), rng)))
    return replace(volume, voxels=np.rint(voxels)), there


def _added(voxels: npt.NDArray[np.float32], centre: Shape, spacing: Index, rng: np.random.Generator) -> float:
    """Changes the voxels round the centre; the diameter of what is there now."""
    nodule = draw_nodule(rng, DIAMETER_MM, DENSITIES)
    k, j, i = (round(2 * nodule.reach_mm / step) | 1 for step in spacing)
    box: Box = clipped(box_around(centre, (k, j, i)), voxels.shape)  # type: ignore[arg-type]
    here = voxels[slices(box)]
    ck, cj, ci = (float(c - low) for c, (low, _) in zip(centre, box))
    share, value = nodule.rendered(here.shape, spacing, (ck, cj, ci))
    psf = float(rng.uniform(*PSF_MM))
    here[:] = under_noise(here, share, value, spacing, [SLICE_SIGMA, *(psf / step for step in spacing[1:])])
    return nodule.diameter_mm
