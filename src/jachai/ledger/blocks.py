"""The samples of one slice → F4: for each block of 16² a keyed hash, its mean and its variance.

The hash tells where anything changed, however little. Mean and variance tell lossy compression (everywhere, small) from
a change of one place (local, large), and hold without the original.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from jachai.core.errors import LimitExceeded
from jachai.ledger.digests import BLOCK_BYTES

SIDE = 16
"""Rows and columns of a block. Blocks at the right and lower edge are smaller where the picture ends."""
BLOCK = np.dtype([("hash", "<u8"), ("mean", "<f4"), ("variance", "<f4")])
"""One block as it is stored: 16 bytes, little endian; mean and variance of the stored integers."""
MAX_BLOCKS = 2_000_000
"""Of one instance: more than the largest volume that is read has."""

Blocks = npt.NDArray[Any]


def grid(rows: int, columns: int) -> tuple[int, int]:
    """How many blocks a slice has: (down, across)."""
    return -(-rows // SIDE), -(-columns // SIDE)


def check_count(frames: int, rows: int, columns: int) -> None:
    """Raises LimitExceeded for more blocks than an instance may have (very narrow pictures)."""
    down, across = grid(rows, columns)
    if frames * down * across > MAX_BLOCKS:
        raise LimitExceeded("The file has more blocks than the ledger takes.", "Record a part of it.")


def blocks_of(samples: npt.NDArray[Any], frame: int, secret: bytes) -> Blocks:
    """(rows, columns) stored integers of frame number `frame` → (down, across) of BLOCK.

    hash: BLAKE2b-64 keyed with the secret, of "block" + 0x00 + frame, block row, block column (three uint32, little
    endian) + the samples of the block row by row in the form of `sample_bytes`.
    """
    rows, columns = samples.shape
    down, across = grid(rows, columns)
    result = np.zeros((down, across), BLOCK)
    keyed = hashlib.blake2b(b"block\0", key=secret, digest_size=BLOCK_BYTES)
    for row in range(down):
        strip = samples[row * SIDE : (row + 1) * SIDE]
        result["hash"][row] = _hashes(strip, keyed, frame, row, across)
    result["mean"], result["variance"] = _moments(samples.astype(np.float64), down, across)
    return result


def _hashes(strip: npt.NDArray[Any], keyed: Any, frame: int, row: int, across: int) -> npt.NDArray[np.uint64]:
    columns = strip.shape[1]
    padded = np.pad(strip, ((0, 0), (0, across * SIDE - columns))) if across * SIDE != columns else strip
    side_by_side = np.ascontiguousarray(padded.reshape(len(strip), across, SIDE).transpose(1, 0, 2))
    digests = []
    for column in range(across):
        width = min(SIDE, columns - column * SIDE)
        block = side_by_side[column] if width == SIDE else side_by_side[column][:, :width]
        one = keyed.copy()
        one.update(struct.pack("<3I", frame, row, column) + block.tobytes())
        digests.append(one.digest())
    return np.frombuffer(b"".join(digests), "<u8")


def _moments(values: npt.NDArray[np.float64], down: int, across: int) -> tuple[Blocks, Blocks]:
    """Mean and variance of each block, (down, across)."""
    rows, columns = values.shape
    row_starts, column_starts = np.arange(0, rows, SIDE), np.arange(0, columns, SIDE)
    counts = np.outer(np.diff([*row_starts, rows]), np.diff([*column_starts, columns]))
    centre = float(values.mean())
    shifted = values - centre  # so that the difference of two large sums stays exact

    def sums(of: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(np.add.reduceat(np.add.reduceat(of, row_starts, 0), column_starts, 1))

    mean = sums(shifted) / counts
    variance = np.maximum(sums(shifted * shifted) / counts - mean * mean, 0.0)
    return mean + centre, variance
