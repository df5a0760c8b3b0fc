"""Volume → tamper map by a denoiser that has seen intact scans only: where its reconstruction errs more, or less, than elsewhere.

In the manner of Back-in-Time Diffusion (Grabovski et al. 2024): a network learnt to tell the noise that was added to intact scans.
Shown a scan as it is, one step of it takes away what it believes to be noise; the strength of that is compared with what the same
scan shows elsewhere in the same tissue at the same brightness, radius and height, as `forensics.selfreference` does. No attack was
ever shown, so none is preferred; which kind it was, it cannot tell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from jachai.core.finding import ModelIdentity
from jachai.core.progress import Progress, silent
from jachai.core.volume import Mask, Volume
from jachai.detectors.bundle import Bundle, find_bundle, session
from jachai.detectors.detector import Map, TamperMap
from jachai.detectors.searching import Basis, bases_of, explained
from jachai.forensics.channels import LUNG_HU
from jachai.forensics.domain import basis_of
from jachai.forensics.selfreference import MIN_PLACES, SOLID_HU, measure, predicted
from jachai.forensics.slicewise import STRIDE, Look, looks, searched, smoothed
from jachai.forensics.tissue import coarse_mean

ARCHITECTURE = "unsupervised"
INPUT, OUTPUT = "channels", "noise"
"""Names in the graph: (1, 7, j, i) → (1, c, j, i), the noise of each channel that the denoiser works on."""
LEAST_SIDE = 64
"""Pixels: smaller windows are padded with zeros."""
CLIP = 16.0
"""The square of the noise is clipped at this multiple of its slice's median: an edge must not outshine a window."""
FLOOR = 1e-4
"""Added to a strength before the logarithm."""
SPREAD_FLOOR = 0.1
"""Nepers added to the scan's own spread: a very uniform scan must not turn little into a sign."""
MOST_Z = 3.0
"""What lies beyond does not count when the scan's own correlations between channels are measured."""
SHRUNK = 0.1
"""Share of no correlation in them."""


@dataclass(frozen=True, slots=True)
class Tissue:
    """Places that are compared with each other. hu: of smoothed pixels. window_mm: σ of pooling. fill: least share of a window."""

    hu: tuple[float, float]
    window_mm: float
    fill: float


TISSUES = (Tissue(LUNG_HU, 5.0, 0.3), Tissue(SOLID_HU, 2.5, 0.15))
"""Aerated lung; and soft tissue, nodules included."""

Network = Callable[[Map], Map]
"""(7, j, i) channels → (c, j, i) noise."""
Strengths = npt.NDArray[np.float32]
"""(2 + c, k, j', i') means of cells: share of the tissue, brightness and the clipped squares of the noise times that share."""


@dataclass(frozen=True, slots=True)
class Unsupervised:
    """The engine: its bundle, and basis ('slice', 'volume') → calibration."""

    bundle: Bundle
    bases: Mapping[str, Basis]

    @property
    def identity(self) -> ModelIdentity:
        """See `Detector.identity`."""
        return self.bundle.identity

    def examine(self, volume: Volume, progress: Progress = silent) -> TamperMap:
        """See `Detector.examine`."""
        basis = self.bases[basis_of(volume)[1]]
        evidence = measure(volume, lambda stage, fraction: progress(stage, fraction / 2))
        where = searched(volume)
        odd = search(
            network_of(self.bundle), volume, where, lambda stage, fraction: progress(stage, (1 + fraction) / 2)
        )
        return explained(volume, self.bundle, evidence, basis, where, odd, None)


def network_of(bundle: Bundle) -> Network:
    """The bundle's network, through onnxruntime."""
    run = session(bundle)
    return lambda x: np.asarray(run.run([OUTPUT], {INPUT: x[None]})[0][0])


def search(network: Network, volume: Volume, where: Mask, progress: Progress = silent) -> Map:
    """(k, j', i') how far each cell's reconstruction error lies from what the scan predicts, in standard deviations."""
    strengths: list[Strengths] | None = None
    for look in looks(volume, where):
        parts = strengths_of(network, volume, look)
        if strengths is None:
            strengths = [np.zeros((len(part), *where.shape), np.float32) for part in parts]
        for whole, part in zip(strengths, parts):
            rows, columns = part.shape[1:]
            whole[:, look.k, look.cells[0], look.cells[1]][:, :rows, :columns] = part
        progress("searching", (look.k + 1) / len(where))
    odd = np.zeros(where.shape, np.float32)
    for tissue, whole in zip(TISSUES, strengths or ()):
        odd = np.maximum(odd, deviation(whole, tissue, volume))
    return odd


def strengths_of(network: Network, volume: Volume, look: Look) -> list[Strengths]:
    """Of each tissue in one slice: (2 + c, j', i')."""
    rows, columns = look.x.shape[1:]
    room = [(0, 0), *((0, max(0, LEAST_SIDE - n)) for n in (rows, columns))]
    squares = network(np.pad(look.x, room))[:, :rows, :columns] ** 2
    pixels = tuple(slice(c.start * STRIDE, c.stop * STRIDE) for c in look.cells)
    brightness = volume.voxels[look.k][pixels]
    smooth = ndimage.gaussian_filter(brightness, 1.0, truncate=3.0)
    out = []
    for tissue in TISSUES:
        mask = ndimage.binary_erosion((smooth > tissue.hu[0]) & (smooth < tissue.hu[1]), border_value=1)
        most = np.array([CLIP * np.median(one[mask]) if mask.any() else 0 for one in squares], np.float32)
        planes = np.stack([np.ones_like(brightness), brightness, *np.minimum(squares, most[:, None, None])])
        out.append(coarse_mean(planes * mask))
    return out


def deviation(strengths: Strengths, tissue: Tissue, volume: Volume) -> Map:
    """Distance of Mahalanobis over the channels, by the scan's own spread and correlations; 0 where there is no such tissue."""
    pooled = [smoothed(plane, volume, tissue.window_mm) for plane in strengths]
    known = (pooled[0] > tissue.fill) & (strengths[0] > 0)
    odd = np.zeros(known.shape, np.float32)
    if known.sum() < MIN_PLACES:
        return odd
    share = pooled[0][known]
    brightness = pooled[1][known] / share
    z = np.stack([_excess(plane[known] / share, brightness, known) for plane in pooled[2:]])
    tame = np.clip(z, -MOST_Z, MOST_Z)
    together = (1 - SHRUNK) * (tame @ tame.T) / tame.shape[1] + SHRUNK * np.eye(len(z))
    odd[known] = np.sqrt(np.einsum("cn,cd,dn->n", z, np.linalg.inv(together), z) / len(z))
    return odd


def _excess(strength: Map, brightness: Map, known: Mask) -> Map:
    """Of one channel: how much stronger than predicted, in the scan's own robust standard deviations."""
    told = np.log(strength + np.float32(FLOOR))
    excess = told - predicted(told, brightness, known, follows_dose=True)
    spread = 1.4826 * float(np.median(np.abs(excess)))
    return np.asarray(excess / (spread + SPREAD_FLOOR), np.float32)


def load(name: str | Path) -> Unsupervised:
    """The engine of a bundle, by name or path. Raises ModelError where it is none, or its calibration is missing."""
    return of_bundle(find_bundle(name))


def of_bundle(bundle: Bundle) -> Unsupervised:
    """See `load`."""
    return Unsupervised(bundle, bases_of(bundle, ARCHITECTURE))
