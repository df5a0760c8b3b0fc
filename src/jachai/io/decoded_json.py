"""A decoded volume without its voxels ⇄ JSON between child and parent; the parent checks every value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from jachai.core.geometry import Geometry
from jachai.core.volume import Modality
from jachai.io.dicom_header import number_from_json, texts_from_json
from jachai.io.reader import MAX_VOXELS, Decoded

MAX_TEXTS = 100
MAX_TEXT = 500


@dataclass(frozen=True, slots=True, eq=False)
class Description:
    """What `Decoded` says beside its voxels. The fields are those of `io.reader.Decoded`."""

    modality: Modality
    geometry: Geometry | None
    series_uid: str | None
    step: float | None
    lossy: bool
    attributes: dict[str, str]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def decoded_to_json(decoded: Decoded) -> dict[str, Any]:
    """Plain types only; texts are cut to what the parent accepts."""
    geometry = decoded.geometry
    return {
        "modality": decoded.modality.value,
        "geometry": None if geometry is None else _geometry_to_json(geometry),
        "series_uid": decoded.series_uid,
        "step": decoded.step,
        "lossy": bool(decoded.lossy),
        "attributes": {_shown(key): _shown(value) for key, value in decoded.attributes.items()},
        "notes": [_shown(note, MAX_TEXT) for note in decoded.notes],
        "warnings": [_shown(warning, MAX_TEXT) for warning in decoded.warnings],
    }


def _shown(text: object, longest: int = 128) -> str:
    return "".join(c for c in str(text)[:longest] if c.isprintable())


def _geometry_to_json(geometry: Geometry) -> dict[str, Any]:
    return {
        "origins_mm": geometry.origins_mm.tolist(),
        "row_step_mm": geometry.row_step_mm.tolist(),
        "column_step_mm": geometry.column_step_mm.tolist(),
        "thickness_mm": None if geometry.thickness_mm is None else float(geometry.thickness_mm),
    }


def description_from_json(value: object) -> Description:
    """Raises ValueError for anything that is not a description, Damaged for an impossible geometry."""
    if not isinstance(value, dict) or not isinstance(value.get("lossy"), bool):
        raise ValueError("not a description")
    geometry, step, series_uid = value.get("geometry"), value.get("step"), value.get("series_uid")
    if not (series_uid is None or isinstance(series_uid, str)):
        raise ValueError("not a text")
    return Description(
        modality=Modality(str(value.get("modality"))),
        geometry=None if geometry is None else _geometry_from_json(geometry),
        series_uid=series_uid,
        step=None if step is None else number_from_json(step),
        lossy=value["lossy"],
        attributes=texts_from_json(value.get("attributes")),
        notes=_texts(value.get("notes")),
        warnings=_texts(value.get("warnings")),
    )


def _geometry_from_json(value: object) -> Geometry:
    if not isinstance(value, dict):
        raise ValueError("not a geometry")
    origins = value.get("origins_mm")
    if not isinstance(origins, list) or len(origins) > MAX_VOXELS:
        raise ValueError("not positions")
    thickness = value.get("thickness_mm")
    try:
        return Geometry(
            np.array(origins, dtype=np.float64),
            np.array(value.get("row_step_mm"), dtype=np.float64),
            np.array(value.get("column_step_mm"), dtype=np.float64),
            None if thickness is None else number_from_json(thickness),
        )
    except TypeError as error:
        raise ValueError("not a geometry") from error


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MAX_TEXTS:
        raise ValueError("not texts")
    if not all(isinstance(text, str) and len(text) <= MAX_TEXT and text.isprintable() for text in value):
        raise ValueError("not texts")
    return tuple(value)
