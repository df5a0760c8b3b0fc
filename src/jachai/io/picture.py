"""A picture (PNG, JPEG, TIFF; grey, 8 or 16 bits) → slices without Hounsfield units and without geometry.

Pillow decodes; its bomb guards become LimitExceeded. Colour pictures are taken only if they are grey in truth. The pages
of a TIFF become the slices of one volume. A DICOM file whose preamble poses as a TIFF (PS3.10 7.1) is not claimed.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageSequence, UnidentifiedImageError

from jachai.core.errors import Damaged, LimitExceeded, NotAnImage, Unsupported
from jachai.core.volume import Modality
from jachai.io.rawvoxels import COPY_AGAIN, check_shape
from jachai.io.reader import Allocate, Decoded

FORMATS = ("PNG", "JPEG", "TIFF")
ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
DICOM_MARK = (128, b"DICM")
MAX_PAGES = 4_096
COLOUR_TOLERANCE = 2
"""Grey levels by which R, G and B of a grey picture may differ after JPEG's conversion to YCbCr and back."""
GREY_MODES = {"1": 1, "L": 8, "LA": 8, "I": 32, "I;16": 16, "I;16B": 16, "I;16L": 16, "I;16N": 16, "F": 32}
"""Pillow's grey modes → bits."""
COLOUR_MODES = ("RGB", "RGBA", "P", "PA")
LOSSY_TIFF = ("jpeg", "tiff_jpeg", "old-jpeg", "webp", "jpeg2000")
PILLOW_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, TypeError, KeyError, IndexError, OverflowError, AttributeError,
    RuntimeError, AssertionError, struct.error, zlib.error,
)  # fmt: skip
"""What Pillow raises on damaged files: its decoders do not wrap what their parsing runs into."""
NO_UNITS = "A picture has no Hounsfield units and no geometry: sizes in mm are unknown."
EIGHT_BITS = "The picture has 8 bits: 256 grey levels through an unknown window hide most of a scan's noise."


@dataclass(frozen=True, slots=True)
class _Facts:
    """What Pillow says of the file before anything is decoded."""

    format: str
    mode: str
    shape_kji: tuple[int, int, int]
    lossy: bool


class PictureReader:
    """`FormatReader` of PNG, JPEG and TIFF: one volume without geometry, one slice per page."""

    name = "picture"

    def claims(self, path: Path, head: bytes) -> bool:
        """By its signature, or by the ending of its name; never a DICOM file."""
        at, mark = DICOM_MARK
        if head[at : at + len(mark)] == mark:
            return False
        return head.startswith(SIGNATURES) or path.suffix.lower() in ENDINGS

    def read(self, path: Path, allocate: Allocate) -> list[Decoded]:
        """The one volume of the picture. Raises an `Unreadable` error with reason and remedy."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata; only the bomb guard matters here
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            try:
                return [_read(path, allocate)]
            except (Image.DecompressionBombWarning, Image.DecompressionBombError, MemoryError) as error:
                raise LimitExceeded("The picture is too large to be a scan.", "Crop it to the image.") from error
            except UnidentifiedImageError as error:
                raise NotAnImage("The file is not a PNG, JPEG or TIFF picture.", "Check what the file is.") from error
            except PILLOW_ERRORS as error:
                raise Damaged("The picture is damaged or ends early.", COPY_AGAIN) from error


PICTURE = PictureReader()


def _read(path: Path, allocate: Allocate) -> Decoded:
    with Image.open(path, formats=FORMATS) as image:
        facts = _facts(image)
        voxels = allocate(facts.shape_kji)
        remarks: set[str] = set()
        for k, page in enumerate(ImageSequence.Iterator(image)):
            grey, found = _grey(page)
            if grey.shape != facts.shape_kji[1:] or k >= len(voxels):
                raise Unsupported("The pages of the TIFF differ in size.", "Save the pages as separate pictures.")
            voxels[k] = grey
            remarks.update(found)
    if not np.isfinite(voxels).all():
        raise Damaged("The picture holds values that are not finite numbers.", COPY_AGAIN)
    bits = GREY_MODES.get(facts.mode, 8)
    return Decoded(
        voxels=voxels,
        modality=Modality.PICTURE,
        geometry=None,
        step=None if facts.mode == "F" else 1.0,
        lossy=facts.lossy,
        attributes={"picture_format": facts.format, "bits": str(bits)},
        warnings=(NO_UNITS, *([EIGHT_BITS] if bits <= 8 else []), *sorted(remarks)),
    )


def _facts(image: Image.Image) -> _Facts:
    """Check kind and size before decoding. Raises an `Unreadable` error."""
    if image.mode not in GREY_MODES and image.mode not in COLOUR_MODES:
        raise Unsupported("The picture has colours of a kind that is not read.", "Save it as a grey picture.")
    if image.mode in COLOUR_MODES and _deep_colour(image):
        raise Unsupported("The picture has 16-bit colours.", "Save it as a 16-bit grey picture.")
    pages = int(getattr(image, "n_frames", 1))
    if pages > 1 and image.format != "TIFF":
        raise Unsupported(
            "The picture is an animation or holds several pictures.", "Save the pictures as separate files."
        )
    if pages > MAX_PAGES:
        raise LimitExceeded(f"The TIFF has more than {MAX_PAGES} pages.", "Split it.")
    shape = (pages, image.height, image.width)
    check_shape(shape)
    lossy = image.format in ("JPEG", "MPO") or image.info.get("compression") in LOSSY_TIFF
    return _Facts(image.format or "", image.mode, shape, lossy)


def _deep_colour(image: Image.Image) -> bool:
    """Does the file hold more than 8 bits per colour, of which Pillow would silently drop the lower ones?"""
    if image.format == "PNG":
        return any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
    bits = getattr(image, "tag_v2", {}).get(258, (8,))  # TIFF 6.0: BitsPerSample
    return bool(np.max(bits) > 8)


def _grey(page: Image.Image) -> tuple[npt.NDArray[np.generic], tuple[str, ...]]:
    """Grey levels (j, i) of a page, and remarks. Raises Unsupported for true colours."""
    if page.mode == "1":
        return np.asarray(page.convert("L")), ("The picture has one bit: black and white only.",)
    if page.mode in GREY_MODES and page.mode != "LA":
        return np.asarray(page), ()
    channels = np.asarray(page.convert("RGBA"))
    colours, alpha = channels[..., :3], channels[..., 3]
    if (colours.max(axis=-1) - colours.min(axis=-1)).max() > COLOUR_TOLERANCE:
        raise Unsupported(
            "The picture has colours: a photograph, or a screenshot with colour in it.",
            "Export the image itself, without marks, as a grey picture; better, scan the DICOM files.",
        )
    remarks = (
        [] if page.mode == "LA" else ["The picture was stored in colour; it is grey in truth and was read as such."]
    )
    if alpha.min() < 255:
        remarks.append("The picture is partly transparent; the transparency was ignored.")
    return channels[..., 1], tuple(remarks)
