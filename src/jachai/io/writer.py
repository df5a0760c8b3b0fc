"""Volume → DICOM series, NIfTI or MetaImage file: the one way volumes leave, real and fake alike.

Nothing is ever overwritten, no file name is made from data, and no time, user or machine enters a file: the same volume
and header give the same bytes.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid
from pydicom.valuerep import format_number_as_ds

from jachai.core.errors import UsageError
from jachai.core.geometry import FloatArray, Geometry
from jachai.core.volume import AIR_HU, Modality, Volume, Voxels
from jachai.io.marks import CREATOR, PRIVATE_GROUP, RECORD_ELEMENT

Stored = npt.NDArray[np.int16]

INT16 = np.iinfo(np.int16)
N_LEVELS = 65_000
"""Stored values that a range is spread over where it has no step of its own; a little less than 16 bits hold."""
OFF_GRID = 1e-3
"""Share of a step by which float32 values may miss the grid of stored values."""
MAX_OFF_GRID_MM = 0.05
"""How far a slice may lie from an even grid before a format with one affine cannot hold it."""
MAX_NIFTI1_SIDE = 32_767
EXTENDER_BYTES = 4
"""NIfTI-1: they follow the 348 bytes of the header and say whether extensions come."""
COMMENT_CODE = 6
"""NIFTI_ECODE_COMMENT: an extension of plain text."""
GZIP_LEVEL = 1
"""Noise hardly packs: level 6 takes four times as long for a few per cent."""
SOP_CLASSES = {Modality.CT: CTImageStorage, Modality.MR: MRImageStorage}
CT_WINDOW = ("40", "400")
"""Window centre and width in HU for soft tissue."""


@dataclass(frozen=True, slots=True)
class DicomHeader:
    """What a DICOM series says besides its pixels. uid_seed: every UID is made from it and from nothing else.

    record_json: the record of a simulated attack, kept in a private block (`io.marks`); '' for none.
    """

    uid_seed: str = "jachai"
    patient_name: str = "PHANTOM"
    patient_id: str = "PHANTOM"
    study_description: str = ""
    series_description: str = ""
    series_number: int = 1
    body_part: str = "CHEST"
    image_type: tuple[str, ...] = ("DERIVED", "SECONDARY", "AXIAL")
    image_comments: str = ""
    manufacturer: str = ""
    model_name: str = ""
    kernel: str = ""
    kvp: float | None = None
    study_date: str = ""
    record_json: str = ""


def to_stored(voxels: Voxels, step: float, intercept: float) -> Stored:
    """Voxel values → int16 stored values: round((value − intercept) / step), halves to even. The only such place.

    value ≈ stored × step + intercept, wrong by at most step / 2. Raises UsageError if a value does not fit into int16.
    """
    stored = np.rint((voxels.astype(np.float64) - intercept) / step)
    if stored.min() < INT16.min or stored.max() > INT16.max:
        raise UsageError(f"Voxel values do not fit into 16 bits with a step of {step:g}.", "Choose a larger step.")
    return np.asarray(stored.astype(np.int16))


def storage_scale(volume: Volume) -> tuple[float, float]:
    """(step, intercept) with which a volume is stored in 16 bits.

    The step is that of its provenance; else 1 for CT (scanners round to whole HU) and for whole numbers; else, or if the
    values would not fit, their range divided by 65,000. The intercept is AIR_HU for CT, as most scanners write it, and 0
    for MR, unless it must be moved for the values to fit, or for a grid of values that does not go through it.
    """
    lowest, highest = float(volume.voxels.min()), float(volume.voxels.max())
    is_ct = volume.modality is Modality.CT
    step = volume.provenance.step or (1.0 if is_ct or _are_whole(volume.voxels) else 0.0)
    if not step or (highest - lowest) / step > N_LEVELS:
        step = (highest - lowest) / N_LEVELS or 1.0
    intercept = AIR_HU if is_ct else 0.0
    off_grid = (lowest - intercept) - step * round((lowest - intercept) / step)
    if abs(off_grid) > OFF_GRID * step:
        intercept += off_grid
    if INT16.min <= (lowest - intercept) / step and (highest - intercept) / step <= INT16.max:
        return step, intercept
    return step, step * round((lowest + highest) / 2 / step)


def _are_whole(voxels: Voxels) -> bool:
    return all(bool((plane == np.rint(plane)).all()) for plane in voxels)


def write_dicom(volume: Volume, folder: Path, *, header: DicomHeader) -> tuple[Path, ...]:
    """One classic CT or MR Image Storage file per slice, IM00001.dcm …, explicit little endian; their paths by k.

    Every slice keeps its own position, so that uneven, tilted and oblique stacks survive. Raises UsageError for a picture
    (no geometry) or if a file is already there; then nothing is written.
    """
    geometry = _geometry(volume)
    paths = tuple(folder / f"IM{k + 1:05d}.dcm" for k in range(volume.shape[0]))
    for path in paths:
        _refuse_existing(path)
    step, intercept = storage_scale(volume)
    shared = _shared_dataset(volume, geometry, header, step, intercept)
    folder.mkdir(parents=True, exist_ok=True)
    for k, path in enumerate(paths):
        dataset = _slice_dataset(shared, volume.modality, header, k)
        dataset.ImagePositionPatient = [_ds(value) for value in geometry.origins_mm[k]]
        dataset.SliceLocation = _ds(geometry.positions_mm[k])
        dataset.PixelData = to_stored(volume.voxels[k], step, intercept).astype("<i2").tobytes()
        with _new_file(path) as file:
            dataset.save_as(file, enforce_file_format=True)
    return paths


def _shared_dataset(volume: Volume, geometry: Geometry, header: DicomHeader, step: float, intercept: float) -> Dataset:
    """What every slice of the series states alike."""
    dataset = Dataset()
    _add_patient_and_study(dataset, header)
    _add_series(dataset, volume.modality, header)
    _add_image(dataset, volume, geometry, header)
    if volume.modality is Modality.CT:
        dataset.RescaleType = "HU"
        dataset.KVP = None if header.kvp is None else _ds(header.kvp)
        dataset.AcquisitionNumber = None
        dataset.ConvolutionKernel = header.kernel
        dataset.WindowCenter, dataset.WindowWidth = CT_WINDOW
    else:
        _add_mr(dataset)
    if volume.modality is Modality.CT or (step, intercept) != (1.0, 0.0):  # PS3.3 C.8.3.1: MR has no rescale of its own
        dataset.RescaleSlope, dataset.RescaleIntercept = _ds(step), _ds(intercept)
    if header.record_json:
        dataset.private_block(PRIVATE_GROUP, CREATOR, create=True).add_new(RECORD_ELEMENT, "UT", header.record_json)
    return dataset


def _uid(header: DicomHeader, *parts: str) -> UID:
    """A UID that depends on the seed and `parts` only."""
    return generate_uid(entropy_srcs=[header.uid_seed, *parts])


def _add_patient_and_study(dataset: Dataset, header: DicomHeader) -> None:
    """PS3.3 C.7.1.1 and C.7.2.1."""
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName, dataset.PatientID = header.patient_name, header.patient_id
    dataset.PatientBirthDate = dataset.PatientSex = ""
    dataset.StudyInstanceUID = _uid(header, "study")
    dataset.StudyDate, dataset.StudyTime = header.study_date, ""
    dataset.StudyID = dataset.AccessionNumber = dataset.ReferringPhysicianName = ""
    dataset.StudyDescription = header.study_description


def _add_series(dataset: Dataset, modality: Modality, header: DicomHeader) -> None:
    """PS3.3 C.7.3.1, C.7.4.1 and C.7.5.1."""
    dataset.Modality = modality.value
    dataset.SeriesInstanceUID = _uid(header, "series")
    dataset.SeriesNumber = header.series_number
    dataset.SeriesDescription = header.series_description
    if header.body_part:
        dataset.BodyPartExamined = header.body_part
    else:
        dataset.Laterality = ""  # type 2C: the body part may be a paired one
    dataset.PatientPosition = "HFS"
    dataset.FrameOfReferenceUID = _uid(header, "frame of reference")
    dataset.PositionReferenceIndicator = ""
    dataset.Manufacturer, dataset.ManufacturerModelName = header.manufacturer, header.model_name


def _add_image(dataset: Dataset, volume: Volume, geometry: Geometry, header: DicomHeader) -> None:
    """PS3.3 C.7.6.1, C.7.6.2 and C.7.6.3. Row direction = along a row, from column to column."""
    dataset.ImageType = list(header.image_type)
    dataset.ImageComments = header.image_comments
    row_mm, column_mm = geometry.pixel_mm
    directions = (*(geometry.column_step_mm / column_mm), *(geometry.row_step_mm / row_mm))
    dataset.ImageOrientationPatient = [_ds(value) for value in directions]
    dataset.PixelSpacing = [_ds(row_mm), _ds(column_mm)]
    thickness = geometry.thickness_mm or geometry.slice_step_mm
    dataset.SliceThickness = None if thickness is None else _ds(thickness)
    _, dataset.Rows, dataset.Columns = volume.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 1
    if volume.provenance.lossy:  # PS3.3 C.7.6.1.1.5: once lossy, always lossy, however it is stored now
        dataset.LossyImageCompression = "01"


def _add_mr(dataset: Dataset) -> None:
    """PS3.3 C.8.3.1, as far as it must be there."""
    dataset.ScanningSequence, dataset.SequenceVariant, dataset.ScanOptions = "RM", "NONE", ""
    dataset.MRAcquisitionType = "2D"
    dataset.RepetitionTime = dataset.EchoTime = dataset.EchoTrainLength = None


def _slice_dataset(shared: Dataset, modality: Modality, header: DicomHeader, k: int) -> FileDataset:
    """A file's data set with the UIDs of slice k and its file meta information (PS3.10 7.1)."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SOP_CLASSES[modality]
    meta.MediaStorageSOPInstanceUID = _uid(header, "instance", str(k))
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", shared, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.InstanceNumber = k + 1
    return dataset


