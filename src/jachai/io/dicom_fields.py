"""The attributes of a DICOM data set → a checked FileHeader: position, spacing, rescale and traits of every frame.

Missing or impossible geometry is an error, never 1.0. Sources: PS3.3 C.7.6.2.1.1 (position, orientation, spacing),
C.7.6.16 (functional groups of enhanced objects), C.11.1 (rescale).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from pydicom import uid
from pydicom._uid_dict import UID_dictionary
from pydicom.dataset import Dataset

from jachai.core.errors import Damaged, LeftOut, Unsupported
from jachai.core.geometry import Geometry
from jachai.core.volume import Modality
from jachai.io.confined import plain_text
from jachai.io.dicom_header import MAX_FRAMES, MAX_TEXT, FileHeader, FrameHeader, Vector, is_unique
from jachai.io.pixels import COPY_AGAIN, LOSSY, PixelFormat

Look = Callable[[str, str], Any]
"""look(sequence, keyword) → the value that holds for a frame, None if there is none."""

MODALITIES = {
    uid.CTImageStorage: Modality.CT,
    uid.EnhancedCTImageStorage: Modality.CT,
    uid.LegacyConvertedEnhancedCTImageStorage: Modality.CT,
    uid.MRImageStorage: Modality.MR,
    uid.EnhancedMRImageStorage: Modality.MR,
    uid.LegacyConvertedEnhancedMRImageStorage: Modality.MR,
}
TRAITS = (
    "ImageType", "AcquisitionNumber", "EchoNumbers", "EchoTime", "InversionTime", "FlipAngle",
    "TemporalPositionIdentifier", "DiffusionBValue", "DiffusionGradientOrientation", "TriggerTime",
    "NominalPercentageOfCardiacPhase", "ConvolutionKernel", "KVP", "SeriesNumber",
)  # fmt: skip
"""What may differ between slices at one position, the most telling first."""
FRAME_TRAITS = (
    ("MRImageFrameTypeSequence", "FrameType"), ("CTImageFrameTypeSequence", "FrameType"),
    ("FrameContentSequence", "StackID"), ("FrameContentSequence", "TemporalPositionIndex"),
    ("MREchoSequence", "EffectiveEchoTime"), ("MRDiffusionSequence", "DiffusionBValue"),
    ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
    ("CardiacSynchronizationSequence", "NominalPercentageOfCardiacPhase"),
    ("CTReconstructionSequence", "ConvolutionKernel"), ("FrameContentSequence", "FrameAcquisitionNumber"),
)  # fmt: skip
ATTRIBUTES = {
    "Manufacturer": "Maker", "ManufacturerModelName": "Model", "ConvolutionKernel": "Kernel", "KVP": "kVp",
    "XRayTubeCurrent": "Tube current (mA)", "SliceThickness": "Slice thickness (mm)", "BodyPartExamined": "Body part",
    "GantryDetectorTilt": "Gantry tilt (degrees)", "FilterType": "Filter", "MagneticFieldStrength": "Field strength (T)",
    "EchoTime": "Echo time (ms)", "RepetitionTime": "Repetition time (ms)", "FlipAngle": "Flip angle (degrees)",
    "MRAcquisitionType": "Acquisition", "ScanningSequence": "Sequence", "ImageType": "Image type",
    "BitsStored": "Bits stored",
}  # fmt: skip
"""Technical attributes for the report. None of them holds patient data; free text about the patient is not among them."""
MAX_SLOPE = 1e6
HU_NAMES = ("HU", "HOUN")
"""How Rescale Type begins where the unit is the Hounsfield unit: HU, and what people write instead."""
UNIT_TOLERANCE = 1e-2
"""How far a direction may be from unit length: headers round to few digits."""


def modality_of(data_set: Dataset) -> tuple[Modality, tuple[str, ...]]:
    """Of a CT or MR image, and notes. Raises an Unreadable error that says what else it is."""
    sop_class = str(
        data_set.get("SOPClassUID") or getattr(data_set, "file_meta", {}).get("MediaStorageSOPClassUID") or ""
    )
    stated = plain_text(str(data_set.get("Modality") or ""), 16).strip()
    if sop_class == uid.MediaStorageDirectoryStorage:
        raise LeftOut("An index (DICOMDIR) without an image; the files it lists are read directly.")
    if sop_class in MODALITIES:
        modality = MODALITIES[uid.UID(sop_class)]
        contradicts = stated and stated != modality.value
        return modality, (f"Modality says {stated}, the object is {modality.value}.",) if contradicts else ()
    if sop_class in UID_dictionary:
        raise LeftOut(
            f"It holds a {uid.UID(sop_class).name.removesuffix(' Storage')} object"
            f"{f' (modality {stated})' if stated else ''}, not a CT or MR image."
        )
    if stated in (Modality.CT.value, Modality.MR.value):
        return Modality(stated), ("The kind of object (SOP Class) is missing or unknown; it was read by its modality.",)
    if stated:
        raise LeftOut(f"Its modality is {stated}; CT and MR are read.")
    raise Damaged(
        "It does not say what it is: neither Modality nor SOP Class is there. The file may be cut off.", COPY_AGAIN
    )


def refuse_unwanted(data_set: Dataset) -> None:
    """Raises LeftOut for localizers and Unsupported for mosaics, by Image Type (PS3.3 C.7.6.1.1.2), and for a Modality LUT (C.11.1)."""
    kinds = {value.upper() for value in _texts(data_set.get("ImageType"))}
    if "LOCALIZER" in kinds:
        raise LeftOut("A localizer (scout): it plans the scan and is not part of it.")
    if "MOSAIC" in kinds:
        raise Unsupported("A mosaic of many slices in one image, which is not read.", "Export it as enhanced MR.")
    if "ModalityLUTSequence" in data_set:
        raise Unsupported("Its values stand in a look-up table (Modality LUT), which is not read.", "Export it anew.")


def read_header(data_set: Dataset, image: PixelFormat, modality: Modality, key: bytes, notes: list[str]) -> FileHeader:
    """Everything about a file but its voxels. key: of the hashes. notes: those of the file itself, extended here.

    Raises Damaged for missing or impossible values.
    """
    warnings: list[str] = []
    frames = tuple(_frames(data_set, image, modality, warnings))
    sop_uid, series_uid = _uid(data_set, "SOPInstanceUID", notes), _uid(data_set, "SeriesInstanceUID", notes)
    attributes = {label: text for keyword, label in ATTRIBUTES.items() if (text := _shown(data_set.get(keyword)))}
    return FileHeader(
        modality=modality,
        sop_uid=sop_uid,
        series_uid=series_uid,
        patient=_hash(data_set.get("PatientID"), key),
        study=_hash(data_set.get("StudyInstanceUID"), key),
        rows=image.rows,
        columns=image.columns,
        instance=_instance_number(data_set),
        digest=pixel_digest(data_set),
        lossy=_is_lossy(data_set, image),
        attributes=attributes,
        notes=tuple(notes),
        warnings=tuple(warnings),
        frames=frames,
    )


def _frames(data_set: Dataset, image: PixelFormat, modality: Modality, warnings: list[str]) -> Iterable[FrameHeader]:
    per_frame = data_set.get("PerFrameFunctionalGroupsSequence")
    if per_frame is None:
        if image.frames > 1:
            raise Damaged("It holds several frames, but no position for each of them.", COPY_AGAIN)
        return [_frame(lambda _, keyword: data_set.get(keyword), _classic_traits(data_set), modality, warnings)]
    if len(per_frame) != image.frames or image.frames > MAX_FRAMES:
        raise Damaged("The number of frames differs from the number of their descriptions.", COPY_AGAIN)
    shared = data_set.get("SharedFunctionalGroupsSequence") or [Dataset()]
    looks = [_look_into(item, shared[0]) for item in per_frame]
    return [_frame(look, _frame_traits(look), modality, warnings) for look in looks]


def _look_into(own: Dataset, shared: Dataset) -> Look:
    """A functional group is either in the frame's own item or in the shared one (PS3.3 C.7.6.16)."""

    def look(sequence: str, keyword: str) -> Any:
        for groups in (own, shared):
            items = groups.get(sequence)
            if items and keyword in items[0]:
                return items[0][keyword].value
        return None

    return look


