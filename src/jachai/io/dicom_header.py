"""What one DICOM file says about its frames, as checked values ⇄ JSON between child and parent.

Patient data do not occur: patient and study are known only by a keyed hash whose key lives for one run.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from jachai.core.volume import Modality

MAX_FRAMES = 20_000
MAX_SIDE = 65_535
MAX_TEXT = 128
MIN_UID_PARTS = 4
"""A registered root and a number within it; '0', '1', '1.2' identify nothing."""
_UID = re.compile(r"[0-2](\.(0|[1-9][0-9]*)){%d,}" % (MIN_UID_PARTS - 1))  # noqa: UP031 braces
Vector = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """One slice. position_mm: (x, y, z) of its first voxel. row_step, column_step: (3,) mm, see `core.geometry`.

    traits: what may tell slices at one position apart (echo time, b-value, phase …), name → text.
    """

    position_mm: Vector
    row_step: Vector
    column_step: Vector
    thickness_mm: float | None
    slope: float
    intercept: float
    traits: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class FileHeader:
    """One file. patient, study: keyed hashes. digest: of the stored pixels. instance: Instance Number, 0 if unknown."""

    modality: Modality
    sop_uid: str
    series_uid: str
    patient: str
    study: str
    rows: int
    columns: int
    instance: int
    digest: str
    lossy: bool
    attributes: Mapping[str, str]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    frames: tuple[FrameHeader, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain types only."""
        return asdict(self)


def is_unique(text: str) -> bool:
    """Has the text the form of a registered UID (PS3.5 9.1)?"""
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def header_from_json(value: object) -> FileHeader:
    """Check every value that a child sent. Raises ValueError for the first that is not what it should be."""
    item = _mapping(value)
    frames = _list(item.get("frames"), MAX_FRAMES)
    if not frames:
        raise ValueError("no frames")
    return FileHeader(
        modality=Modality(_text(item.get("modality"))),
        sop_uid=_text(item.get("sop_uid")),
        series_uid=_text(item.get("series_uid")),
        patient=_text(item.get("patient")),
        study=_text(item.get("study")),
        rows=_whole(item.get("rows"), 1, MAX_SIDE),
        columns=_whole(item.get("columns"), 1, MAX_SIDE),
        instance=_whole(item.get("instance"), -(2**31), 2**31),
        digest=_text(item.get("digest")),
        lossy=_flag(item.get("lossy")),
        attributes=texts_from_json(item.get("attributes")),
        notes=tuple(_text(note, 500) for note in _list(item.get("notes"), 100)),
        warnings=tuple(_text(warning, 500) for warning in _list(item.get("warnings"), 100)),
        frames=tuple(_frame(frame) for frame in frames),
    )


def _frame(value: object) -> FrameHeader:
    item = _mapping(value)
    thickness = item.get("thickness_mm")
    return FrameHeader(
        position_mm=_vector(item.get("position_mm")),
        row_step=_vector(item.get("row_step")),
        column_step=_vector(item.get("column_step")),
        thickness_mm=None if thickness is None else number_from_json(thickness),
        slope=number_from_json(item.get("slope")),
        intercept=number_from_json(item.get("intercept")),
        traits=texts_from_json(item.get("traits")),
    )


def number_from_json(value: object) -> float:
    """A finite number. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("not a number")
    return float(value)


def texts_from_json(value: object) -> dict[str, str]:
    """A small mapping of text to text. Raises ValueError."""
    item = _mapping(value)
    if len(item) > 100:
        raise ValueError("too many texts")
    return {_text(key): _text(text) for key, text in item.items()}


def _vector(value: object) -> Vector:
    x, y, z = (number_from_json(c) for c in _list(value, 3))
    return x, y, z


def _mapping(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _list(value: object, longest: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > longest:
        raise ValueError("not a list, or too long")
    return value


def _text(value: object, longest: int = MAX_TEXT) -> str:
    if not isinstance(value, str) or len(value) > longest or not value.isprintable():
        raise ValueError("not a text that can be shown")
    return value


def _whole(value: object, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise ValueError("not a whole number, or out of range")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("not true or false")
    return value