def _ds(value: float) -> str:
    """A decimal string of at most 16 characters (PS3.5 6.2)."""
    return format_number_as_ds(float(value) + 0.0)  # + 0.0 turns −0 into 0


def write_nifti(volume: Volume, path: Path, *, description: str = "", comment: str = "") -> Path:
    """A NIfTI-1 file, .nii or .nii.gz: int16 with scl_slope where the provenance knows the step, else float32.

    description: at most 79 bytes of ASCII for the header. comment: text of any length in a header extension.
    Raises UsageError for a picture, uneven slices, another ending, or if the file is already there.
    """
    affine = _affine_lps(_geometry(volume))
    says = _Says(description, comment)
    if not volume.provenance.step:
        _write_nifti(volume.voxels, affine, path, 1.0, 0.0, says)
        return path
    step, intercept = storage_scale(volume)
    _write_nifti(to_stored(volume.voxels, step, intercept), affine, path, step, intercept, says)
    return path


def write_map_nifti(values: Voxels, geometry: Geometry, path: Path) -> Path:
    """A map, float32 (k, j, i), on the grid of `geometry` → NIfTI-1.

    NIfTI has one slice distance. Where the slices of `geometry` are uneven or missing, the map is written on an even grid
    of their median distance: every even slice takes the nearest slice, or 0 if none lies within one distance.
    Raises UsageError as `write_nifti` does.
    """
    values = np.asarray(values, dtype=np.float32)
    if not _is_on_even_grid(geometry):
        values, geometry = _evened(values, geometry)
    _write_nifti(values, _affine_lps(geometry), path, 1.0, 0.0)
    return path


