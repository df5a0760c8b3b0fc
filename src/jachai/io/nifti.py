"""A NIfTI file (.nii, .nii.gz; NIfTI-1 or -2, either byte order) → decoded volumes.

Source: https://nifti.nimh.nih.gov/nifti-1 (nifti1.h) and nifti2.h. nibabel parses the header and the affine; the voxels
are read here, slice by slice, so that no more is unpacked than the header's arithmetic allows. NIfTI positions are RAS;
x and y change sign to LPS. Array axis 2 is k, as stored; `io.placement` says what happens to mirrored arrays.
"""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from jachai.core.errors import Damaged, NotAnImage, Unsupported
from jachai.core.geometry import FloatArray
from jachai.core.volume import Modality, Voxels
from jachai.io.marks import NOTE, is_marked
from jachai.io.modality import cover_padding, guess_modality
from jachai.io.placement import Placement, place
from jachai.io.rawvoxels import (
    COPY_AGAIN,
    GZIP_MAGIC,
    TRUNCATED,
    ZLIB_OR_GZIP,
    Inflating,
    Layout,
    Stream,
    check_shape,
    check_unpacked,
    fill,
    read_exactly,
)
from jachai.io.reader import Allocate, Decoded

HEADER_BYTES = {1: 348, 2: 540}
"""sizeof_hdr by version; it tells the version and the byte order."""
MAGIC_PAIR = (b"ni1", b"ni2")
MAGIC_SINGLE = (b"n+1", b"n+2")
MAX_OFFSET = 64 * 2**20
"""Largest header with extensions that is skipped."""
MAX_VOLUMES = 64
MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
"""xyzt_units & 7: unknown (taken for mm, as everybody does), m, mm, µm."""
DTYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8",
}  # fmt: skip
"""NIfTI datatype code → numpy type."""
OTHER_TYPES = {
    1: "one bit per voxel", 32: "complex numbers", 128: "colours (RGB)", 1536: "128-bit floats",
    1792: "complex numbers", 2048: "complex numbers", 2304: "colours (RGBA)",
}  # fmt: skip
DISAGREE_MM = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """What the header says, checked: everything needed to read the voxels."""

    version: int
    layout: Layout
    n_volumes: int
    offset: int
    placement: Placement
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    attributes: dict[str, str]

    @property
    def n_bytes(self) -> int:
        """Unpacked size that the file must have at least."""
        return self.offset + self.layout.n_bytes * self.n_volumes


class NiftiReader:
    """`FormatReader` of NIfTI: every 3-D volume of a file, up to 64; integers, floats, scl_slope and scl_inter."""

    name = "NIfTI"

    def claims(self, path: Path, head: bytes) -> bool:
        """By the ending .nii or .nii.gz, or by header size and magic, also within gzip."""
        if path.name.lower().endswith((".nii", ".nii.gz")):
            return True
        if head.startswith(GZIP_MAGIC):
            head = _start_of_gzip(head)
        kind = _kind(head)
        return kind is not None and (_magic(head, kind[0]).startswith(b"n") or path.suffix.lower() == ".hdr")

    def read(self, path: Path, allocate: Allocate) -> list[Decoded]:
        """Every volume of the file. Raises an `Unreadable` error with reason and remedy."""
        with path.open("rb") as file:
            packed = file.read(2) == GZIP_MAGIC
            file_bytes = file.seek(0, io.SEEK_END)
            file.seek(0)
            if file_bytes == 0:
                raise Damaged("The file is empty.", COPY_AGAIN)
            stream = Inflating(file) if packed else file
            plan = _plan(stream, file_bytes)
            read_exactly(stream, plan.offset - HEADER_BYTES[plan.version])  # extensions, at most MAX_OFFSET bytes
            filled = [_volume(stream, plan, allocate(plan.layout.shape_kji)) for _ in range(plan.n_volumes)]
            notes = (*plan.notes, *_after(stream, file_bytes - plan.n_bytes))
        return _decoded(plan, filled, notes)


NIFTI = NiftiReader()


def _start_of_gzip(head: bytes) -> bytes:
    try:
        return zlib.decompressobj(ZLIB_OR_GZIP).decompress(head, HEADER_BYTES[2])
    except zlib.error:
        return b""