def _classic_traits(data_set: Dataset) -> dict[str, str]:
    return {keyword: text for keyword in TRAITS if (text := _shown(data_set.get(keyword)))}


def _frame_traits(look: Look) -> dict[str, str]:
    traits = {f"{s}.{keyword}": text for s, keyword in FRAME_TRAITS if (text := _shown(look(s, keyword)))}
    gradient = look("MRDiffusionSequence", "DiffusionGradientDirectionSequence")
    if gradient:
        traits["DiffusionGradientOrientation"] = _shown(gradient[0].get("DiffusionGradientOrientation"))
    return traits


def _frame(look: Look, traits: dict[str, str], modality: Modality, warnings: list[str]) -> FrameHeader:
    position = numbers(look("PlanePositionSequence", "ImagePositionPatient"), 3, "ImagePositionPatient")
    orientation = numbers(look("PlaneOrientationSequence", "ImageOrientationPatient"), 6, "ImageOrientationPatient")
    spacing = numbers(look("PixelMeasuresSequence", "PixelSpacing"), 2, "PixelSpacing")
    if min(spacing) <= 0:
        raise Damaged("PixelSpacing is zero or negative.", COPY_AGAIN)
    row_step, column_step = _direction(orientation[3:]) * spacing[0], _direction(orientation[:3]) * spacing[1]
    thickness = _thickness(look("PixelMeasuresSequence", "SliceThickness"))
    Geometry(np.array([position]), row_step, column_step, thickness)  # raises Damaged
    slope, intercept = _rescale(look, modality, warnings)
    return FrameHeader(_vector(position), _vector(row_step), _vector(column_step), thickness, slope, intercept, traits)


