"""A slice → what is left when anatomy is taken away: the bank of high-pass residuals.

A CT reconstruction keeps frequencies inside a disc; the corners of the spectrum, beyond the disc, hold little but the
rounding of stored values (white, 1/√12 of a step). Whatever is painted, re-sampled or sprinkled with noise afterwards on
the pixel grid fills or empties those corners, and anatomy hardly reaches them: `corner` looks there. The other bands see
more of the noise and more of the anatomy. All filters have unit gain for white noise, so that a residual is in HU.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Slice = npt.NDArray[np.float32]


def _difference(order: int) -> Slice:
    """Binomial difference of even order, scaled to unit gain for white noise."""
    taps = np.array([1.0])
    for _ in range(order):
        taps = np.convolve(taps, [1.0, -1.0])
    return np.asarray(taps / np.linalg.norm(taps), dtype=np.float32)


SIXTH, SECOND = _difference(6), _difference(2)


def _separable(slice_: Slice, taps: Slice) -> Slice:
    return np.asarray(ndimage.correlate1d(ndimage.correlate1d(slice_, taps, axis=0), taps, axis=1), dtype=np.float32)


def corner(slice_: Slice) -> Slice:
    """Sixth differences along both axes: the corners of the spectrum (both frequencies above about 0.7 of Nyquist)."""
    return _separable(slice_, SIXTH)


def diagonal(slice_: Slice) -> Slice:
    """Second differences along both axes (Immerkær 1996): noise with little of straight edges."""
    return _separable(slice_, SECOND)


MID_SIGMA = (0.6, 1.0)
"""Pixels. Cubic interpolation from a coarser grid smooths away the texture between these two Gaussians."""


def _grain(slice_: Slice) -> Slice:
    fine, coarse = (ndimage.gaussian_filter(slice_, sigma, truncate=3.0) for sigma in MID_SIGMA)
    return np.asarray(fine - coarse, dtype=np.float32)


def _white_gain(filter_: Callable[[Slice], Slice]) -> np.float32:
    impulse = np.zeros((33, 33), dtype=np.float32)
    impulse[16, 16] = 1.0
    return np.float32(np.linalg.norm(filter_(impulse)))


_GRAIN_GAIN = _white_gain(_grain)


def middle(slice_: Slice) -> Slice:
    """Difference of two Gaussians (`MID_SIGMA`): the texture that a reader sees as grain."""
    return np.asarray(_grain(slice_) / _GRAIN_GAIN, dtype=np.float32)


def between(before: Slice, slice_: Slice, after: Slice) -> Slice:
    """`diagonal` of the slice minus the mean of its neighbours: noise that does not go on from slice to slice.

    Unit gain for noise that is independent between slices.
    """
    return diagonal(np.asarray((slice_ - 0.5 * (before + after)) / np.float32(np.sqrt(1.5)), dtype=np.float32))


IN_PLANE: dict[str, Callable[[Slice], Slice]] = {"corner": corner, "diagonal": diagonal, "middle": middle}
"""Name → residual of one slice. `between` needs the neighbours and stands apart."""
