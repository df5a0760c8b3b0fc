"""One DICOM instance → its fingerprint at five levels, F0 to F4, as checked values ⇄ JSON between child and parent.

F0 the bytes as received · F1 the attributes that no archive may change · F2 the stored pixels · F3 pixels with rescale
and geometry · F4 blocks. The series root is over all instances and their positions. `docs/reference/ledger.md` states
every hash to the byte.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from jachai.core.errors import Unreadable
from jachai.io.dicom_header import MAX_FRAMES, MAX_SIDE, Vector, number_from_json
from jachai.ledger.blocks import BLOCK, Blocks, check_count, grid
from jachai.ledger.digests import ATTRIBUTE_BYTES, DIGEST_BYTES, keyed

ATTRIBUTE_ROW = 4 + ATTRIBUTE_BYTES
MAX_ATTRIBUTES = 10_000
LEVELS = ("f0", "f1", "f2", "f3", "f4")


@dataclass(frozen=True, slots=True)
class FramePlace:
    """Where a slice lies and what its stored values mean: see `io.dicom_header.FrameHeader`."""

    position_mm: Vector
    row_step: Vector
    column_step: Vector
    slope: float
    intercept: float

    def to_json(self) -> dict[str, Any]:
        """Plain types only."""
        return {
            "position_mm": list(self.position_mm),
            "row_step": list(self.row_step),
            "column_step": list(self.column_step),
            "slope": self.slope,
            "intercept": self.intercept,
        }

    def line(self) -> str:
        """The text that F3 is taken of: lengths to 10 nm, rescale to ten digits."""
        lengths = (*self.position_mm, *self.row_step, *self.column_step)
        texts = [f"{round(length, 5) + 0.0:.5f}" for length in lengths]
        return " ".join([*texts, f"{self.slope + 0.0:.10g}", f"{self.intercept + 0.0:.10g}"])


@dataclass(frozen=True, slots=True)
class PixelForm:
    """How the pixels are stored, as far as it changes their meaning (PS3.3 C.7.6.3)."""

    rows: int
    columns: int
    frames: int
    bits_stored: int
    signed: bool
    photometric: str

    def line(self) -> str:
        """The text that F2 begins with."""
        sign = "signed" if self.signed else "unsigned"
        return f"{self.rows} {self.columns} {self.frames} {self.bits_stored} {sign} {self.photometric}\n"


@dataclass(frozen=True, slots=True, eq=False)
class Fingerprint:
    """An instance. uid, series: keyed hashes of its SOP and Series Instance UID. f0…f4: 32 bytes each.

    attributes: tag → keyed hash (F1's parts). blocks: (frames, down, across) of `blocks.BLOCK` (F4's parts).
    lossy: the file says of itself that it was compressed with loss.
    """

    uid: bytes
    series: bytes
    modality: str
    form: PixelForm
    frames: tuple[FramePlace, ...]
    attributes: Mapping[int, bytes]
    blocks: Blocks
    lossy: bool
    transfer_syntax: str
    f0: bytes
    f1: bytes
    f2: bytes
    f3: bytes
    f4: bytes

    def root(self, secret: bytes) -> bytes:
        """What stands in the log for this instance."""
        return instance_root(secret, (self.f0, self.f1, self.f2, self.f3, self.f4))

    def to_json(self) -> dict[str, Any]:
        """Plain types only."""
        return {
            **{name: getattr(self, name).hex() for name in ("uid", "series", *LEVELS)},
            "modality": self.modality,
            "form": asdict(self.form),
            "frames": [frame.to_json() for frame in self.frames],
            "attributes": pack_attributes(self.attributes).hex(),
            "blocks": base64.b64encode(self.blocks.tobytes()).decode("ascii"),
            "lossy": self.lossy,
            "transfer_syntax": self.transfer_syntax,
        }


def instance_root(secret: bytes, levels: Iterable[bytes]) -> bytes:
    """H("instance", F0 … F4)."""
    return keyed(secret, "instance", b"".join(levels))


def attributes_digest(secret: bytes, attributes: Mapping[int, bytes]) -> bytes:
    """F1: H("attributes", tag and hash of each attribute by rising tag)."""
    return keyed(secret, "attributes", pack_attributes(attributes))


def pixels_digest(secret: bytes, form: PixelForm, frame_digests: Iterable[bytes]) -> bytes:
    """F2: H("pixels", the form's line, then H("frame", samples) of each frame)."""
    return keyed(secret, "pixels", form.line().encode("ascii") + b"".join(frame_digests))


def geometry_digest(secret: bytes, f2: bytes, frames: Iterable[FramePlace]) -> bytes:
    """F3: H("geometry", F2, then the line of each frame)."""
    return keyed(secret, "geometry", f2 + "".join(frame.line() + "\n" for frame in frames).encode("ascii"))


def blocks_digest(secret: bytes, blocks: Blocks) -> bytes:
    """F4: H("blocks", all blocks as they are stored)."""
    return keyed(secret, "blocks", blocks.tobytes())


def series_root(secret: bytes, members: Iterable[tuple[tuple[FramePlace, ...], bytes]]) -> bytes:
    """H("series", …) of (frames, instance root): of each instance the line of its first frame and its root, sorted."""
    parts = sorted((frames[0].line().encode("ascii"), root) for frames, root in members)
    return keyed(secret, "series", b"".join(line + b"\n" + root for line, root in parts))


def pack_attributes(attributes: Mapping[int, bytes]) -> bytes:
    """Tag (4 bytes, big endian) and hash (16 bytes) of each, by rising tag."""
    return b"".join(tag.to_bytes(4, "big") + attributes[tag] for tag in sorted(attributes))


def unpack_attributes(packed: bytes) -> dict[int, bytes]:
    """The inverse. Raises ValueError."""
    if len(packed) % ATTRIBUTE_ROW or len(packed) > MAX_ATTRIBUTES * ATTRIBUTE_ROW:
        raise ValueError("not a list of attributes")
    rows = [packed[n : n + ATTRIBUTE_ROW] for n in range(0, len(packed), ATTRIBUTE_ROW)]
    return {int.from_bytes(row[:4], "big"): row[4:] for row in rows}


def fingerprint_from_json(value: object) -> Fingerprint:
    """Check every value that a child sent. Raises ValueError for the first that is not what it should be."""
    item = _object(value)
    form = _form(_object(item.get("form")))
    frames = item.get("frames")
    if not isinstance(frames, list) or len(frames) != form.frames:
        raise ValueError("not one place for each frame")
    try:
        check_count(form.frames, form.rows, form.columns)
    except Unreadable as error:
        raise ValueError("too many blocks") from error
    return Fingerprint(
        **{name: _digest(item.get(name)) for name in ("uid", "series", *LEVELS)},
        modality=_word(item.get("modality")),
        form=form,
        frames=tuple(frame_from_json(frame) for frame in frames),
        attributes=unpack_attributes(bytes.fromhex(_word(item.get("attributes"), 2 * MAX_ATTRIBUTES * ATTRIBUTE_ROW))),
        blocks=unpack_blocks(base64.b64decode(_word(item.get("blocks"), 2**26), validate=True), form),
        lossy=item.get("lossy") is True,
        transfer_syntax=_word(item.get("transfer_syntax")),
    )


def unpack_blocks(packed: bytes, form: PixelForm) -> Blocks:
    """(frames, down, across) of BLOCK. Raises ValueError if the length does not fit or a moment is not finite."""
    blocks = np.frombuffer(packed, BLOCK).reshape(form.frames, *grid(form.rows, form.columns))
    if not (np.isfinite(blocks["mean"]).all() and np.isfinite(blocks["variance"]).all()):
        raise ValueError("a mean or variance is not finite")
    return blocks


def frame_from_json(value: object) -> FramePlace:
    """Raises ValueError."""
    item = _object(value)
    return FramePlace(
        position_mm=_vector(item.get("position_mm")),
        row_step=_vector(item.get("row_step")),
        column_step=_vector(item.get("column_step")),
        slope=number_from_json(item.get("slope")),
        intercept=number_from_json(item.get("intercept")),
    )


def _form(item: Mapping[str, Any]) -> PixelForm:
    form = PixelForm(
        rows=_whole(item.get("rows"), MAX_SIDE),
        columns=_whole(item.get("columns"), MAX_SIDE),
        frames=_whole(item.get("frames"), MAX_FRAMES),
        bits_stored=_whole(item.get("bits_stored"), 32),
        signed=item.get("signed") is True,
        photometric=_word(item.get("photometric")),
    )
    if form.photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise ValueError("not grey")
    return form


def _vector(value: object) -> Vector:
    if not isinstance(value, list) or len(value) != 3:
        raise ValueError("not three numbers")
    x, y, z = (number_from_json(c) for c in value)
    if not all(math.isfinite(c) for c in (x, y, z)):
        raise ValueError("not finite")
    return x, y, z


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _digest(value: object) -> bytes:
    data = bytes.fromhex(_word(value))
    if len(data) != DIGEST_BYTES:
        raise ValueError("not a digest")
    return data


def _word(value: object, longest: int = 128) -> str:
    if not isinstance(value, str) or len(value) > longest or not value.isprintable():
        raise ValueError("not a text that can be shown")
    return value


def _whole(value: object, most: int) -> int:
    if type(value) is not int or not 1 <= value <= most:
        raise ValueError("not a whole number, or out of range")
    return value
