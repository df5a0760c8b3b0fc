"""A stream of stored numbers → float32 voxels, scaled and finite; and the arithmetic that precedes it."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from jachai.core.errors import Damaged, LimitExceeded
from jachai.core.volume import Voxels
from jachai.io.reader import MAX_VOXELS

MAX_SIDE = 65_535
"""Largest number of rows, columns or slices (what DICOM's 16-bit Rows and Columns allow)."""
MAX_DEFLATE_RATIO = 1_032
"""Deflate cannot pack better than 1032 : 1 (RFC 1951: 258 bytes in two bits)."""
MAX_BELIEVABLE_RATIO = 300
"""No scan packs better: noise needs bits. Skull-stripped brains in float64 reach about 60 : 1."""
ALWAYS_ALLOWED_BYTES = 64 * 2**20
"""Unpacked size below which any ratio is accepted: constant and synthetic images are fine, if small."""
BLOCK_BYTES = 8 * 2**20
"""Stored bytes read at a time."""
GZIP_MAGIC = b"\x1f\x8b"
ZLIB_OR_GZIP = zlib.MAX_WBITS | 32
"""zlib's window size with automatic detection of a zlib or gzip header."""
PACKED_BLOCK = 2**16
TRUNCATED = "The file ends before its image does."
COPY_AGAIN = "Copy or convert it again from the source."


class Stream(Protocol):
    """Where stored bytes come from."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes, fewer only at the end."""


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """How one volume is stored: i fastest, then j, then k. value = stored × slope + intercept."""

    shape_kji: tuple[int, int, int]
    dtype: np.dtype[np.generic]
    slope: float = 1.0
    intercept: float = 0.0

    @property
    def n_bytes(self) -> int:
        """Stored size of the volume."""
        return math.prod(self.shape_kji) * self.dtype.itemsize

    @property
    def step(self) -> float | None:
        """Distance between neighbouring values: |slope| of integers, None for floats."""
        return abs(self.slope) if np.issubdtype(self.dtype, np.integer) else None


def check_shape(shape_kji: tuple[int, int, int], n_volumes: int = 1) -> None:
    """Raises Damaged for sizes below one, LimitExceeded for more voxels than a reader is allowed."""
    if min(shape_kji) < 1 or n_volumes < 1:
        raise Damaged("The header states a size of zero or less.", COPY_AGAIN)
    if max(shape_kji) > MAX_SIDE or math.prod(shape_kji) * n_volumes > MAX_VOXELS:
        size = " × ".join(str(side) for side in shape_kji) + (f" × {n_volumes}" if n_volumes > 1 else "")
        raise LimitExceeded(
            f"The header states {size} voxels, more than the {MAX_VOXELS:,} that are read.", "Crop or split the scan."
        )


def check_unpacked(needed_bytes: int, packed_bytes: int) -> None:
    """Can `packed_bytes` of deflate hold `needed_bytes`, believably? Raises Damaged or LimitExceeded."""
    if needed_bytes > packed_bytes * MAX_DEFLATE_RATIO:
        raise Damaged(f"{TRUNCATED} The header promises {needed_bytes:,} bytes of pixels.", COPY_AGAIN)
    if needed_bytes > max(ALWAYS_ALLOWED_BYTES, packed_bytes * MAX_BELIEVABLE_RATIO):
        raise LimitExceeded(
            f"The file would unpack to {needed_bytes / packed_bytes:.0f} times its size, which no scan does.",
            "If it is genuine, unpack it yourself and scan the unpacked file.",
        )


def fill(stream: Stream, layout: Layout, stored: Voxels) -> str | None:
    """Read one volume into `stored`, a writable (k, j, i) float32 view in the order of the file.

    Values that are not finite become the lowest finite one; the warning that says so, or None, is returned. Raises
    Damaged if the stream ends early or holds no finite value at all.
    """
    rows_per_block = max(1, BLOCK_BYTES // (layout.shape_kji[2] * layout.dtype.itemsize))
    missing = 0
    for plane in stored:
        for first in range(0, layout.shape_kji[1], rows_per_block):
            block = plane[first : first + rows_per_block]
            raw = read_exactly(stream, block.size * layout.dtype.itemsize)
            missing += _convert(np.frombuffer(raw, layout.dtype).reshape(block.shape), layout, block)
    return _cover_missing(stored, missing)


def _convert(values: np.ndarray, layout: Layout, block: Voxels) -> int:
    """Write scaled `values` into `block`; how many of them are not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        if (layout.slope, layout.intercept) == (1.0, 0.0):
            block[...] = values
        else:
            block[...] = values.astype(np.float64) * layout.slope + layout.intercept
    return int(block.size - np.count_nonzero(np.isfinite(block)))


def _cover_missing(voxels: Voxels, missing: int) -> str | None:
    if not missing:
        return None
    if missing == voxels.size:
        raise Damaged("None of the voxel values is a finite number.", COPY_AGAIN)
    lowest = min(float(plane.min(where=np.isfinite(plane), initial=np.inf)) for plane in voxels)
    for plane in voxels:
        plane[~np.isfinite(plane)] = lowest
    share = 100 * missing / voxels.size
    return (
        f"{missing:,} voxels ({share:.2g} %) were not finite numbers and were replaced by the lowest value, {lowest:g}."
    )


def read_exactly(stream: Stream, size: int) -> bytes:
    """`size` bytes. Raises Damaged if the stream ends before or does not unpack."""
    data = _read(stream, size)
    if len(data) != size:
        raise Damaged(TRUNCATED, COPY_AGAIN)
    return data


def _read(stream: Stream, size: int) -> bytes:
    try:
        return stream.read(size)
    except EOFError as error:
        raise Damaged(TRUNCATED, COPY_AGAIN) from error
    except zlib.error as error:
        raise Damaged("The compressed data are damaged.", COPY_AGAIN) from error


class Inflating:
    """The unpacked bytes of a zlib or gzip stream (also of several gzip members), never more of them than asked for."""

    def __init__(self, packed: Stream) -> None:
        self._packed = packed
        self._pending = b""
        self._inflater = zlib.decompressobj(ZLIB_OR_GZIP)
        self._garbage = False

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes, fewer only after the end mark. Raises zlib.error for damaged data, EOFError for cut ones."""
        parts: list[bytes] = []
        while size > 0 and (not self._inflater.eof or self._next_member()):
            packed = self._pending or self._packed.read(PACKED_BLOCK)
            part = self._inflater.decompress(packed, size)
            self._pending = self._inflater.unused_data if self._inflater.eof else self._inflater.unconsumed_tail
            if not packed and not part:
                raise EOFError
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _next_member(self) -> bool:
        """After an end mark: does another gzip member follow?"""
        self._pending += self._packed.read(PACKED_BLOCK) if len(self._pending) < len(GZIP_MAGIC) else b""
        if self._pending.startswith(GZIP_MAGIC):
            self._inflater = zlib.decompressobj(ZLIB_OR_GZIP)
            return True
        self._garbage = bool(self._pending.strip(b"\0"))
        return False

    def rest(self) -> tuple[str, ...]:
        """After the last voxel: notes on what follows it. Raises Damaged if the check sum fails or the end mark lacks."""
        if _read(self, 1):
            return ("The file goes on after its image; what follows was not read.",)
        return ("Bytes that belong to nothing follow the compressed image.",) if self._garbage else ()