def _kind(head: bytes) -> tuple[int, str] | None:
    """First four bytes → (version, byte order '<' or '>'), None if it is no NIfTI header."""
    for order, name in (("<", "little"), (">", "big")):
        for version, size in HEADER_BYTES.items():
            if head[:4] == size.to_bytes(4, "little" if name == "little" else "big"):
                return version, order
    return None


def _magic(head: bytes, version: int) -> bytes:
    return head[344:347] if version == 1 else head[4:7]


def _plan(stream: Stream, file_bytes: int) -> _Plan:
    """Read the header and check it against the size of the file. Raises an `Unreadable` error."""
    head = read_exactly(stream, HEADER_BYTES[1])
    kind = _kind(head)
    if kind is None:
        raise NotAnImage("The file does not begin with a NIfTI header.", "Check what the file is.")
    version, order = kind
    head += read_exactly(stream, HEADER_BYTES[version] - len(head))
    _check_magic(_magic(head, version))
    make: Any = nib.Nifti1Header if version == 1 else nib.Nifti2Header
    header = make(head, endianness=order, check=False)
    shape_kji, n_volumes = _shape(header)
    layout = _layout(header, shape_kji, order)
    offset = _offset(header, version)
    _check_size(offset + layout.n_bytes * n_volumes, file_bytes, packed=isinstance(stream, Inflating))
    check_shape(shape_kji, n_volumes)
    affine_lps, warnings, notes = _affine(header)
    placement = place(shape_kji, affine_lps)
    if int(header["bitpix"]) != 8 * layout.dtype.itemsize:
        notes = (*notes, "The header states a voxel size (bitpix) that does not belong to its data type.")
    if is_marked(bytes(header["descrip"]).decode("latin-1")):
        notes = (*notes, NOTE)
    return _Plan(
        version=version,
        layout=layout,
        n_volumes=n_volumes,
        offset=offset,
        placement=placement,
        notes=notes,
        warnings=(*warnings, *placement.warnings),
        attributes={"version": f"NIfTI-{version}", "data_type": layout.dtype.name},
    )


def _check_magic(magic: bytes) -> None:
    if magic in MAGIC_SINGLE:
        return
    if magic in MAGIC_PAIR or not magic.strip(b"\0"):  # no magic at all: Analyze 7.5, whose header has the same size
        raise Unsupported("Header and image lie in two files (.hdr and .img).", "Convert the scan to one .nii file.")
    raise Damaged("The NIfTI header lacks its mark ('n+1' or 'n+2').", COPY_AGAIN)


def _shape(header: Any) -> tuple[tuple[int, int, int], int]:
    """((k, j, i), number of volumes), checked but for the total size."""
    dim = [int(size) for size in header["dim"]]
    if not 1 <= dim[0] <= 7:
        raise Damaged(f"The header states {dim[0]} dimensions; NIfTI has 1 to 7.", COPY_AGAIN)
    sizes = dim[1 : dim[0] + 1] + [1] * (7 - dim[0])
    if min(sizes) < 1:
        raise Damaged("The header states a size of zero or less.", COPY_AGAIN)
    if max(sizes[4:]) > 1:
        raise Unsupported(
            "The image has more than four dimensions (vectors or statistics).", "Scan a 3-D scan instead."
        )
    if sizes[3] > MAX_VOLUMES:
        raise Unsupported(
            f"The file holds {sizes[3]} volumes; at most {MAX_VOLUMES} are read.", "Split it and scan the parts."
        )
    if dim[0] < 2:
        raise Unsupported("The image has one dimension only.", "Scan a 2-D or 3-D image.")
    return (sizes[2], sizes[1], sizes[0]), sizes[3]


def _layout(header: Any, shape_kji: tuple[int, int, int], order: str) -> Layout:
    code = int(header["datatype"])
    if code in OTHER_TYPES:
        raise Unsupported(
            f"The voxels are {OTHER_TYPES[code]}, not grey values.", "Convert to 16-bit integers or floats."
        )
    if code not in DTYPES:
        raise Damaged(f"The header states the unknown data type {code}.", COPY_AGAIN)
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or np.isnan(slope):  # nifti1.h: slope 0 means no scaling; nibabel writes NaN for it
        slope, intercept = 1.0, 0.0
    if not (np.isfinite(slope) and np.isfinite(intercept)):
        raise Damaged("The scaling of the voxel values (scl_slope, scl_inter) is not a number.", COPY_AGAIN)
    return Layout(shape_kji, np.dtype(order + DTYPES[code]), slope, intercept)


