"""A slice with its neighbours → the channels a search network sees: residuals in units of the scan's own noise, and HU.

Dose, kernel and rounding of a scan scale all its residuals alike, so each is divided by what the same slice shows in its own
lungs (or body): the network sees deviations from the scan, not the scanner. No header, position or padding enters.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from jachai.core.volume import AIR_HU, Mask
from jachai.forensics import residual
from jachai.forensics.residual import Slice

CHANNELS = ("corner", "diagonal", "middle", "between", "neighbours", "lung window", "soft window")
"""In this order. `between` is 0 and `neighbours` 0 where the slices before and after are not known."""
LUNG_HU = (-980.0, -500.0)
"""Aerated lung, without the air of airways and outside: where the scan's own noise is measured."""
MIN_PIXELS = 500
"""Fewer of these, and the noise is measured wherever there is body."""
MAD_TO_SIGMA = 1.4826
FLOOR_HU = 0.05
"""Added to a noise level: below it a residual is only the rounding of the file."""
LUNG_WINDOW, SOFT_WINDOW = (-1000.0, -300.0), (-200.0, 250.0)
"""HU that become 0 and 1."""

Channels = npt.NDArray[np.float32]
Scales = tuple[float, float, float, float]
"""HU: the scan's own robust standard deviation in corner, diagonal, middle, between (0: not known)."""


def noise_place(slice_: Slice) -> Mask:
    """(j, i) where the noise of a CT slice is measured: lung, or body where there is little lung."""
    lung = (slice_ > LUNG_HU[0]) & (slice_ < LUNG_HU[1])
    if lung.sum() >= MIN_PIXELS:
        return np.asarray(lung)
    body = slice_ > LUNG_HU[0]
    return np.asarray(body if body.any() else np.ones_like(lung))


def residuals(slice_: Slice, before: Slice | None = None, after: Slice | None = None) -> tuple[Slice, ...]:
    """(corner, diagonal, middle, between) in HU; `between` is 0 without both neighbours."""
    clipped = np.maximum(slice_, np.float32(AIR_HU))
    filters: dict[str, Callable[[Slice], Slice]] = residual.IN_PLANE
    in_plane = tuple(filter_(clipped) for filter_ in filters.values())
    if before is None or after is None:
        return (*in_plane, np.zeros_like(clipped))
    across = residual.between(np.maximum(before, np.float32(AIR_HU)), clipped, np.maximum(after, np.float32(AIR_HU)))
    return (*in_plane, across)


def scales_of(bank: tuple[Slice, ...], place: Mask) -> Scales:
    """The noise levels of residuals, measured where `place` is True."""
    corner, diagonal, middle, between = (MAD_TO_SIGMA * float(np.median(np.abs(r[place]))) for r in bank)
    return corner, diagonal, middle, between


def compressed(bank: tuple[Slice, ...], scales: Scales) -> Channels:
    """(4, j, i) residuals in noise levels, compressed by asinh: ±4 stands for ±27 of them. Unknown ones are 0."""
    return np.stack([np.arcsinh(r / np.float32(s + FLOOR_HU)) if s else np.zeros_like(r) for r, s in zip(bank, scales)])


def with_windows(slice_: Slice, parts: Channels, neighbours: bool) -> Channels:
    """`compressed` residuals and the slice → (7, j, i) float32, see CHANNELS."""
    windows = [np.clip((slice_ - low) / np.float32(high - low), 0, 1) for low, high in (LUNG_WINDOW, SOFT_WINDOW)]
    return np.stack([*parts, np.full_like(slice_, neighbours), *windows]).astype(np.float32, copy=False)


def channels(slice_: Slice, before: Slice | None = None, after: Slice | None = None) -> Channels:
    """(j, i) HU and its neighbours (or None) → (7, j, i): what a search network sees."""
    bank = residuals(slice_, before, after)
    parts = compressed(bank, scales_of(bank, noise_place(slice_)))
    return with_windows(slice_, parts, before is not None and after is not None)
