"""A DICOM file → its FileHeader, and its frames → voxels in HU (CT) or stored × slope (MR). Confined child only."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom import config, uid
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from jachai.core.errors import Damaged, LimitExceeded, NotAnImage
from jachai.core.volume import AIR_HU, Modality, Voxels
from jachai.io import pixels
from jachai.io.confined import plain_text
from jachai.io.dicom_fields import modality_of, pixel_digest, read_header, refuse_unwanted
from jachai.io.dicom_header import FileHeader
from jachai.io.marks import CREATOR, NOTE, PRIVATE_GROUP, RECORD_ELEMENT, is_marked
from jachai.io.pixels import COPY_AGAIN, PixelFormat, Samples

config.settings.reading_validation_mode = config.IGNORE  # we check what we use, and name it; this process only reads
MAGIC = b"DICM"
PREAMBLE_BYTES = 128
MAX_INFLATED_BYTES = 512 * 2**20
"""Longest deflated data set: pydicom holds it twice."""
MAX_DEPTH = 24
"""Deepest nesting of sequences: enhanced objects and structured reports stay below 12."""
EXECUTABLES = (b"MZ", b"\x7fELF", b"#!", b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe", b"\xca\xfe\xba\xbe")
"""Windows, Linux, script, macOS."""
TISSUE_HU = (-500.0, 10_000.0)
"""A padding value within it would be taken for tissue: it is not believed."""


def looks_like_dicom(head: bytes) -> bool:
    """By the first 132 bytes: the magic word, or a plausible first element of group 0002 or 0008 without a preamble."""
    if head[PREAMBLE_BYTES : PREAMBLE_BYTES + 4] == MAGIC:
        return True
    if len(head) < 12 or head[:4] not in _FIRST_TAGS:
        return False
    return head[4:6] in (b"UL", b"CS", b"UI", b"OB", b"DA", b"SH") or int.from_bytes(head[4:8], "little") <= 128


_FIRST_TAGS = {
    group + element
    for group, elements in ((b"\x02\x00", (0x00, 0x01)), (b"\x08\x00", (0x00, 0x01, 0x05, 0x08, 0x12, 0x16, 0x18)))
    for element in (bytes([low, 0]) for low in elements)
}


@dataclass(frozen=True, slots=True, eq=False)
class OpenFile:
    """A parsed and checked data set, its pixels not decoded."""

    data_set: Dataset
    image: PixelFormat
    modality: Modality
    notes: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Of the stored pixels."""
        return pixel_digest(self.data_set)


def open_file(path: Path) -> OpenFile:
    """Parse a file and check that it is a CT or MR image whose sizes agree. Raises an Unreadable error."""
    with path.open("rb") as file:
        return open_stream(file)


def open_stream(file: BinaryIO) -> OpenFile:
    """The same of a file that is open, or of its bytes in memory."""
    head = file.read(1024)
    _check_deflate(file, head)
    data_set = _parse(file, head)
    notes = _file_notes(data_set, head)
    modality, modality_notes = modality_of(data_set)
    _check_nesting(data_set, 0)
    refuse_unwanted(data_set)
    image = pixels.pixel_format(data_set, _transfer_syntax(data_set))
    pixels.check_pixels(data_set, image)
    return OpenFile(data_set, image, modality, (*notes, *modality_notes))


def inspect(path: Path, key: bytes) -> FileHeader:
    """Everything about a file but its voxels. key: for the hashes of patient and study. Raises an Unreadable error."""
    file = open_file(path)
    notes = [*file.notes, *_padding_notes(file)]
    return read_header(file.data_set, file.image, file.modality, key, notes)


def referenced_files(path: Path) -> list[list[str]]:
    """The file that each record of a DICOMDIR names (PS3.3 F.3.2.2), as path parts; nothing is opened.

    Raises NotAnImage if the file is no index.
    """
    with path.open("rb") as file:
        records = _parse(file, file.read(1024)).get("DirectoryRecordSequence")
    if records is None:
        raise NotAnImage("It is not an index of DICOM files.")
    names = [record.get("ReferencedFileID") for record in records]
    return [[str(part) for part in ([name] if isinstance(name, str) else name)] for name in names if name]


def _parse(file: BinaryIO, head: bytes) -> Dataset:
    file.seek(0)
    try:
        return pydicom.dcmread(file, force=head[PREAMBLE_BYTES : PREAMBLE_BYTES + 4] != MAGIC)
    except InvalidDicomError as error:
        raise NotAnImage("It is not a DICOM file.") from error


def _transfer_syntax(data_set: Dataset) -> str:
    stated = str(data_set.file_meta.get("TransferSyntaxUID", "") or "").strip()
    if stated:
        return stated
    implicit, little = data_set.original_encoding
    if not little:
        return str(uid.ExplicitVRBigEndian)
    return str(uid.ImplicitVRLittleEndian if implicit else uid.ExplicitVRLittleEndian)


def _file_notes(data_set: Dataset, head: bytes) -> list[str]:
    notes = []
    if head[PREAMBLE_BYTES : PREAMBLE_BYTES + 4] != MAGIC:
        notes.append("The file has no DICOM preamble.")
    elif head.startswith(EXECUTABLES):
        notes.append("The preamble holds an executable: never run this file.")
    writer = plain_text(str(data_set.file_meta.get("ImplementationVersionName", "") or ""), 16).strip()
    if writer:
        notes.append(f"Written by {writer}.")
    return [*notes, NOTE] if _says_it_is_simulated(data_set) else notes