@dataclass(frozen=True, slots=True)
class _Says:
    """What a NIfTI file says besides its voxels and their place."""

    description: str = ""
    comment: str = ""

    def after_header(self) -> bytes:
        """The four bytes after the header, and one extension if there is a comment (nifti1.h: size, code, text; the size
        is a multiple of 16)."""
        text = self.comment.encode()
        if not text:
            return bytes(EXTENDER_BYTES)
        size = -(-(8 + len(text)) // 16) * 16
        head = size.to_bytes(4, "little") + COMMENT_CODE.to_bytes(4, "little")
        return bytes([1, 0, 0, 0]) + head + text.ljust(size - 8, b"\0")


def _write_nifti(
    stored: npt.NDArray[Any], affine_lps: FloatArray, path: Path, step: float, intercept: float, says: _Says = _Says()
) -> None:
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        raise UsageError("A NIfTI file must end in .nii or .nii.gz.")
    if max(stored.shape) > MAX_NIFTI1_SIDE:
        raise UsageError(
            f"NIfTI-1 holds at most {MAX_NIFTI1_SIDE:,} rows, columns or slices.", "Write MetaImage instead."
        )
    make: Any = nib.Nifti1Header
    header = make(endianness="<")
    header.set_data_dtype(stored.dtype)
    header.set_data_shape(stored.shape[::-1])
    header.set_xyzt_units("mm")
    affine_ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine_lps
    rigid = _is_right_angled(affine_ras[:3, :3])  # a qform cannot hold the shear of a tilted gantry
    header.set_qform(affine_ras, code=1 if rigid else 0)
    header.set_sform(affine_ras, code=1)
    after = says.after_header()
    header["descrip"] = says.description.encode("ascii")
    header["scl_slope"], header["scl_inter"] = step, intercept
    header["vox_offset"] = header.sizeof_hdr + len(after)
    with _new_file(path) as file:
        packed = path.name.lower().endswith(".gz")
        target = gzip.GzipFile("", "wb", GZIP_LEVEL, file, mtime=0) if packed else file
        target.write(header.binaryblock + after)
        for plane in stored:
            target.write(plane.astype(plane.dtype.newbyteorder("<")).tobytes())
        if packed:
            target.close()


def write_metaimage(volume: Volume, path: Path) -> tuple[Path, ...]:
    """A MetaImage: .mha (one file, zlib) or .mhd with a plain .raw beside it; the paths of what was written.

    MET_SHORT where the provenance knows that neighbouring values differ by 1, else MET_FLOAT (readers disagree on scaled
    values). Raises UsageError for a picture, uneven slices, another ending, or if a file is already there.
    """
    ending = path.suffix.lower()
    if ending not in (".mha", ".mhd"):
        raise UsageError("A MetaImage file must end in .mha or .mhd.")
    affine = _affine_lps(_geometry(volume))
    stored = to_stored(volume.voxels, 1.0, 0.0) if volume.provenance.step == 1.0 else volume.voxels
    data = stored.astype(stored.dtype.newbyteorder("<")).tobytes()
    if ending == ".mha":
        data = zlib.compress(data, GZIP_LEVEL)
        with _new_file(path) as file:
            file.write(_metaimage_header(volume, stored.dtype, affine, len(data), "LOCAL") + data)
        return (path,)
    raw = path.with_suffix(".raw")
    _refuse_existing(path)
    with _new_file(raw) as file:
        file.write(data)
    with _new_file(path) as file:
        file.write(_metaimage_header(volume, stored.dtype, affine, 0, raw.name))
    return path, raw


def _metaimage_header(
    volume: Volume, dtype: np.dtype[Any], affine_lps: FloatArray, packed_bytes: int, data_file: str
) -> bytes:
    """The text header; packed_bytes = 0 for plain data."""
    spacing = np.linalg.norm(affine_lps[:3, :3], axis=0)
    lines = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": str(packed_bytes > 0),
        **({"CompressedDataSize": str(packed_bytes)} if packed_bytes else {}),
        "TransformMatrix": _numbers((affine_lps[:3, :3] / spacing).T.ravel()),
        "Offset": _numbers(affine_lps[:3, 3]),
        "CenterOfRotation": "0 0 0",
        "AnatomicalOrientation": "RAI",
        "ElementSpacing": _numbers(spacing),
        "DimSize": " ".join(str(side) for side in volume.shape[::-1]),
        "Modality": f"MET_MOD_{volume.modality.value}",
        "ElementType": "MET_SHORT" if dtype == np.int16 else "MET_FLOAT",
        "ElementDataFile": data_file,
    }
    return "".join(f"{key} = {value}\n" for key, value in lines.items()).encode()


