"""A normalised cube with a hole → the cube painted anew, ring and all, without a network: the table PAINTERS."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from itertools import product

import numpy as np
from scipy import ndimage

from jachai.core.errors import UsageError
from jachai.core.volume import Mask, Voxels
from jachai.tamper import shelf
from jachai.tamper.attack import Shape
from jachai.tamper.blend import harmonic
from jachai.tamper.canvas import Canvas, Painter
from jachai.tamper.quilt import quilted


@dataclass(frozen=True, slots=True)
class Identity:
    """The cube as it is: what the pipeline alone does."""

    def paint(self, canvas: Canvas) -> Voxels:
        """See Painter."""
        return canvas.cube.copy()


@dataclass(frozen=True, slots=True)
class Blur:
    """Gaussian mean of `sigma_mm`."""

    sigma_mm: float = 1.0

    def paint(self, canvas: Canvas) -> Voxels:
        """See Painter."""
        return np.asarray(ndimage.gaussian_filter(canvas.cube, [self.sigma_mm / s for s in canvas.spacing_mm]))


@dataclass(frozen=True, slots=True)
class Median:
    """Median of size³ voxels."""

    size: int = 3

    def paint(self, canvas: Canvas) -> Voxels:
        """See Painter."""
        return np.asarray(ndimage.median_filter(canvas.cube, self.size))


@dataclass(frozen=True, slots=True)
class Bilateral:
    """Bilateral mean (Tomasi and Manduchi 1998) over (2·radius + 1)³ voxels; `range_sigma` in normalised units."""

    radius: int = 1
    range_sigma: float = 0.1

    def paint(self, canvas: Canvas) -> Voxels:
        """See Painter."""
        return bilateral(canvas.cube, self.radius, self.range_sigma)


@dataclass(frozen=True, slots=True)
class Harmonic:
    """The hole replaced by the harmonic function of its smoothed rim; smooth, without texture."""

    rim_mm: float = 1.5

    def paint(self, canvas: Canvas) -> Voxels:
        """See Painter."""
        smooth = ndimage.gaussian_filter(canvas.cube, [self.rim_mm / s for s in canvas.spacing_mm])
        return np.where(canvas.lung_hole, _filled_box(smooth, canvas.hole), canvas.cube)


@dataclass(frozen=True, slots=True)
class PatchSynthesis:
    """The hole filled with fitting patches of healthy tissue of the same scan."""

    patch_mm: float = 9.0

    def paint(self, canvas: Canvas) -> Voxels:
        """See Painter."""
        return quilted(canvas.cube, canvas.lung_hole, canvas.examples(), canvas.patch_side(self.patch_mm), canvas.rng)


@dataclass(frozen=True, slots=True)
class PrincipalComponents:
    """Healthy cubes of the same scan span a space; the cube in it that fits the ring best. Ridge-regularised.

    keep: share of the components that are kept.
    """

    keep: float = 0.6

    def paint(self, canvas: Canvas) -> Voxels:
        """See Painter."""
        rows = _mirrored(canvas.examples())
        mean = rows.mean(axis=0)
        centred = rows - mean
        values, vectors = np.linalg.eigh(centred @ centred.T)
        order = np.argsort(values)[::-1][: max(1, int(self.keep * len(values)))]
        basis = (vectors[:, order].T @ centred) / np.sqrt(np.maximum(values[order], 1e-9))[:, None]
        ring = ~canvas.hole.ravel()
        seen = basis[:, ring]
        wanted = (canvas.cube.ravel() - mean)[ring]
        ridge = np.eye(len(order)) * float((wanted**2).mean()) * 10
        weights = np.linalg.solve(seen @ seen.T + ridge, seen @ wanted)
        fit = (mean + weights @ basis).reshape(canvas.cube.shape)
        return np.asarray(np.where(canvas.wall, canvas.cube, fit), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class NearestUpsampled:
    """Another painter's cube through a bottleneck: means of 2³ voxels, enlarged ×2 by nearest neighbour, as a U-Net's
    last step does: it leaves peaks of period 2 on the working grid (`field.md` §3, trace b). share: of the bottleneck
    against the painter's own detail (the skip connection)."""

    base: Painter
    share: float = 0.8

    def paint(self, canvas: Canvas) -> Voxels:
        """See Painter."""
        cube = self.base.paint(canvas)
        even = np.pad(cube, [(0, n % 2) for n in cube.shape], mode="edge")
        k, j, i = (n // 2 for n in even.shape)
        means = even.reshape(k, 2, j, 2, i, 2).mean(axis=(1, 3, 5))
        blocks = means.repeat(2, 0).repeat(2, 1).repeat(2, 2)[tuple(slice(n) for n in cube.shape)]
        return np.asarray(self.share * blocks + (1 - self.share) * cube, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class NodulePainter:
    """The canvas's nodule in the middle of another painter's lung, rendered in HU and normalised again.

    Without a nodule on the canvas it paints the lung alone.
    """

    base: Painter

    def paint(self, canvas: Canvas) -> Voxels:
        """See Painter."""
        lung = self.base.paint(canvas)
        if canvas.nodule is None:
            return lung
        shape: Shape = lung.shape  # type: ignore[assignment]
        k, j, i = ((n - 1) / 2 for n in shape)
        alpha, value = canvas.nodule.rendered(shape, canvas.spacing_mm, (k, j, i))
        before = canvas.decode(lung)
        after = before + alpha * (value - before)
        return np.where(canvas.hole & (alpha > 0), canvas.encode(after.astype(np.float32)), lung)


PAINTERS: dict[str, Painter] = {
    "identity": Identity(),
    "blur": Blur(),
    "median": Median(),
    "bilateral": Bilateral(),
    "harmonic": Harmonic(),
    "patches": PatchSynthesis(),
    "pca": PrincipalComponents(),
    "nearest": NearestUpsampled(PatchSynthesis()),
    "nodule": NodulePainter(Blur(0.8)),
    "nodule-identity": NodulePainter(Identity()),
    "nodule-patches": NodulePainter(PatchSynthesis()),
    "nodule-nearest": NearestUpsampled(NodulePainter(Blur(0.6)), 0.6),
}
"""Every painter without a network by name. Trained ones are named KIND:NAME and lie on the user's `shelf`."""

REMOVERS = ("patches", "nearest", "harmonic", "pca")
"""Painters that take away what stood in the hole."""
INJECTORS = ("nodule", "nodule-identity", "nodule-patches", "nodule-nearest")
"""Painters that put the canvas's nodule there."""


def painter(name: str) -> Painter:
    """PAINTERS[name], or the trained painter KIND:NAME or KIND:NAME@DIGEST (see `shelf`).

    Raises UsageError with the choices and the nearest one, or if torch is missing; ModelError for a file that is none.
    """
    if name in PAINTERS:
        return PAINTERS[name]
    if shelf.is_trained(name):
        shelf.require_torch()
        from jachai.tamper import generators  # torch takes seconds to load, so only when a network is asked for

        return generators.loaded(shelf.find(name))
    near = get_close_matches(name, PAINTERS, 1, 0.0)
    raise UsageError(f"There is no painter {name!r}.", f"Did you mean {near[0]!r}? Known: {', '.join(PAINTERS)}.")


def bilateral(values: Voxels, radius: int, range_sigma: float) -> Voxels:
    """Bilateral mean of float32 (k, j, i): weights fall with distance (σ = radius voxels) and with difference."""
    reach = [min(radius, n - 1) for n in values.shape]
    padded = np.pad(values, [(r, r) for r in reach], mode="edge")
    total, weight = np.zeros_like(values), np.zeros_like(values)
    for offset in product(*(range(2 * r + 1) for r in reach)):
        shifted = padded[tuple(slice(o, o + n) for o, n in zip(offset, values.shape))]
        apart = sum((o - r) ** 2 for o, r in zip(offset, reach)) / (2 * max(radius, 1) ** 2)
        share = np.exp(-(((shifted - values) / range_sigma) ** 2) / 2 - apart)
        total += share * shifted
        weight += share
    return total / weight


def _filled_box(values: Voxels, hole: Mask) -> Voxels:
    """The hole's bounding box, with one voxel round it, made harmonic."""
    box = ndimage.find_objects(hole.astype(np.int8))[0]
    wide = tuple(slice(max(0, s.start - 1), s.stop + 1) for s in box)
    out = values.copy()
    out[wide] = harmonic(values[wide])
    return out


def _mirrored(cubes: Voxels) -> Voxels:
    """(m, k, j, i) cubes → (rows, voxels): each as it is, mirrored and, where square, turned in the plane."""
    variants = [cubes, cubes[:, :, ::-1], cubes[:, :, :, ::-1], cubes[:, :, ::-1, ::-1]]
    if cubes.shape[2] == cubes.shape[3]:
        variants += [variant.swapaxes(2, 3) for variant in variants]
    return np.concatenate(variants).reshape(len(variants) * len(cubes), -1)
