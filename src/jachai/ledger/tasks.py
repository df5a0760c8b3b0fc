"""What a confined child does for the ledger: an untrusted file → its fingerprint, values or signatures; a table."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jachai.core.errors import Damaged, NotAnImage
from jachai.io import dicom, pixels
from jachai.io.child import Desk, Request, Task
from jachai.io.dicom_fields import read_header
from jachai.io.dicom_header import FileHeader
from jachai.io.pixels import PixelFormat
from jachai.io.tasks import ready
from jachai.ledger.attributes import attribute_digests
from jachai.ledger.blocks import blocks_of, check_count
from jachai.ledger.digests import keyed, uid_digest
from jachai.ledger.fingerprint import (
    Fingerprint,
    FramePlace,
    PixelForm,
    attributes_digest,
    blocks_digest,
    geometry_digest,
    pixels_digest,
)
from jachai.ledger.signatures import signature_states

SIGNATURES_TAG = b"\xfa\xff\xfa\xff"
"""Digital Signatures Sequence (FFFA,FFFA), little endian: most files have none, and are not parsed again for it."""


def fingerprint(request: Request, desk: Desk) -> dict[str, Any]:
    """path, secret, trusted → the fingerprint of one CT or MR instance, and what its signatures are worth.

    Its bytes are read once. Raises an Unreadable error.
    """
    secret = bytes.fromhex(request["secret"])
    data = Path(request["path"]).read_bytes()
    found = fingerprint_of(data, secret)
    states = signature_states(data, request["trusted"]) if SIGNATURES_TAG in data else []
    return {"fingerprint": found.to_json(), "signatures": [state.to_json() for state in states]}


def fingerprint_of(data: bytes, secret: bytes) -> Fingerprint:
    """The same of bytes in memory. Raises an Unreadable error."""
    file = _opened(data)
    image = file.image
    form = pixel_form(image)
    check_count(image.frames, image.rows, image.columns)
    header = _header(file)
    frame_digests, blocks = _pixels(file, secret)
    frames = tuple(FramePlace(f.position_mm, f.row_step, f.column_step, f.slope, f.intercept) for f in header.frames)
    attributes = attribute_digests(file.data_set, secret)
    f2 = pixels_digest(secret, form, frame_digests)
    return Fingerprint(
        uid=uid_digest(secret, header.sop_uid),
        series=uid_digest(secret, header.series_uid),
        modality=header.modality.value,
        form=form,
        frames=frames,
        attributes=attributes,
        blocks=blocks,
        lossy=header.lossy,
        transfer_syntax=image.transfer_syntax,
        f0=keyed(secret, "bytes", data),
        f1=attributes_digest(secret, attributes),
        f2=f2,
        f3=geometry_digest(secret, f2, frames),
        f4=blocks_digest(secret, blocks),
    )


def pixel_form(image: PixelFormat) -> PixelForm:
    """What of the pixel format belongs to the meaning of the pixels."""
    photometric = "MONOCHROME1" if image.inverted else "MONOCHROME2"
    return PixelForm(image.rows, image.columns, image.frames, image.bits_stored, image.signed, photometric)


def sample_bytes(samples: npt.NDArray[Any], image: PixelFormat) -> npt.NDArray[Any]:
    """Stored integers as they are hashed: little endian, two's complement, 2 bytes up to 16 bits stored, else 4."""
    width = 2 if image.bits_stored <= 16 else 4
    return np.ascontiguousarray(samples, f"<{'i' if image.signed else 'u'}{width}")


def _opened(data: bytes) -> dicom.OpenFile:
    if not dicom.looks_like_dicom(data[:512]):
        raise NotAnImage("It is not a DICOM file; the ledger keeps DICOM only.", "Record the DICOM files.")
    return dicom.open_stream(BytesIO(data))


def _header(file: dicom.OpenFile) -> FileHeader:
    return read_header(file.data_set, file.image, file.modality, b"", [])


def _pixels(file: dicom.OpenFile, secret: bytes) -> tuple[list[bytes], npt.NDArray[Any]]:
    """The digest of each frame, and the blocks of all."""
    digests, blocks = [], []
    for number, samples in pixels.decode(file.data_set, file.image, list(range(file.image.frames))):
        stored = sample_bytes(samples, file.image)
        digests.append(keyed(secret, "frame", stored.tobytes()))
        blocks.append(blocks_of(stored, number, secret))
    if len(blocks) != file.image.frames:
        raise Damaged("The file holds fewer frames than its header promises.", pixels.COPY_AGAIN)
    return digests, np.stack(blocks)


def units(request: Request, desk: Desk) -> dict[str, Any]:
    """path → every frame as stored × slope + intercept, nothing clipped or hidden, in memory that the parent gives."""
    file = _opened(Path(request["path"]).read_bytes())
    image, header = file.image, _header(file)
    out = desk.allocate((image.frames, image.rows, image.columns))
    for number, samples in pixels.decode(file.data_set, image, list(range(image.frames))):
        frame = header.frames[number]
        out[number] = samples * np.float64(frame.slope) + frame.intercept
    return {"shape": [image.frames, image.rows, image.columns]}


TASKS: Mapping[str, Task] = {task.__name__: task for task in (ready, fingerprint, units)}
