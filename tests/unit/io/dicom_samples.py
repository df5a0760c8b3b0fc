"""A description of slices → DICOM files made on the spot: every kind that the reader must understand or refuse."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import uid
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate

Stored = npt.NDArray[Any]
AXIAL = (1, 0, 0, 0, 1, 0)
SAGITTAL = (0, 1, 0, 0, 0, -1)
CORONAL = (1, 0, 0, 0, 0, -1)
OBLIQUE = (0.8, 0.6, 0, -0.36, 0.48, -0.8)
ROOT = "1.2.826.0.1.3680043.8.498"
SERIES, STUDY = f"{ROOT}.1", f"{ROOT}.2"
HTJ2K_SHAPE = (16, 16)
HTJ2K_FRAME = base64.b64decode(
    "/0//UQApQAAAAAAQAAAAEAAAAAAAAAAAAAAAEAAAABAAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUEBEAB/1wAEyCIkJCQkJCQkJCQ"
    "kJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAH0AAf+TwAAmGfgFB3QAAMAAEsAAEwDsAQd0ANj+Awd0AMAAE0AAE4A0/QCC"
    "dABoR/sAo1QAwAAVEAAFWBhj/KpwAnUApps2bfrAQgHstgDAACsgABaQiIiIiOfAp6enwngAnj09PT09PT39jGB79jGB7LoA/9k="
)
"""`htj2k_pixels()`, encoded once with OpenJPH: none of our libraries can write HTJ2K."""


def htj2k_pixels() -> Stored:
    """What HTJ2K_FRAME holds."""
    return (np.arange(256).reshape(HTJ2K_SHAPE) * 13 % 4096).astype(np.uint16)


def pattern(k: int = 0, shape: tuple[int, int] = (16, 20), dtype: str = "i2") -> Stored:
    """A slice in which every voxel tells where it is."""
    rows, columns = np.indices(shape)
    return (rows * 31 + columns * 7 + k * 101).astype(dtype)


@dataclass(frozen=True)
class Series:
    """Where the slices of a classic series lie. origin + k × step × normal + k × shift."""

    n: int = 4
    orientation: tuple[float, ...] = AXIAL
    origin: tuple[float, float, float] = (-10.0, 20.0, 30.0)
    step: float = 2.5
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    spacing: tuple[float, float] = (0.5, 0.75)
    uid: str = SERIES

    @property
    def normal(self) -> npt.NDArray[np.float64]:
        """Unit vector along which k grows, as `core.geometry` has it."""
        return np.cross(self.orientation[:3], self.orientation[3:])

    def position(self, k: int) -> list[float]:
        """ImagePositionPatient of slice k."""
        return [float(x) for x in np.array(self.origin) + k * (self.step * self.normal + np.array(self.shift))]


def slice_of(series: Series, k: int, pixels: Stored | None = None, modality: str = "CT") -> FileDataset:
    """Slice k of a series, explicit VR little endian, intercept −1024 for CT."""
    pixels = pattern(k) if pixels is None else pixels
    data_set = blank(uid.CTImageStorage if modality == "CT" else uid.MRImageStorage, f"{series.uid}.{k + 1}")
    data_set.Modality = modality
    data_set.SeriesInstanceUID, data_set.StudyInstanceUID = series.uid, STUDY
    data_set.InstanceNumber = k + 1
    data_set.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    data_set.ImagePositionPatient = series.position(k)
    data_set.ImageOrientationPatient = list(series.orientation)
    data_set.PixelSpacing = list(series.spacing)
    data_set.SliceThickness = series.step
    if modality == "CT":
        data_set.RescaleSlope, data_set.RescaleIntercept, data_set.RescaleType = 1, -1024, "HU"
    set_pixels(data_set, pixels)
    return data_set


def blank(sop_class: str, sop_uid: str) -> FileDataset:
    """File meta information, patient and identity; no image."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, sop_uid
    meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    meta.ImplementationClassUID = f"{ROOT}.9"
    data_set = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    data_set.SOPClassUID, data_set.SOPInstanceUID = sop_class, sop_uid
    data_set.PatientName, data_set.PatientID = "Secret^Person", "SECRET-1"
    data_set.Manufacturer = "Nobody"
    return data_set


def set_pixels(data_set: Dataset, pixels: Stored) -> None:
    """(rows, columns) or (frames, rows, columns) of u1, u2, i2 … → the Image Pixel module, native."""
    data_set.SamplesPerPixel, data_set.PhotometricInterpretation = 1, "MONOCHROME2"
    data_set.Rows, data_set.Columns = pixels.shape[-2:]
    data_set.BitsAllocated = data_set.BitsStored = pixels.dtype.itemsize * 8
    data_set.HighBit = data_set.BitsStored - 1
    data_set.PixelRepresentation = int(pixels.dtype.kind == "i")
    data_set.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    data_set["PixelData"].VR = "OW" if pixels.dtype.itemsize > 1 else "OB"