def _vector(values: Iterable[float]) -> Vector:
    x, y, z = (float(value) for value in values)
    return x, y, z


def _direction(values: list[float]) -> Any:
    """(3,) unit vector. Raises Damaged if it is far from unit length."""
    length = math.hypot(*values)
    if abs(length - 1) > UNIT_TOLERANCE:
        raise Damaged("A direction in ImageOrientationPatient has not the length one.", COPY_AGAIN)
    return np.array(values) / length


def _thickness(value: Any) -> float | None:
    try:
        thickness = float(value)
    except (TypeError, ValueError):
        return None
    return thickness if 0 < thickness <= 100 else None


def _rescale(look: Look, modality: Modality, warnings: list[str]) -> tuple[float, float]:
    stated = [look("PixelValueTransformationSequence", name) for name in ("RescaleSlope", "RescaleIntercept")]
    if any(value is None for value in stated):
        if modality is Modality.CT:
            _once(warnings, "The file states no rescale to Hounsfield units: stored values were taken as they are.")
        return 1.0, 0.0
    slope = numbers(stated[0], 1, "RescaleSlope")[0]
    intercept = numbers(stated[1], 1, "RescaleIntercept")[0]
    if not 0 < abs(slope) <= MAX_SLOPE or abs(intercept) > MAX_SLOPE:
        raise Damaged("RescaleSlope is zero, or rescale values are not believable.", COPY_AGAIN)
    kind = _shown(look("PixelValueTransformationSequence", "RescaleType"))
    if modality is Modality.CT and kind and not kind.upper().startswith(HU_NAMES):
        _once(warnings, f"The file states {kind} as the unit of its values; they were taken as Hounsfield units.")
    return slope, intercept


def _once(texts: list[str], text: str) -> None:
    if text not in texts:
        texts.append(text)


def numbers(value: Any, count: int, keyword: str) -> list[float]:
    """Exactly `count` finite numbers. Raises Damaged that names the attribute."""
    values = [value] if isinstance(value, str | float | int) else value
    try:
        result = [float(v) for v in values]
    except (TypeError, ValueError, OverflowError) as error:
        raise Damaged(f"The attribute {keyword} is missing or not a number.", COPY_AGAIN) from error
    if len(result) != count:
        raise Damaged(f"The attribute {keyword} has {len(result)} values instead of {count}.", COPY_AGAIN)
    if not all(math.isfinite(v) for v in result):
        raise Damaged(f"The attribute {keyword} is not a finite number.", COPY_AGAIN)
    return result


def _uid(data_set: Dataset, keyword: str, notes: list[str]) -> str:
    """The text of a UID as it may be shown. It is never used as a name of anything."""
    text = plain_text(str(data_set.get(keyword) or ""), MAX_TEXT).strip()
    if not is_unique(text):
        notes.append(f"{keyword} is not a valid unique identifier.")
    return text


def pixel_digest(data_set: Dataset) -> str:
    """Of the pixels as they are stored."""
    return hashlib.blake2b(data_set.PixelData, digest_size=16).hexdigest()


def _hash(value: Any, key: bytes) -> str:
    return hashlib.blake2b(str(value or "").encode("utf-8", "replace"), key=key, digest_size=12).hexdigest()


def _is_lossy(data_set: Dataset, image: PixelFormat) -> bool:
    stated = str(data_set.get("LossyImageCompression", "")).strip()
    return stated == "01" or (image.transfer_syntax in LOSSY and stated != "00")


def _instance_number(data_set: Dataset) -> int:
    try:
        number = int(data_set.get("InstanceNumber") or 0)
    except (TypeError, ValueError, OverflowError):
        return 0
    return number if abs(number) < 2**31 else 0


def _texts(value: Any) -> list[str]:
    if value is None:
        return []
    return (
        [value] if isinstance(value, str) else [str(v) for v in value] if isinstance(value, Iterable) else [str(value)]
    )


def _shown(value: Any) -> str:
    return plain_text("\\".join(_texts(value)), MAX_TEXT).strip()
