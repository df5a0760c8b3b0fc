"""Nothing in → a study recorded in a new ledger, met again in eight ways, and what the ledger says each time."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, JPEGLSLossless, generate_uid

from jachai.core.errors import UsageError
from jachai.core.progress import Progress, silent
from jachai.io.marks import SIMULATED
from jachai.ledger.answer import Answer
from jachai.report.ledger_page import Chapter, write_ledger_page
from jachai.service.demo import DEMO, write_phantom
from jachai.service.ledger import Verified, add, verify
from jachai.service.ledger_difference import picture

STUDY = replace(DEMO, shape_kji=(40, 320, 320), spacing_mm=(4.0, 1.1))
REGION_MM = 20.0
REGION_KJI = (18, 170, 100)
"""Centre of the altered region: within the right lung of the phantom."""
REGION_HU = 40.0
JPEG_QUALITY = 90
NEW_SLOPE = "1.05"
Slices = Sequence[tuple[Path, FileDataset]]


@dataclass(frozen=True, slots=True)
class Meeting:
    """How the study is met again. change: alters a copy of its files. expected: what the ledger must answer."""

    name: str
    title: str
    change: Callable[[Slices], None]
    expected: Answer


def _as_it_was(slices: Slices) -> None:
    return


def _recompressed(slices: Slices) -> None:
    for _, data_set in slices:
        data_set.compress(JPEGLSLossless, generate_instance_uid=False)


def _reconciled(slices: Slices) -> None:
    for _, data_set in slices:
        data_set.PatientName, data_set.PatientID = "RECONCILED^PHANTOM", "RECONCILED-1"
        data_set.PatientBirthDate, data_set.AccessionNumber = "19700101", "A-1"


def _one_bit(slices: Slices) -> None:
    data_set = _marked(slices[25][1])
    stored = _stored(data_set)
    stored[200, 150] ^= 1
    data_set.PixelData = stored.tobytes()


def _region(slices: Slices) -> None:
    """A ball of soft tissue in the lung, with the noise that the lung had there."""
    k0, j0, i0 = REGION_KJI
    for k, (_, data_set) in enumerate(slices):
        stored = _stored(data_set)
        j, i = np.ogrid[: stored.shape[0], : stored.shape[1]]
        step, pixel = float(data_set.SliceThickness), [float(v) for v in data_set.PixelSpacing]
        distance = np.sqrt(((k - k0) * step) ** 2 + ((j - j0) * pixel[0]) ** 2 + ((i - i0) * pixel[1]) ** 2)
        ball = distance <= REGION_MM / 2
        if ball.any():
            raised = REGION_HU - float(data_set.RescaleIntercept) - stored[ball].mean()
            stored[ball] += np.int16(raised)
            _marked(data_set).PixelData = stored.tobytes()


def _lossy(slices: Slices) -> None:
    """Eight bits and baseline JPEG, with the UIDs that lossy compression must have (PS3.3 C.7.6.1.1.5)."""
    for _, data_set in slices:
        units = _stored(data_set) * float(data_set.RescaleSlope) + float(data_set.RescaleIntercept)
        low, high = float(units.min()), float(units.max())
        slope = (high - low) / 255.0
        buffer = BytesIO()
        grey = np.rint((units - low) / slope).astype(np.uint8)
        Image.fromarray(grey).save(buffer, "JPEG", quality=JPEG_QUALITY)
        data_set.PixelData = encapsulate([buffer.getvalue()])
        data_set["PixelData"].is_undefined_length = True
        data_set["PixelData"].VR = "OB"
        data_set.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        data_set.BitsAllocated = data_set.BitsStored = 8
        data_set.HighBit, data_set.PixelRepresentation = 7, 0
        data_set.RescaleSlope, data_set.RescaleIntercept = f"{slope:.10g}", f"{low:.10g}"
        data_set.LossyImageCompression, data_set.LossyImageCompressionMethod = "01", "ISO_10918_1"
        data_set.SOPInstanceUID = generate_uid(entropy_srcs=[data_set.SOPInstanceUID, "lossy"])
        data_set.file_meta.MediaStorageSOPInstanceUID = data_set.SOPInstanceUID


def _slice_removed(slices: Slices) -> None:
    slices[20][0].unlink()


def _slope(slices: Slices) -> None:
    for _, data_set in slices:
        _marked(data_set).RescaleSlope = NEW_SLOPE


MEETINGS = (
    Meeting("1-identical", "as it was recorded", _as_it_was, Answer.IDENTICAL),
    Meeting("2-recompressed", "recompressed without loss (JPEG-LS)", _recompressed, Answer.SAME_PIXELS),
    Meeting(
        "3-reconciled", "patient reconciled: name, ID, birth date, accession number", _reconciled, Answer.SAME_PIXELS
    ),
    Meeting("4-one-bit", "one bit of one voxel flipped", _one_bit, Answer.PIXELS_CHANGED),
    Meeting("5-region", "a region of 20 mm altered", _region, Answer.PIXELS_CHANGED),
    Meeting("6-lossy", "lossy JPEG", _lossy, Answer.LOSSY),
    Meeting("7-slice-removed", "a slice removed", _slice_removed, Answer.SLICES_CHANGED),
    Meeting("8-slope", "rescale slope edited", _slope, Answer.GEOMETRY_CHANGED),
)


def _stored(data_set: FileDataset) -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
    shape = int(data_set.Rows), int(data_set.Columns)
    return np.frombuffer(data_set.PixelData, "<i2").reshape(shape).copy()


def _marked(data_set: FileDataset) -> FileDataset:
    data_set.ImageComments = SIMULATED
    return data_set


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """What the demo found. as_expected: every answer is the one that is true, and the changed places are where they are."""

    verified: tuple[tuple[Meeting, Verified], ...]
    page: Path
    as_expected: bool


def run_ledger_demo(out: Path | None, progress: Progress = silent) -> Shown:
    """Write everything into a new folder (None: a temporary one): the study, the ledger, eight copies, the page.

    Raises UsageError if the folder already holds such a demo, or without the extra `ledger`.
    """
    folder = Path(mkdtemp(prefix="jachai-ledger-demo-")) if out is None else out
    study, ledger = folder / "study", folder / "ledger"
    if study.exists() or ledger.exists():
        raise UsageError(f"{str(folder)!r} already holds a demo.", "Choose another folder: nothing is overwritten.")
    progress("making the study", 0.0)
    write_phantom(STUDY, study)
    progress("recording", 0.0)
    add([study], ledger, keep=True)
    verified = []
    for number, meeting in enumerate(MEETINGS):
        progress(f"meeting it again: {meeting.title}", number / len(MEETINGS))
        copy = folder / meeting.name
        _altered_copy(study, copy, meeting)
        verified.append((meeting, verify(copy, ledger)))
    page = write_ledger_page([_chapter(meeting, found) for meeting, found in verified], folder)
    return Shown(tuple(verified), page, all(_is_true(meeting, found) for meeting, found in verified))


def _altered_copy(study: Path, copy: Path, meeting: Meeting) -> None:
    shutil.copytree(study, copy)
    slices = [(path, dcmread(path)) for path in sorted(copy.iterdir())]
    meeting.change(slices)
    for path, data_set in slices:
        if path.exists() and meeting.change is not _as_it_was and meeting.change is not _slice_removed:
            data_set.save_as(path, enforce_file_format=True)


def _is_true(meeting: Meeting, verified: Verified) -> bool:
    [answer] = verified.answers
    if answer.answer is not meeting.expected:
        return False
    places = {"4-one-bit": ((25, 26), (200, 201), (150, 151))}
    if meeting.name in places:
        return [region.box_kji for region in answer.regions] == [places[meeting.name]]
    if meeting.name == "5-region":
        [region] = answer.regions
        return all(low <= c < high for c, (low, high) in zip(REGION_KJI, region.box_kji, strict=True))
    return answer.missing == ((20,) if meeting.name == "7-slice-removed" else ())


def _chapter(meeting: Meeting, verified: Verified) -> Chapter:
    [answer] = verified.answers
    return Chapter(meeting.title, answer.answer.value, answer.sentences(), [picture(d) for d in verified.differences])