def save(data_set: FileDataset, path: Path) -> Path:
    """Write the data set as its transfer syntax says (native ones are written in it, compressed data are kept)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data_set.save_as(path, enforce_file_format=True)
    return path


def write_series(folder: Path, series: Series = Series(), modality: str = "CT") -> list[Path]:
    """All slices of a series, one file each."""
    return [save(slice_of(series, k, modality=modality), folder / f"{k:03}.dcm") for k in range(series.n)]


def recode(data_set: FileDataset, syntax: str, frames: list[bytes]) -> FileDataset:
    """Replace the pixels by compressed frames."""
    data_set.file_meta.TransferSyntaxUID = syntax
    data_set.PixelData = encapsulate(frames)
    data_set["PixelData"].VR, data_set["PixelData"].is_undefined_length = "OB", True
    return data_set


def frames_of(data_set: FileDataset) -> Stored:
    """(frames, rows, columns) of the native pixels."""
    kind = "i" if data_set.PixelRepresentation else "u"
    pixels = np.frombuffer(data_set.PixelData, f"<{kind}{data_set.BitsAllocated // 8}")
    return pixels.reshape(-1, data_set.Rows, data_set.Columns)


def compressed(data_set: FileDataset, syntax: str) -> FileDataset:
    """The same image in a compressed transfer syntax that one of our libraries can write."""
    if syntax in (uid.JPEGLSLossless, uid.JPEGLSNearLossless):
        import jpeg_ls

        size = {"rows": data_set.Rows, "columns": data_set.Columns, "samples_per_pixel": 1}
        bits = {"bits_stored": data_set.BitsStored, "lossy_error": 2 if syntax == uid.JPEGLSNearLossless else 0}
        frames = [bytes(jpeg_ls.encode_buffer(f.tobytes(), **size, **bits)) for f in frames_of(data_set)]
    elif syntax in (uid.JPEG2000Lossless, uid.JPEG2000):
        from openjpeg.utils import encode_array

        frames = [
            encode_array(f, bits_stored=data_set.BitsStored, photometric_interpretation=2) for f in frames_of(data_set)
        ]
    elif syntax == uid.RLELossless:
        from rle.utils import encode_pixel_data

        frames = [
            encode_pixel_data(
                f.tobytes(), rows=data_set.Rows, columns=data_set.Columns, samples_per_pixel=1,
                bits_allocated=data_set.BitsAllocated, byteorder="<",
            )
            for f in frames_of(data_set)
        ]  # fmt: skip
    else:
        raise ValueError(f"cannot write {syntax}")
    return recode(data_set, syntax, frames)


def big_endian(data_set: FileDataset) -> FileDataset:
    """The same image, to be written in explicit VR big endian."""
    data_set.file_meta.TransferSyntaxUID = uid.ExplicitVRBigEndian
    data_set.PixelData = frames_of(data_set).byteswap().tobytes()
    data_set.set_original_encoding(False, False)
    return data_set


def write_jpeg_lossless(native: Path, path: Path) -> Path:
    """Process 14, selection value 1, by gdcm."""
    import gdcm

    reader = gdcm.ImageReader()
    reader.SetFileName(str(native))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return path


def enhanced(series: Series, modality: str = "CT", pixels: Stored | None = None) -> FileDataset:
    """An enhanced multi-frame object: orientation and spacing shared, position and rescale in each frame."""
    sop_class = uid.EnhancedCTImageStorage if modality == "CT" else uid.EnhancedMRImageStorage
    data_set = blank(sop_class, f"{series.uid}.100")
    data_set.Modality, data_set.SeriesInstanceUID, data_set.StudyInstanceUID = modality, series.uid, STUDY
    data_set.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    data_set.NumberOfFrames = series.n
    set_pixels(data_set, np.stack([pattern(k) for k in range(series.n)]) if pixels is None else pixels)
    shared = Dataset()
    shared.PlaneOrientationSequence = [item(ImageOrientationPatient=list(series.orientation))]
    shared.PixelMeasuresSequence = [item(PixelSpacing=list(series.spacing), SliceThickness=series.step)]
    data_set.SharedFunctionalGroupsSequence = [shared]
    data_set.PerFrameFunctionalGroupsSequence = [frame_groups(series, k, -1024 + k) for k in range(series.n)]
    return data_set


def frame_groups(series: Series, k: int, intercept: float) -> Dataset:
    """The functional groups of one frame."""
    groups = Dataset()
    groups.PlanePositionSequence = [item(ImagePositionPatient=series.position(k))]
    groups.PixelValueTransformationSequence = [item(RescaleSlope=1, RescaleIntercept=intercept, RescaleType="HU")]
    groups.FrameContentSequence = [item(StackID="1", InStackPositionNumber=k + 1)]
    return groups


def item(**attributes: Any) -> Dataset:
    """A sequence item."""
    data_set = Dataset()
    for keyword, value in attributes.items():
        setattr(data_set, keyword, value)
    return data_set


def preset_bytes(path: Path, change: bytes, at: int) -> Path:
    """Overwrite bytes of a file."""
    data = bytearray(path.read_bytes())
    data[at : at + len(change)] = change
    path.write_bytes(data)
    return path