def _numbers(values: FloatArray) -> str:
    return " ".join(repr(float(value) + 0.0) for value in values)


def _geometry(volume: Volume) -> Geometry:
    if volume.geometry is None:
        raise UsageError("A picture has no geometry and cannot be written as a scan.")
    return volume.geometry


def _even_origins(geometry: Geometry) -> FloatArray:
    """(n, 3) the evenly spaced origins between the first and the last slice."""
    origins = geometry.origins_mm
    return np.asarray(np.linspace(origins[0], origins[-1], len(origins)))


def _is_on_even_grid(geometry: Geometry) -> bool:
    return bool(np.abs(_even_origins(geometry) - geometry.origins_mm).max() <= MAX_OFF_GRID_MM)


def _affine_lps(geometry: Geometry) -> FloatArray:
    """(4, 4) from (i, j, k, 1) to LPS mm. Raises UsageError if the slices are uneven.

    A single slice of unknown thickness gets the larger of its pixel spacings: the formats want some number.
    """
    if not _is_on_even_grid(geometry):
        raise UsageError(
            "NIfTI and MetaImage cannot hold slices at uneven distances.", "Write DICOM, or resample the scan."
        )
    origins = _even_origins(geometry)
    if len(origins) > 1:
        step = (origins[-1] - origins[0]) / (len(origins) - 1)
    else:
        step = geometry.normal * (geometry.slice_step_mm or max(geometry.pixel_mm))
    affine = np.eye(4)
    affine[:3, :3] = np.stack([geometry.column_step_mm, geometry.row_step_mm, step], axis=1)
    affine[:3, 3] = origins[0]
    return affine


