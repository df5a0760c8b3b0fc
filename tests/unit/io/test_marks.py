"""Marks of simulated tampering: in DICOM and NIfTI, seen by other readers and by ours, whatever stands there."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from frames import volume
from hypothesis import given
from hypothesis import strategies as st

from jachai.core.volume import Modality
from jachai.io import dicom
from jachai.io.marks import NOTE, SIMULATED, is_marked
from jachai.io.nifti import NIFTI
from jachai.io.reader import plain_allocate
from jachai.io.writer import DicomHeader, write_dicom, write_nifti

RECORD = '{"note":"' + "a record, ü " * 300 + '"}'


def notes_of(path: Path) -> tuple[str, ...]:
    return tuple(dicom.inspect(path, b"key").notes)


def test_marks_fit_their_fields() -> None:
    assert len(SIMULATED) <= 64 and len(SIMULATED.encode("ascii")) < 80
    assert is_marked("x", f"... {SIMULATED.lower()}") and not is_marked("", "simulated")


@pytest.mark.parametrize("field", ["series_description", "image_comments", "record_json"])
def test_each_dicom_mark_alone_is_seen(field: str, tmp_path: Path) -> None:
    text = RECORD if field == "record_json" else SIMULATED
    paths = write_dicom(volume(), tmp_path / "marked", header=DicomHeader(**{field: text}))
    assert all(NOTE in notes_of(path) for path in paths)
    plain = write_dicom(volume(), tmp_path / "plain", header=DicomHeader())
    assert not any(NOTE in notes_of(path) for path in plain)


def test_the_record_is_read_by_pydicom(tmp_path: Path) -> None:
    for path in write_dicom(volume(), tmp_path, header=DicomHeader(record_json=RECORD)):
        assert pydicom.dcmread(path).private_block(0x0099, "JACHAI")[0x00].value == RECORD


def test_a_private_group_of_somebody_else_is_no_mark(tmp_path: Path) -> None:
    [path, *_] = write_dicom(volume(), tmp_path, header=DicomHeader())
    file = pydicom.dcmread(path)
    file.private_block(0x0099, "SOMEBODY", create=True).add_new(0x00, "UT", "theirs")
    file.save_as(path)
    assert NOTE not in notes_of(path)
    file.private_block(0x0099, "JACHAI", create=True).add_new(0x00, "UT", "ours, in the second block")
    file.save_as(path)
    assert NOTE in notes_of(path)


@pytest.mark.parametrize("modality", [Modality.CT, Modality.MR])
def test_the_private_block_conforms(modality: Modality, tmp_path: Path) -> None:
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (Debian package dicom3tools)")
    header = DicomHeader(record_json=RECORD, series_description=SIMULATED, image_comments=SIMULATED)
    for path in write_dicom(volume(modality=modality), tmp_path, header=header)[:1]:
        said = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False).stderr
        assert [line for line in said.splitlines() if line.startswith("Error")] == [] and modality.value in said


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
@given(comment=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=100))
def test_nifti_with_a_comment_is_read_by_all(name: str, comment: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("nifti") / name
    write_nifti(volume(), path, description=SIMULATED, comment=comment)
    image = nib.load(path)
    assert np.array_equal(image.get_fdata().transpose(2, 1, 0), volume().voxels)
    assert [extension.text for extension in image.header.extensions] == ([comment] if comment else [])
    [decoded] = NIFTI.read(path, plain_allocate)
    assert decoded.notes == (NOTE,) and np.array_equal(decoded.voxels, volume().voxels)
