"""A place that a network suspects → how much less it suspects it once a thing that it sees there is hidden.

Occlusion (Zeiler & Fergus 2014), one group of channels at a time: within the place, the group is replaced by what the same slice
shows at its least suspicious place. What hides the suspicion is what it rests on. A network knows no names for what it
has learnt: this says where it looks, not that it is right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from jachai.core.finding import Occluded
from jachai.core.volume import Mask, Volume
from jachai.detectors.detector import Map
from jachai.forensics.channels import CHANNELS, Channels
from jachai.forensics.slicewise import DEFAULT_PIXEL_MM, STRIDE, looks

GROUPS: Mapping[str, tuple[str, ...]] = {
    "corner": ("corner",),
    "diagonal": ("diagonal",),
    "middle": ("middle",),
    "between": ("between",),
    "brightness": ("lung window", "soft window"),
}
"""What is hidden together. `neighbours` only says whether there is a `between`."""
RADIUS_MM = 20.0
"""Of the disc that is hidden: an altered cube is 20–40 mm wide."""
ROUND = 2
"""The suspicion is the mean logit of the cell and so many cells on each side."""
CONTEXT = 24
"""The network is shown so many cells on each side of the place: what lies beyond has no say there."""
LEAST = 0.05
"""Logits: smaller falls are none."""

Network = Callable[[Channels], Map]
"""(7, j, i) channels → (j', i') logits that a cell was altered."""


def occluded(
    network: Network, volume: Volume, where: Mask, logits: Map, index: tuple[int, int, int]
) -> tuple[Occluded, ...]:
    """Groups whose hiding makes cell `index` of the map less suspicious, the one with the largest fall first.

    logits: (k, j', i') the map. Empty where the slice has no other place to take a likeness from.
    """
    k = index[0]
    only = np.zeros_like(where)
    only[k] = where[k]
    look = next(looks(volume, only))
    top, left = (cells.start for cells in look.cells)
    here = (index[1] - top, index[2] - left)
    pixel = volume.geometry.pixel_mm if volume.geometry else (DEFAULT_PIXEL_MM, DEFAULT_PIXEL_MM)
    reach = tuple(max(1, round(RADIUS_MM / (mm * STRIDE))) for mm in pixel)
    there = _least_suspicious(np.where(where[k], logits[k], np.inf)[look.cells], here, reach)
    if there is None:
        return ()
    before = _suspicion(network, look.x, here)
    falls = []
    for name, channels in GROUPS.items():
        rows = [CHANNELS.index(one) for one in channels]
        fall = before - _suspicion(network, _hidden(look.x, rows, here, there, reach), here)
        if fall > LEAST:
            falls.append(Occluded(name, fall))
    return tuple(sorted(falls, key=lambda one: -one.fall))


def _least_suspicious(logits: Map, here: tuple[int, int], reach: tuple[int, ...]) -> tuple[int, int] | None:
    """The cell of the lowest logit whose disc does not meet the one of `here`."""
    j, i = np.indices(logits.shape)
    apart = np.hypot((j - here[0]) / reach[0], (i - here[1]) / reach[1]) > 2
    free = np.where(apart & np.isfinite(logits), logits, np.inf)
    best = np.unravel_index(int(free.argmin()), free.shape)
    return (int(best[0]), int(best[1])) if np.isfinite(free[best]) else None


def _suspicion(network: Network, x: Channels, here: tuple[int, int]) -> float:
    first = [max(0, c - CONTEXT) for c in here]
    part = tuple(slice(a * STRIDE, (c + CONTEXT + 1) * STRIDE) for a, c in zip(first, here, strict=True))
    logits = network(np.ascontiguousarray(x[(slice(None), *part)]))
    near = tuple(slice(max(0, c - a - ROUND), c - a + ROUND + 1) for a, c in zip(first, here, strict=True))
    return float(logits[near].mean())


def _hidden(
    x: Channels, rows: list[int], here: tuple[int, int], there: tuple[int, int], reach: tuple[int, ...]
) -> Channels:
    """A copy of x in which a disc round cell `here` shows, in some channels, what lies round cell `there`."""
    radii = [r * STRIDE for r in reach]
    offsets = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in radii), indexing="ij"), axis=-1).reshape(-1, 2)
    offsets = offsets[np.hypot(*(offsets / radii).T) <= 1]
    last = np.array(x.shape[1:]) - 1
    targets = offsets + np.array(here) * STRIDE + STRIDE // 2
    sources = np.clip(offsets + np.array(there) * STRIDE + STRIDE // 2, 0, last)
    inside = ((targets >= 0) & (targets <= last)).all(axis=1)
    (to_j, to_i), (from_j, from_i) = targets[inside].T, sources[inside].T
    out = x.copy()
    for row in rows:
        out[row, to_j, to_i] = x[row, from_j, from_i]
    return out