def _offset(header: Any, version: int) -> int:
    offset = float(header["vox_offset"])
    first = HEADER_BYTES[version]
    if not np.isfinite(offset) or (offset and offset < first) or offset > MAX_OFFSET:
        raise Damaged("The header states an impossible start of the image (vox_offset).", COPY_AGAIN)
    return int(offset) or first + 4  # nifti1.h: four extension bytes follow the header


def _affine(header: Any) -> tuple[FloatArray, tuple[str, ...], tuple[str, ...]]:
    """The (4, 4) affine from stored (i, j, k, 1) to LPS mm, warnings, notes. sform before qform before pixdim alone."""
    unit = MM_PER_UNIT.get(int(header["xyzt_units"]) & 7)
    if unit is None:
        raise Damaged("The header states an unknown unit of length.", COPY_AGAIN)
    if not header["pixdim"][0]:
        header["pixdim"][0] = 1  # nifti1.h: qfac 0 is to be read as 1
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    sform, qform = header["sform_code"] > 0, header["qform_code"] > 0
    if sform:
        affine = np.asarray(header.get_sform(), dtype=np.float64)
        if qform and _disagree(affine, header):
            notes = ("The two positions that the header states (sform, qform) differ; the first was taken.",)
    elif qform:
        affine = _qform(header)
    else:
        affine = np.diag([*_pixdim(header), 1.0])
        warnings = (
            "The file states its voxel spacing, but neither position nor direction: taken for right, front, up.",
        )
    ras_to_lps = np.array([[-unit], [-unit], [unit], [1.0]])
    return affine * ras_to_lps, warnings, notes


def _pixdim(header: Any) -> list[float]:
    spacing = [float(size) for size in header["pixdim"][1:4]]
    if not all(np.isfinite(size) and size > 0 for size in spacing):
        raise Damaged("The voxel spacing (pixdim) is zero, negative or not a number.", COPY_AGAIN)
    return spacing


def _qform(header: Any) -> FloatArray:
    _pixdim(header)
    try:
        return np.asarray(header.get_qform(), dtype=np.float64)
    except (HeaderDataError, ValueError, FloatingPointError) as error:
        raise Damaged("The direction of the image (its quaternion) is impossible.", COPY_AGAIN) from error


def _disagree(affine: FloatArray, header: Any) -> bool:
    """Does the qform put a corner of the image more than 1 mm from where `affine` puts it?"""
    try:
        other = _qform(header)
    except Damaged:
        return True
    sizes = [max(1, int(size)) - 1 for size in header["dim"][1:4]]
    corners = np.array([[*np.array(sizes) * corner, 1] for corner in np.ndindex(2, 2, 2)], dtype=np.float64)
    with np.errstate(all="ignore"):
        return not bool(np.all(np.abs(corners @ (affine - other).T) <= DISAGREE_MM))


def _check_size(needed: int, file_bytes: int, packed: bool) -> None:
    """Can the file hold the bytes that its header promises?"""
    if packed:
        check_unpacked(needed, file_bytes)
    elif file_bytes < needed:
        raise Damaged(f"{TRUNCATED} It has {file_bytes:,} of {needed:,} bytes.", COPY_AGAIN)


def _volume(stream: Stream, plan: _Plan, voxels: Voxels) -> tuple[Voxels, str | None]:
    """The next volume of the stream in `voxels`, and a warning."""
    return voxels, fill(stream, plan.layout, plan.placement.as_stored(voxels))


def _after(stream: Stream, left_bytes: int) -> tuple[str, ...]:
    """Notes on what follows the image."""
    if isinstance(stream, Inflating):
        return stream.rest()
    return (f"{left_bytes:,} bytes follow the image; they were not read.",) if left_bytes > 0 else ()


def _decoded(plan: _Plan, filled: list[tuple[Voxels, str | None]], notes: tuple[str, ...]) -> list[Decoded]:
    """All volumes of a file have the modality that the first one looks like."""
    modality, guess = guess_modality(filled[0][0])
    decoded = []
    for voxels, warning in filled:
        padding = cover_padding(voxels) if modality is Modality.CT else None
        decoded.append(
            Decoded(
                voxels=voxels,
                modality=modality,
                geometry=plan.placement.geometry,
                step=plan.layout.step,
                attributes=plan.attributes,
                notes=notes if padding is None else (*notes, padding),
                warnings=(*plan.warnings, guess, *([warning] if warning else [])),
            )
        )
    return decoded
