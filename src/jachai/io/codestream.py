"""The first bytes of a compressed frame → its true size, so that a header that lies is caught before decoding.

Sources: ISO/IEC 10918-1 B.2.2 (JPEG frame header), 14495-1 C.2.2 (JPEG-LS), 15444-1 A.5.1 (JPEG 2000 SIZ),
DICOM PS3.5 G.5 (RLE header).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from jachai.core.errors import Damaged

LIES = "The size in the compressed image differs from the size in the header."
NOT_COMPRESSED_SO = "The compressed image is not of the kind that the header states (transfer syntax)."
COPY_AGAIN = "Export the file again from its source."
MAX_RLE_RATIO = 64
"""PackBits cannot do better: 128 bytes from two."""
MAX_TILES = 65_535
CUT_OFF = "The compressed image is cut off: a part of it is missing."
_SOT = b"\x90"
_END = b"\xff\xd9"
"""End of image, the same in JPEG, JPEG-LS and JPEG 2000; DICOM may add a zero byte after it."""
_SOF_LOSSLESS, _SOF_JPEG_LS = 0xC3, 0xF7
_SOF_LOSSY = frozenset({0xC0, 0xC1, 0xC2})
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {_SOF_JPEG_LS}
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})
_SIZ_MARKERS = b"\xff\x4f\xff\x51"
_J2K_SEARCH_BYTES = 512
"""A JP2 file header, which does not belong into DICOM but occurs, is shorter."""


@dataclass(frozen=True, slots=True)
class CodedSize:
    """Rows, columns, components and bits per sample of a compressed frame."""

    rows: int
    columns: int
    components: int
    precision: int


def jpeg_size(data: bytes, frame_markers: frozenset[int]) -> CodedSize:
    """The frame header of JPEG or JPEG-LS. Raises Damaged if there is none, or its marker is not in `frame_markers`."""
    if data[:2] != b"\xff\xd8":
        raise Damaged(NOT_COMPRESSED_SO, COPY_AGAIN)
    if not data[-64:].rstrip(b"\0").endswith(_END):
        raise Damaged(CUT_OFF, COPY_AGAIN)
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            break
        marker = data[at + 1]
        if marker == 0xFF or marker in _STANDALONE:
            at += 1 if marker == 0xFF else 2
            continue
        if marker in _SOF:
            return _frame_header(data[at + 4 : at + 10], marker, frame_markers)
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    raise Damaged("The compressed image has no frame header.", COPY_AGAIN)


def _frame_header(data: bytes, marker: int, allowed: frozenset[int]) -> CodedSize:
    if marker not in allowed:
        raise Damaged(NOT_COMPRESSED_SO, COPY_AGAIN)
    if len(data) < 6:
        raise Damaged("The compressed image has no frame header.", COPY_AGAIN)
    precision, rows, columns, components = struct.unpack(">BHHB", data)
    return CodedSize(rows, columns, components, precision)


def jpeg_lossless_size(data: bytes) -> CodedSize:
    """Process 14: lossless, Huffman."""
    return jpeg_size(data, frozenset({_SOF_LOSSLESS}))


def jpeg_lossy_size(data: bytes) -> CodedSize:
    """Baseline and extended."""
    return jpeg_size(data, _SOF_LOSSY)


def jpeg_ls_size(data: bytes) -> CodedSize:
    """JPEG-LS, lossless and near-lossless."""
    return jpeg_size(data, frozenset({_SOF_JPEG_LS}))


def jpeg_2000_size(data: bytes) -> CodedSize:
    """JPEG 2000 and HTJ2K: the SIZ segment. Raises Damaged if there is none or a tile is missing.

    OpenJPEG fills the rest of a truncated image with zeros and says nothing, so the tiles are counted here.
    """
    at = data.find(_SIZ_MARKERS, 0, _J2K_SEARCH_BYTES)
    segment = data[at + 6 : at + 45]
    if at < 0 or len(segment) < 39:
        raise Damaged(NOT_COMPRESSED_SO, COPY_AGAIN)
    _, x, y, x0, y0, tile_x, tile_y, x1, y1, components, depth, step_x, step_y = struct.unpack(">H8IH3B", segment)
    if x <= x0 or y <= y0 or not (tile_x and tile_y) or (step_x, step_y) != (1, 1) or x1 > x0 or y1 > y0:
        raise Damaged(LIES, COPY_AGAIN)
    n_tiles = -(-(x - x1) // tile_x) * -(-(y - y1) // tile_y)
    if n_tiles > MAX_TILES or _whole_tiles(data, at + 2) != n_tiles:
        raise Damaged(CUT_OFF, COPY_AGAIN)
    return CodedSize(y - y0, x - x0, components, (depth & 0x7F) + 1)


def _whole_tiles(data: bytes, at: int) -> int:
    """How many tiles are there up to the end mark (ISO/IEC 15444-1 A.4.2, SOT); 0 if a part is cut off."""
    tiles: set[int] = set()
    while data[at : at + 1] == b"\xff":
        if data[at : at + 2] == _END:
            return len(tiles)
        marker, length = data[at + 1 : at + 2], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == _SOT and at + 12 <= len(data):
            tiles.add(int.from_bytes(data[at + 4 : at + 6], "big"))
            length = int.from_bytes(data[at + 6 : at + 10], "big") - 2
            if length == -2:  # the last part reaches to the end mark
                return len(tiles) if data.rstrip(b"\0").endswith(_END) else 0
        if length < 2:
            return 0
        at += 2 + length
    return 0


def rle_size(data: bytes, rows: int, columns: int, bytes_per_sample: int) -> CodedSize:
    """RLE states no size: check that its segments can hold what the DICOM header states. Raises Damaged if they cannot."""
    if len(data) < 64:
        raise Damaged(NOT_COMPRESSED_SO, COPY_AGAIN)
    n_segments, *offsets = struct.unpack("<16I", data[:64])
    if n_segments != bytes_per_sample:
        raise Damaged("The compressed image has not as many segments as a sample has bytes.", COPY_AGAIN)
    ends = [*offsets[1:n_segments], len(data)]
    for start, end in zip(offsets[:n_segments], ends):
        if not 64 <= start < end <= len(data) or (end - start) * MAX_RLE_RATIO < rows * columns:
            raise Damaged(LIES, COPY_AGAIN)
    return CodedSize(rows, columns, 1, 8 * bytes_per_sample)
