"""The stored pixels of a DICOM data set → integer samples, one frame at a time; and the arithmetic that precedes it.

JPEG-LS, JPEG 2000, HTJ2K and RLE go straight to their codecs; JPEG (lossless process 14, baseline, extended 8-bit) goes
through pydicom to gdcm, which is why all of this runs in the confined child only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import uid
from pydicom._uid_dict import UID_dictionary
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames

from jachai.core.errors import Damaged, LimitExceeded, Unsupported
from jachai.io import codestream
from jachai.io.reader import MAX_VOXELS

Samples = npt.NDArray[Any]
JPEG_LS = frozenset({uid.JPEGLSLossless, uid.JPEGLSNearLossless})
JPEG_2000 = frozenset({uid.JPEG2000Lossless, uid.JPEG2000, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K})
JPEG_LOSSLESS = frozenset({uid.JPEGLossless, uid.JPEGLosslessSV1})
JPEG_LOSSY = frozenset({uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit})
NATIVE = frozenset(
    {
        uid.ImplicitVRLittleEndian,
        uid.ExplicitVRLittleEndian,
        uid.ExplicitVRBigEndian,
        uid.DeflatedExplicitVRLittleEndian,
    }
)
READ = JPEG_LS | JPEG_2000 | JPEG_LOSSLESS | JPEG_LOSSY | NATIVE | {uid.RLELossless}
LOSSY = JPEG_LOSSY | {uid.JPEGLSNearLossless, uid.JPEG2000, uid.HTJ2K}
COPY_AGAIN = "Export the file again from its source."


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """How the pixels are stored. inverted: MONOCHROME1 (the highest value is black, DICOM PS3.3 C.7.6.3.1.2)."""

    transfer_syntax: str
    rows: int
    columns: int
    frames: int
    bits_allocated: int
    bits_stored: int
    signed: bool
    inverted: bool

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of one native sample, unsigned: `samples` looks after the sign."""
        order = ">" if self.transfer_syntax == uid.ExplicitVRBigEndian else "<"
        return np.dtype(f"{order}u{self.bits_allocated // 8}")

    @property
    def frame_bytes(self) -> int:
        """Size of one native frame."""
        return self.rows * self.columns * self.bits_allocated // 8

    @property
    def range(self) -> tuple[int, int]:
        """Lowest and highest value that can be stored."""
        span = 1 << self.bits_stored
        return (-span // 2, span // 2 - 1) if self.signed else (0, span - 1)


def pixel_format(data_set: Dataset, transfer_syntax: str) -> PixelFormat:
    """The Image Pixel module (PS3.3 C.7.6.3), checked. Raises an Unreadable error for what is not read or impossible."""
    if transfer_syntax not in READ:
        name = uid.UID(transfer_syntax).name if transfer_syntax in UID_dictionary else "not one of the standard"
        raise Unsupported(
            f"The way its pixels are stored (transfer syntax: {name}) is not read.",
            "Export it uncompressed or as JPEG-LS.",
        )
    if "PixelData" not in data_set:
        if "FloatPixelData" in data_set or "DoubleFloatPixelData" in data_set:
            raise Unsupported("Its pixels are floating-point numbers, as in a parametric map, which is not read.")
        raise Damaged("The file ends before its image does, or never had one.", COPY_AGAIN)
    photometric = str(data_set.get("PhotometricInterpretation", "")).strip()
    if photometric not in ("MONOCHROME1", "MONOCHROME2") or _whole(data_set, "SamplesPerPixel", 1) != 1:
        raise Unsupported("The image is in colour, or does not say that it is grey (Photometric Interpretation).")
    result = PixelFormat(
        transfer_syntax=transfer_syntax,
        rows=_whole(data_set, "Rows"),
        columns=_whole(data_set, "Columns"),
        frames=_whole(data_set, "NumberOfFrames", 1),
        bits_allocated=_whole(data_set, "BitsAllocated"),
        bits_stored=_whole(data_set, "BitsStored", _whole(data_set, "BitsAllocated")),
        signed=_whole(data_set, "PixelRepresentation", 0) == 1,
        inverted=photometric == "MONOCHROME1",
    )
    _check(result, _whole(data_set, "HighBit", result.bits_stored - 1))
    return result


def _whole(data_set: Dataset, keyword: str, default: int | None = None) -> int:
    value = data_set.get(keyword)
    if value is None and default is not None:
        return default
    try:
        return int(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError) as error:
        raise Damaged(f"The attribute {keyword} is missing or is not one whole number.", COPY_AGAIN) from error


def _check(image: PixelFormat, high_bit: int) -> None:
    if image.rows < 1 or image.columns < 1 or image.frames < 1:
        raise Damaged("The header states an image without rows, columns or frames.", COPY_AGAIN)
    if image.rows * image.columns * image.frames > MAX_VOXELS:
        raise LimitExceeded(
            f"The header states {image.frames} × {image.rows} × {image.columns} voxels; at most {MAX_VOXELS:,} are read."
        )
    if image.bits_allocated not in (8, 16, 32):
        raise Unsupported(f"Pixels of {image.bits_allocated} bits are not read.")
    if not 1 <= image.bits_stored <= image.bits_allocated:
        raise Damaged("The header states more bits per pixel than are stored.", COPY_AGAIN)
    if high_bit != image.bits_stored - 1:
        raise Unsupported("The bits of a pixel do not start at the lowest bit (High Bit), which is not read.")


def check_pixels(data_set: Dataset, image: PixelFormat) -> None:
    """Does the size of the stored pixels agree with the header? Looks at every frame, decodes none.

    Raises Damaged if not.
    """
    element = data_set["PixelData"]
    stored = element.value
    if not isinstance(stored, bytes | bytearray) or bool(element.is_undefined_length) == (
        image.transfer_syntax in NATIVE
    ):
        raise Damaged(codestream.NOT_COMPRESSED_SO, COPY_AGAIN)
    if image.transfer_syntax in NATIVE:
        expected = image.frame_bytes * image.frames
        if not expected <= len(stored) <= expected + 1:  # an odd length is padded to an even one (PS3.5 8.1.1)
            raise Damaged(
                f"The pixels take {len(stored):,} bytes, but the header promises {expected:,}: the file is cut off, "
                "or its header was changed.",
                COPY_AGAIN,
            )
        return
    n_frames = 0
    for frame in coded_frames(data_set, image):
        n_frames += 1
        if n_frames <= image.frames:
            check_frame(frame, image)
    if n_frames != image.frames:
        raise Damaged(f"The file holds {n_frames} frames, but its header promises {image.frames}.", COPY_AGAIN)


def coded_frames(data_set: Dataset, image: PixelFormat) -> Iterator[bytes]:
    """The compressed frames in order. Raises Damaged where they are not put together as PS3.5 A.4 says."""
    offsets = None
    if "ExtendedOffsetTable" in data_set and "ExtendedOffsetTableLengths" in data_set:
        offsets = (data_set.ExtendedOffsetTable, data_set.ExtendedOffsetTableLengths)
    try:
        yield from generate_frames(data_set.PixelData, number_of_frames=image.frames, extended_offsets=offsets)
    except ValueError as error:
        raise Damaged("The compressed frames are not where the file says.", COPY_AGAIN) from error


def check_frame(frame: bytes, image: PixelFormat) -> int:
    """Compare a compressed frame's own header with the DICOM header: the bits per sample. Raises Damaged if they differ."""
    syntax = image.transfer_syntax
    if syntax in JPEG_LS:
        size = codestream.jpeg_ls_size(frame)
    elif syntax in JPEG_2000:
        size = codestream.jpeg_2000_size(frame)
    elif syntax in JPEG_LOSSLESS:
        size = codestream.jpeg_lossless_size(frame)
    elif syntax in JPEG_LOSSY:
        size = codestream.jpeg_lossy_size(frame)
    else:
        size = codestream.rle_size(frame, image.rows, image.columns, image.bits_allocated // 8)
    if (size.rows, size.columns, size.components) != (image.rows, image.columns, 1):
        raise Damaged(codestream.LIES, COPY_AGAIN)
    if not 1 <= size.precision <= image.bits_allocated:
        raise Damaged("The compressed image has more bits per pixel than its header states.", COPY_AGAIN)
    if syntax in JPEG_LOSSY and size.precision > 8:
        raise Unsupported("Lossy JPEG with 12 bits per pixel is not read.", "Export it uncompressed.")
    return size.precision


def decode(data_set: Dataset, image: PixelFormat, frames: list[int]) -> Iterator[tuple[int, Samples]]:
    """(frame number, samples (rows, columns)) for each wanted frame, in the order of the file. Raises Damaged."""
    wanted = set(frames)
    if image.transfer_syntax in NATIVE:
        stored = memoryview(data_set.PixelData)
        for number in sorted(wanted):
            part = stored[number * image.frame_bytes : (number + 1) * image.frame_bytes]
            yield number, _signed(np.frombuffer(part, image.dtype), image.bits_stored, image)
        return
    for number, frame in enumerate(coded_frames(data_set, image)):
        if number in wanted:
            precision = min(check_frame(frame, image), image.bits_stored)
            yield number, _signed(_decode_frame(frame, image, data_set, number), precision, image)


def _decode_frame(frame: bytes, image: PixelFormat, data_set: Dataset, number: int) -> Samples:
    """The bits of a compressed frame, in unsigned samples of whatever width the codec returns."""
    syntax = image.transfer_syntax
    try:
        if syntax in JPEG_LS:
            import jpeg_ls

            decoded, _ = jpeg_ls.decode_pixel_data(frame)
        elif syntax in JPEG_2000:
            from openjpeg.utils import decode_pixel_data

            decoded = decode_pixel_data(frame, version=2)
        elif syntax == uid.RLELossless:
            from rle.utils import decode_pixel_data as decode_rle

            decoded = decode_rle(
                frame, version=2, rows=image.rows, columns=image.columns, bits_allocated=image.bits_allocated
            )
        else:
            return _decode_jpeg(data_set, number, syntax)
    except (ValueError, RuntimeError) as error:
        raise Damaged("The compressed image cannot be decoded: it is damaged.", COPY_AGAIN) from error
    except ImportError as error:
        raise Unsupported("The decoder for this compression is not installed.", "Run `jachai doctor`.") from error
    return _as_unsigned(decoded, image)


def _as_unsigned(decoded: bytes | bytearray, image: PixelFormat) -> Samples:
    width, rest = divmod(len(decoded), image.rows * image.columns)
    if rest or width not in (1, 2, 4):
        raise Damaged("The decoded image has not the size that the header states.", COPY_AGAIN)
    return np.frombuffer(decoded, np.dtype(f"<u{width}"))


def _decode_jpeg(data_set: Dataset, number: int, syntax: str) -> Samples:
    """JPEG of the old kind, by gdcm through pydicom."""
    from pydicom.pixels.decoders.base import get_decoder

    samples, _ = get_decoder(syntax).as_array(data_set, index=number, raw=True, decoding_plugin="gdcm")
    return samples.view(samples.dtype.str.replace("i", "u"))


def _signed(bits: Samples, n_bits: int, image: PixelFormat) -> Samples:
    """The lowest n_bits of each unsigned sample, with their sign: whatever else a sample holds is not image."""
    unused = bits.dtype.itemsize * 8 - n_bits
    if bits.size != image.rows * image.columns or unused < 0:
        raise Damaged("The decoded image has not the size that the header states.", COPY_AGAIN)
    native = bits.astype(bits.dtype.newbyteorder("="), copy=False).reshape(image.rows, image.columns)
    if not image.signed:
        return np.asarray(native & native.dtype.type((1 << n_bits) - 1))
    shift = native.dtype.type(unused)
    same_width = f"i{native.dtype.itemsize}"
    return np.asarray((native << shift).view(same_width) >> shift.astype(same_width))