def _is_right_angled(matrix: FloatArray) -> bool:
    directions = matrix / np.linalg.norm(matrix, axis=0)
    return bool(np.allclose(directions.T @ directions, np.eye(3), atol=1e-5))


def _evened(values: Voxels, geometry: Geometry) -> tuple[Voxels, Geometry]:
    """The map and its geometry on an even grid of the median slice distance: see `write_map_nifti`."""
    positions, step = geometry.positions_mm, float(geometry.slice_step_mm or 1.0)
    n_slices = round(float(positions[-1] - positions[0]) / step) + 1
    if n_slices > MAX_NIFTI1_SIDE:
        raise UsageError("The slices lie too far apart for one NIfTI file.")
    wanted = np.linspace(positions[0], positions[-1], n_slices)
    nearest = np.abs(wanted[:, None] - positions).argmin(axis=1)
    found = np.abs(wanted - positions[nearest]) < step
    origins = np.linspace(geometry.origins_mm[0], geometry.origins_mm[-1], n_slices)
    evened = Geometry(origins, geometry.row_step_mm, geometry.column_step_mm, geometry.thickness_mm)
    return np.where(found[:, None, None], values[nearest], np.float32(0)), evened


def _refuse_existing(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise UsageError(f"{path} is already there.", "Choose another name; nothing is overwritten.")


@contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    """A file that did not exist, opened for writing; its folder is made. Removed again if writing it fails."""
    _refuse_existing(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    complete = False
    with path.open("xb") as file:
        try:
            yield file
            complete = True
        finally:
            if not complete:
                file.close()
                path.unlink()