def _says_it_is_simulated(data_set: Dataset) -> bool:
    """By the mark in two descriptions, or by the simulator's private block. Nothing of their text is kept."""
    if is_marked(*(str(data_set.get(keyword) or "") for keyword in ("SeriesDescription", "ImageComments"))):
        return True
    blocks = (n for n in range(0x10, 0x100) if _raw_text(data_set, n) == CREATOR)
    return any((PRIVATE_GROUP, (block << 8) + RECORD_ELEMENT) in data_set for block in blocks)


def _raw_text(data_set: Dataset, element: int) -> str:
    """Of the private group, without converting what a stranger may have put there."""
    raw = data_set.get_item((PRIVATE_GROUP, element))
    value = None if raw is None else raw.value
    return (value.decode("latin-1") if isinstance(value, bytes) else str(value)).strip()


def _check_deflate(file: BinaryIO, head: bytes) -> None:
    """Inflate without keeping, to see how much it is. Raises LimitExceeded or Damaged."""
    if uid.DeflatedExplicitVRLittleEndian.encode() not in head or head[132:136] != b"\x02\x00\x00\x00":
        return
    start = PREAMBLE_BYTES + 4 + 12 + int.from_bytes(head[140:144], "little")
    inflater, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
    file.seek(start)
    while not inflater.eof and (chunk := inflater.unconsumed_tail or file.read(2**18)):
        total += len(inflater.decompress(chunk, 2**22))
        if total > MAX_INFLATED_BYTES:
            raise LimitExceeded("It unpacks to more than 512 MiB: a deflate bomb, or too large to read.")
    if not inflater.eof:
        raise Damaged("The deflated part of the file ends early.", COPY_AGAIN)


def _check_nesting(data_set: Dataset, depth: int) -> None:
    """Raises Damaged where sequences nest deeper than any genuine file does."""
    if depth > MAX_DEPTH:
        raise Damaged("The file nests its parts deeper than any genuine file does.")
    for tag in list(data_set.keys()):
        element = data_set.get_item(tag)
        if element is not None and (element.VR or _vr(int(tag))) == "SQ":
            for item in data_set[tag].value or ():
                _check_nesting(item, depth + 1)


def _vr(tag: int) -> str:
    try:
        return dictionary_VR(tag)
    except KeyError:
        return ""


def _padding(data_set: Dataset, image: PixelFormat) -> tuple[int, int] | None:
    """(lowest, highest) stored padding value as the pixels hold it, None if none is stated (PS3.3 C.7.5.1.1.2)."""
    first = data_set.get("PixelPaddingValue")
    if not isinstance(first, int):
        return None
    last = data_set.get("PixelPaddingRangeLimit")
    both = sorted(_as_stored(value, image) for value in (first, last if isinstance(last, int) else first))
    return both[0], both[1]


def _as_stored(value: int, image: PixelFormat) -> int:
    """63536 in a signed image is −2000: headers confuse US and SS."""
    span = 1 << image.bits_allocated
    value %= span
    return value - span if image.signed and value >= span // 2 else value


def _padding_notes(file: OpenFile) -> list[str]:
    padding = _padding(file.data_set, file.image)
    stated = file.data_set.get("PixelPaddingValue")
    if padding is None:
        return [] if stated is None else ["PixelPaddingValue is not a number."]
    if padding[0] != stated and file.data_set.get("PixelPaddingRangeLimit") is None:
        return [f"PixelPaddingValue is written as {stated}, which the pixels hold as {padding[0]}."]
    return []


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """Where a frame goes: (rows, columns) float32, written as stored × slope + intercept."""

    frame: int
    slope: float
    intercept: float
    out: Voxels


def decode(file: OpenFile, targets: list[Target]) -> list[dict[str, Any]]:
    """Fill all targets; for each, what was changed.

    Each result: padded (voxels of the stated padding value), below (CT voxels under −1024 HU, raised to it), lowest
    (the lowest value before that). Raises an Unreadable error.
    """
    by_frame = {target.frame: target for target in targets}
    padding = _padding(file.data_set, file.image)
    done = {
        number: _to_units(samples, by_frame[number], file, padding)
        for number, samples in pixels.decode(file.data_set, file.image, list(by_frame))
    }
    if len(done) != len(by_frame):
        raise Damaged("The file holds fewer frames than its header promises.", COPY_AGAIN)
    return [done[target.frame] for target in targets]


def _to_units(samples: Samples, target: Target, file: OpenFile, padding: tuple[int, int] | None) -> dict[str, Any]:
    out = target.out
    hidden = _padding_mask(samples, padding, target, file.modality)
    if file.image.inverted:
        lowest, highest = file.image.range
        np.subtract(np.float32(lowest + highest), samples, out=out, casting="unsafe")
    else:
        out[...] = samples
    if target.slope != 1.0:
        out *= np.float32(target.slope)
    if target.intercept != 0.0:
        out += np.float32(target.intercept)
    padded = 0
    if hidden is not None:
        padded = int(np.count_nonzero(hidden))
        out[hidden] = AIR_HU if file.modality is Modality.CT else 0.0
    lowest_value = float(out.min())
    below = 0
    if file.modality is Modality.CT and lowest_value < AIR_HU:
        below = int(np.count_nonzero(out < AIR_HU))
        np.maximum(out, np.float32(AIR_HU), out=out)
    return {"padded": padded, "below": below, "lowest": lowest_value}


def _padding_mask(
    samples: Samples, padding: tuple[int, int] | None, target: Target, modality: Modality
) -> npt.NDArray[np.bool_] | None:
    """Where the padding lies; None if there is none, or its value could be tissue."""
    if padding is None:
        return None
    units = sorted(value * target.slope + target.intercept for value in padding)
    if modality is Modality.CT and units[1] > TISSUE_HU[0] and units[0] < TISSUE_HU[1]:
        return None
    return np.asarray((samples >= padding[0]) & (samples <= padding[1]))
