"""A MetaImage file (.mha, or .mhd with its .raw or .zraw) → the decoded volume.

Source: the MetaIO documentation (https://itk.org/Wiki/MetaIO/Documentation). A text header of `Key = Value` lines ends
with ElementDataFile; the voxels follow it (LOCAL) or lie in the file that it names, which must be in the same folder.
Positions are LPS, as ITK reads them; each row of TransformMatrix is the direction of one axis (i, then j, then k).
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np

from jachai.core.errors import Damaged, NotAnImage, Unreadable, Unsupported
from jachai.core.geometry import FloatArray, Geometry
from jachai.core.volume import Modality
from jachai.io.modality import cover_padding, guess_modality
from jachai.io.placement import place
from jachai.io.rawvoxels import (
    COPY_AGAIN,
    TRUNCATED,
    Inflating,
    Layout,
    check_shape,
    check_unpacked,
    fill,
)
from jachai.io.reader import Allocate, Decoded

MAX_HEADER = 2**16
"""Longest text header that is read; real ones have about 500 bytes."""
LAST_KEY = "ElementDataFile"
LOCAL = "LOCAL"
DTYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
"""ElementType → numpy type (metaTypes.h: a MET_LONG has four bytes)."""
MODALITIES = {"MET_MOD_CT": Modality.CT, "MET_MOD_MR": Modality.MR}
OTHER_MODALITIES = ("MET_MOD_NM", "MET_MOD_US")
ALIASES = {
    "Position": "Offset",
    "Origin": "Offset",
    "Rotation": "TransformMatrix",
    "Orientation": "TransformMatrix",
    "ElementByteOrderMSB": "BinaryDataByteOrderMSB",
}


@dataclass(frozen=True, slots=True)
class _Header:
    """keys: as written, aliases resolved. size: bytes of the text header. data_file: None for LOCAL."""

    keys: dict[str, str]
    size: int
    data_file: str | None

    def flag(self, key: str) -> bool:
        """A True/False value; False if absent."""
        return self.keys.get(key, "False").lower() in ("true", "1", "t", "y", "yes")

    def numbers(self, key: str, count: int) -> FloatArray | None:
        """The `count` numbers of a key, None if absent. Raises Damaged."""
        if key not in self.keys:
            return None
        try:
            values = np.array([float(word) for word in self.keys[key].split()], dtype=np.float64)
        except ValueError:
            values = np.empty(0)
        if len(values) != count:
            raise Damaged(f"{key} of the MetaImage header does not hold {count} numbers.", COPY_AGAIN)
        return values

    def integer(self, key: str, default: int) -> int:
        """The integer of a key. Raises Damaged."""
        try:
            return int(self.keys.get(key, default))
        except ValueError as error:
            raise Damaged(f"{key} of the MetaImage header is not an integer.", COPY_AGAIN) from error


class MetaImageReader:
    """`FormatReader` of MetaImage: 2-D and 3-D, integers and floats, plain or zlib, one channel."""

    name = "MetaImage"

    def claims(self, path: Path, head: bytes) -> bool:
        """By the ending .mhd or .mha, or by the first key of the header."""
        return path.suffix.lower() in (".mhd", ".mha") or head.replace(b" ", b"").startswith(b"ObjectType=Image")

    def read(self, path: Path, allocate: Allocate) -> list[Decoded]:
        """The one volume of the file. Raises an `Unreadable` error with reason and remedy."""
        header = _read_header(path)
        _check_kind(header)
        shape_kji = _shape(header)
        layout = _layout(header, shape_kji)
        data_path = path if header.data_file is None else _data_path(path, header.data_file)
        start, stored_bytes = _extent(header, layout, data_path)
        check_shape(shape_kji)
        n_dims = header.integer("NDims", 0)
        affine, assumed = _affine(header, n_dims)
        placement = place(shape_kji, affine)
        voxels = allocate(shape_kji)
        with data_path.open("rb") as file:
            file.seek(start)
            stream = Inflating(file) if header.flag("CompressedData") else file
            warning = fill(stream, layout, placement.as_stored(voxels))
            notes = stream.rest() if isinstance(stream, Inflating) else _trailing(stored_bytes - layout.n_bytes)
        modality, guess = _modality(header, voxels)
        padding = cover_padding(voxels) if modality is Modality.CT else None
        return [
            Decoded(
                voxels=voxels,
                modality=modality,
                geometry=replace(placement.geometry, thickness_mm=None) if n_dims == 2 else placement.geometry,
                step=layout.step,
                attributes={"data_type": layout.dtype.name},
                notes=notes if padding is None else (*notes, padding),
                warnings=tuple(text for text in (*assumed, *placement.warnings, guess, warning) if text),
            )
        ]


METAIMAGE = MetaImageReader()


def companion(path: Path) -> Path | None:
    """The file with the voxels of an .mhd; None if they are in `path` itself, or the header is bad or points outside."""
    try:
        header = _read_header(path)
        return None if header.data_file is None else _data_path(path, header.data_file)
    except (Unreadable, OSError):
        return None


def geometry_of(path: Path) -> tuple[tuple[int, int, int], Geometry]:
    """Shape (k, j, i) and geometry from the text header alone, as `read` would give them. Raises an `Unreadable` error."""
    header = _read_header(path)
    shape_kji = _shape(header)
    affine, _ = _affine(header, header.integer("NDims", 0))
    return shape_kji, place(shape_kji, affine).geometry


def _read_header(path: Path) -> _Header:
    with path.open("rb") as file:
        head = file.read(MAX_HEADER)
    keys: dict[str, str] = {}
    at = 0
    while (end := head.find(b"\n", at)) >= 0 or at < len(head):
        end = len(head) if end < 0 else end
        key, equals, value = head[at:end].partition(b"=")
        if not equals:
            break
        at = end + 1
        name = key.strip().decode("latin-1")
        keys[ALIASES.get(name, name)] = os.fsdecode(value.strip())
        if name == LAST_KEY:
            data_file = keys[name]
            return _Header(keys, at, None if data_file.upper() == LOCAL else data_file)
    if "NDims" in keys:
        raise Damaged("The MetaImage header ends before it names its data (ElementDataFile).", COPY_AGAIN)
    raise NotAnImage("The file does not begin with a MetaImage header.", "Check what the file is.")


def _check_kind(header: _Header) -> None:
    """Raises Unsupported for valid files of a kind that is not read."""
    if header.keys.get("ObjectType", "Image") != "Image":
        raise Unsupported("The MetaIO object is not an image.", "Scan an image instead.")
    if header.integer("ElementNumberOfChannels", 1) != 1:
        raise Unsupported(
            "Each voxel has several values (colours or vectors), not one grey value.", "Split the channels."
        )
    if header.keys.get("BinaryData", "True").lower() in ("false", "0"):
        raise Unsupported("The voxels are stored as text.", "Save the image with binary data.")
    if header.keys.get("Modality") in OTHER_MODALITIES:
        raise Unsupported("The image is neither CT nor MR.", "Jachai examines CT and MR.")
    data_file = header.data_file or ""
    if data_file.upper().startswith("LIST") or "%" in data_file or (len(data_file.split()) > 1 and "%" in data_file):
        raise Unsupported("The slices lie in a list of files.", "Convert the image to one .mha file.")


def _shape(header: _Header) -> tuple[int, int, int]:
    """(k, j, i); k = 1 for a 2-D image."""
    n_dims = header.integer("NDims", 0)
    if n_dims in (1, *range(4, 11)):
        raise Unsupported(f"The image has {n_dims} dimensions; 2 and 3 are read.", "Save one 3-D image per file.")
    if n_dims not in (2, 3):
        raise Damaged("The MetaImage header does not state its number of dimensions (NDims).", COPY_AGAIN)
    sizes = header.numbers("DimSize", n_dims)
    if sizes is None or not np.isfinite(sizes).all() or (sizes != np.floor(sizes)).any() or sizes.min() < 1:
        raise Damaged("The MetaImage header does not state whole, positive sizes (DimSize).", COPY_AGAIN)
    i, j, k = (int(size) for size in (*sizes, 1)[:3])
    return k, j, i


def _layout(header: _Header, shape_kji: tuple[int, int, int]) -> Layout:
    kind = header.keys.get("ElementType", "")
    if kind not in DTYPES:
        if kind.startswith("MET_"):
            raise Unsupported(
                "The voxels have an element type that is not read.", "Convert to 16-bit integers or floats."
            )
        raise Damaged("The MetaImage header does not state the type of its voxels (ElementType).", COPY_AGAIN)
    order = ">" if header.flag("BinaryDataByteOrderMSB") else "<"
    slope = header.numbers("ElementToIntensityFunctionSlope", 1)
    offset = header.numbers("ElementToIntensityFunctionOffset", 1)
    scale = (1.0 if slope is None else float(slope[0]), 0.0 if offset is None else float(offset[0]))
    if not np.isfinite(scale).all() or scale[0] == 0:
        raise Damaged("The scaling of the voxel values is zero or not a number.", COPY_AGAIN)
    return Layout(shape_kji, np.dtype(order + DTYPES[kind]), *scale)


def _data_path(path: Path, name: str) -> Path:
    """The file next to `path` that its header names. Raises Unsupported if it lies elsewhere, Damaged if it is missing."""
    remedy = "Put the data file next to the header and name it there without a folder."
    windows = PureWindowsPath(name)
    if windows.drive or windows.root or PurePosixPath(name).is_absolute() or "\0" in name:
        raise Unsupported("The header names a data file outside its own folder.", remedy)
    data_path = path.parent / Path(*windows.parts)
    try:
        inside = data_path.resolve().is_relative_to(path.parent.resolve())
        regular = data_path.is_file()
    except (OSError, RuntimeError):  # a loop of links is an OSError or a RuntimeError, by Python's version
        inside, regular = True, False
    if not inside:
        raise Unsupported("The header names a data file outside its own folder.", remedy)
    if not regular:
        raise Damaged("The data file that the header names is missing or not a regular file.", remedy)
    return data_path


def _extent(header: _Header, layout: Layout, data_path: Path) -> tuple[int, int]:
    """(start, length) in bytes of the stored voxels, with all that follows them. Raises Damaged or LimitExceeded."""
    with data_path.open("rb") as file:
        file_bytes = file.seek(0, io.SEEK_END)
    packed = header.flag("CompressedData")
    start = header.size if header.data_file is None else 0
    skip = header.integer("HeaderSize", 0)
    if skip == -1 and not packed:
        start = file_bytes - layout.n_bytes
    elif skip > 0:
        start += skip
    elif skip < 0:
        raise Damaged("The MetaImage header states an impossible HeaderSize.", COPY_AGAIN)
    stored_bytes = file_bytes - start
    if start < 0 or stored_bytes < header.integer("CompressedDataSize", 0) * packed:
        raise Damaged(TRUNCATED, COPY_AGAIN)
    if packed:
        check_unpacked(layout.n_bytes, stored_bytes)
    elif stored_bytes < layout.n_bytes:
        raise Damaged(f"{TRUNCATED} It has {stored_bytes:,} of {layout.n_bytes:,} bytes.", COPY_AGAIN)
    return start, stored_bytes


def _affine(header: _Header, n_dims: int) -> tuple[FloatArray, tuple[str, ...]]:
    """The (4, 4) affine from stored (i, j, k, 1) to LPS mm, and what had to be assumed. Raises Damaged."""
    spacing = header.numbers("ElementSpacing", n_dims)
    if spacing is None:
        spacing = header.numbers("ElementSize", n_dims)
    if spacing is None or not (np.isfinite(spacing).all() and (spacing > 0).all()):
        raise Damaged("The voxel spacing is missing, zero, negative or not a number.", COPY_AGAIN)
    directions = header.numbers("TransformMatrix", n_dims * n_dims)
    offset = header.numbers("Offset", n_dims)
    assumed = []
    if directions is None:
        assumed.append(
            "The file states no direction: rows to the back, columns to the left, slices to the head assumed."
        )
    if offset is None:
        assumed.append("The file states no position: the first voxel was put at the origin.")
    affine = np.eye(4)
    unit = np.eye(n_dims) if directions is None else directions.reshape(n_dims, n_dims)
    affine[:n_dims, :n_dims] = unit.T * spacing
    affine[:n_dims, 3] = 0 if offset is None else offset
    return affine, tuple(assumed)


def _modality(header: _Header, voxels: np.ndarray) -> tuple[Modality, str | None]:
    stated = MODALITIES.get(header.keys.get("Modality", ""))
    return (stated, None) if stated is not None else guess_modality(voxels)


def _trailing(left_bytes: int) -> tuple[str, ...]:
    return (f"{left_bytes:,} bytes follow the image; they were not read.",) if left_bytes > 0 else ()
