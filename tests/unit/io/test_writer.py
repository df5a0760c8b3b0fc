"""What is written is what was given: checked with pydicom, SimpleITK, nibabel and dciodvfy, and by reading it back."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK
from frames import FRAMES, SHAPE, geometry, volume, voxels
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from jachai.core.errors import UsageError
from jachai.core.geometry import Geometry
from jachai.core.volume import Modality, Provenance, Volume
from jachai.io.metaimage import METAIMAGE
from jachai.io.nifti import NIFTI
from jachai.io.reader import plain_allocate
from jachai.io.writer import DicomHeader, to_stored, write_dicom, write_map_nifti, write_metaimage, write_nifti

HEADER = DicomHeader(uid_seed="test", series_description="made by a test")
RNG = np.random.default_rng(7)
INDICES_KJI = np.array([(0, 0, 0), np.array(SHAPE) - 1, *(RNG.integers(0, SHAPE) for _ in range(6))])
FLOAT32_MM = 1e-4
"""NIfTI-1 keeps its affine in float32."""


def itk_position(image: SimpleITK.Image, index_kji: np.ndarray) -> np.ndarray:
    return np.array(image.TransformIndexToPhysicalPoint([int(index) for index in index_kji[::-1]]))


def read_itk_series(paths: tuple[Path, ...]) -> SimpleITK.Image:
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames([str(path) for path in paths])
    return reader.Execute()


@pytest.mark.parametrize("frame", FRAMES)
def test_dicom_agrees_with_simpleitk(frame: str, tmp_path: Path) -> None:
    given_volume = volume(geometry(frame))
    image = read_itk_series(write_dicom(given_volume, tmp_path / "series", header=HEADER))
    assert np.array_equal(SimpleITK.GetArrayFromImage(image), given_volume.voxels)
    for index in INDICES_KJI:
        assert np.allclose(itk_position(image, index), given_volume.geometry.index_to_mm(index), atol=1e-6)


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz", "v.mha", "v.mhd"])
def test_single_files_agree_with_simpleitk(frame: str, name: str, tmp_path: Path) -> None:
    given_volume = volume(geometry(frame))
    write = write_nifti if ".nii" in name else write_metaimage
    write(given_volume, tmp_path / name)
    image = SimpleITK.ReadImage(str(tmp_path / name))
    assert np.array_equal(SimpleITK.GetArrayFromImage(image), given_volume.voxels)
    for index in INDICES_KJI:
        assert np.allclose(itk_position(image, index), given_volume.geometry.index_to_mm(index), atol=FLOAT32_MM)


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("tilt_mm", [0.0, 0.6])
def test_nifti_agrees_with_nibabel(frame: str, tilt_mm: float, tmp_path: Path) -> None:
    given_volume = volume(geometry(frame, tilt_mm=tilt_mm))
    image = nib.load(write_nifti(given_volume, tmp_path / "v.nii.gz"))
    assert np.array_equal(image.get_fdata().transpose(2, 1, 0), given_volume.voxels)
    for index in INDICES_KJI:
        ras = nib.affines.apply_affine(image.affine, index[::-1])
        assert np.allclose(ras * (-1, -1, 1), given_volume.geometry.index_to_mm(index), atol=FLOAT32_MM)


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("tilt_mm", [0.0, 0.6])
@pytest.mark.parametrize("n_slices", [1, 6])
@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz", "v.mha", "v.mhd"])
def test_written_then_read_is_the_same(frame: str, tilt_mm: float, n_slices: int, name: str, tmp_path: Path) -> None:
    given_volume = volume(geometry(frame, n_slices, tilt_mm))
    (write_nifti if ".nii" in name else write_metaimage)(given_volume, tmp_path / name)
    (decoded,) = (NIFTI if ".nii" in name else METAIMAGE).read(tmp_path / name, plain_allocate)
    assert np.array_equal(decoded.voxels, given_volume.voxels)
    assert decoded.modality is Modality.CT
    assert decoded.step == 1.0
    assert decoded.notes == ()
    for attribute in ("origins_mm", "row_step_mm", "column_step_mm"):
        difference = getattr(decoded.geometry, attribute) - getattr(given_volume.geometry, attribute)
        assert np.abs(difference).max() < FLOAT32_MM


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("modality", [Modality.CT, Modality.MR])
@pytest.mark.parametrize("uneven", [False, True])
def test_dicom_read_with_pydicom_is_the_same(frame: str, modality: Modality, uneven: bool, tmp_path: Path) -> None:
    given_volume = volume(geometry(frame, tilt_mm=0.6, uneven=uneven), modality)
    files = [pydicom.dcmread(path) for path in write_dicom(given_volume, tmp_path, header=HEADER)]
    for k, file in enumerate(files):
        slope, intercept = float(file.get("RescaleSlope", 1)), float(file.get("RescaleIntercept", 0))
        assert np.array_equal(file.pixel_array * slope + intercept, given_volume.voxels[k])
        assert np.allclose(file.ImagePositionPatient, given_volume.geometry.origins_mm[k], atol=1e-9)
        steps = np.reshape(file.ImageOrientationPatient, (2, 3)) * np.array(file.PixelSpacing)[::-1, None]
        assert np.allclose(steps, (given_volume.geometry.column_step_mm, given_volume.geometry.row_step_mm), atol=1e-9)
        assert file.Modality == modality
    assert len({file.SOPInstanceUID for file in files}) == len(files)
    assert len({file.SeriesInstanceUID for file in files}) == 1


def test_dicom_bytes_depend_on_volume_and_seed_only(tmp_path: Path) -> None:
    def written(folder: str, seed: str) -> list[bytes]:
        header = DicomHeader(uid_seed=seed)
        return [path.read_bytes() for path in write_dicom(volume(), tmp_path / folder, header=header)]

    assert written("a", "1") == written("b", "1")
    assert written("c", "2") != written("a2", "1")


@pytest.mark.parametrize("lossy", [True, False])
def test_what_was_lossy_stays_lossy(lossy: bool, tmp_path: Path) -> None:
    paths = write_dicom(
        replace(volume(), provenance=replace(volume().provenance, lossy=lossy)), tmp_path / "s", header=HEADER
    )
    assert {pydicom.dcmread(path).get("LossyImageCompression") for path in paths} == {"01" if lossy else None}


@pytest.mark.parametrize("name", ["v.nii.gz", "v.mha"])
def test_packed_bytes_repeat(name: str, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (write_nifti if ".nii" in name else write_metaimage)(volume(), tmp_path / folder / name)
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("modality", [Modality.CT, Modality.MR])
@pytest.mark.parametrize("frame", ["axial", "oblique"])
def test_dicom_conforms(modality: Modality, frame: str, tmp_path: Path) -> None:
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (Debian package dicom3tools)")
    header = DicomHeader(
        series_description="x", manufacturer="Jachai", kvp=120, kernel="B30f", image_comments="made up"
    )
    paths = write_dicom(volume(geometry(frame), modality), tmp_path, header=header)
    for path in (paths[0], paths[-1]):
        said = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False).stderr
        assert [line for line in said.splitlines() if line.startswith("Error")] == []
        assert modality.value in said


@given(
    voxels=npst.arrays(np.float32, (2, 3, 4), elements=st.floats(-3000, 3000, width=32)),
    step=st.sampled_from([0.25, 0.5, 1.0, 2.0]),
    intercept=st.sampled_from([-1024.0, 0.0, 17.0]),
)
def test_rounding_errs_by_half_a_step_at_most(voxels: np.ndarray, step: float, intercept: float) -> None:
    stored = to_stored(voxels, step, intercept)
    assert stored.dtype == np.int16
    assert np.abs(stored * step + intercept - voxels.astype(np.float64)).max() <= step / 2 + 1e-9
    assert np.array_equal(to_stored((stored * step + intercept).astype(np.float32), step, intercept), stored)


def test_values_that_do_not_fit_are_not_clipped() -> None:
    with pytest.raises(UsageError, match="16 bits"):
        to_stored(np.full((1, 1, 1), 40_000, np.float32), 1.0, 0.0)


@pytest.mark.parametrize(("lowest", "highest", "step"), [(0, 65_535, 1.0), (0, 1, None), (0, 1e7, 1.0), (5, 5, None)])
def test_any_range_of_mr_is_stored_within_its_step(lowest: float, highest: float, step: float, tmp_path: Path) -> None:
    values = np.linspace(lowest, highest, 480, dtype=np.float32).reshape(6, 8, 10)
    given_volume = Volume(values, Modality.MR, geometry(), Provenance("made up", "phantom", step=step))
    for k, path in enumerate(write_dicom(given_volume, tmp_path, header=HEADER)):
        file = pydicom.dcmread(path)
        slope = float(file.get("RescaleSlope", 1))
        read = file.pixel_array * slope + float(file.get("RescaleIntercept", 0))
        assert np.abs(read - values[k]).max() <= max(slope / 2, 1e-6) * 1.001
        assert slope <= max(step or 0, (highest - lowest) / 60_000) or highest == lowest


def test_floats_without_a_step_stay_floats(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(0, 300, (6, 8, 10)).astype(np.float32)
    given_volume = Volume(values, Modality.MR, geometry(), Provenance("made up", "phantom"))
    write_nifti(given_volume, tmp_path / "v.nii")
    write_metaimage(given_volume, tmp_path / "v.mha")
    assert np.array_equal(NIFTI.read(tmp_path / "v.nii", plain_allocate)[0].voxels, values)
    assert np.array_equal(METAIMAGE.read(tmp_path / "v.mha", plain_allocate)[0].voxels, values)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    write_nifti(volume(), tmp_path / "v.nii")
    write_metaimage(volume(), tmp_path / "v.mha")
    write_metaimage(volume(), tmp_path / "v.mhd")
    paths = write_dicom(volume(), tmp_path / "s", header=HEADER)
    for path in paths[:3]:
        path.unlink()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for write in (
        lambda: write_nifti(volume(seed=1), tmp_path / "v.nii"),
        lambda: write_map_nifti(voxels(), geometry(), tmp_path / "v.nii"),
        lambda: write_metaimage(volume(seed=1), tmp_path / "v.mha"),
        lambda: write_metaimage(volume(seed=1), tmp_path / "v.mhd"),
        lambda: write_dicom(volume(seed=1), tmp_path / "s", header=HEADER),
    ):
        with pytest.raises(UsageError, match="already there"):
            write()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_dangling_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "v.nii").symlink_to(tmp_path / "elsewhere.nii")
    with pytest.raises(UsageError, match="already there"):
        write_nifti(volume(), tmp_path / "v.nii")
    assert not (tmp_path / "elsewhere.nii").exists()


def test_half_a_file_does_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> bytes:
        raise OSError("no space left")

    monkeypatch.setattr("jachai.io.writer.zlib.compress", full)
    monkeypatch.setattr("jachai.io.writer.gzip.GzipFile.write", full)
    for write, name in ((write_metaimage, "v.mha"), (write_nifti, "v.nii.gz")):
        with pytest.raises(OSError, match="space"):
            write(volume(), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["v.txt", "v.nii.bz2", "v"])
def test_another_ending_is_refused(name: str, tmp_path: Path) -> None:
    for write in (write_nifti, write_metaimage):
        with pytest.raises(UsageError, match="end in"):
            write(volume(), tmp_path / name)


def test_uneven_slices_need_dicom(tmp_path: Path) -> None:
    uneven = volume(geometry(uneven=True))
    for write, name in ((write_nifti, "v.nii"), (write_metaimage, "v.mha")):
        with pytest.raises(UsageError, match="uneven"):
            write(uneven, tmp_path / name)
    assert len(write_dicom(uneven, tmp_path / "s", header=HEADER)) == SHAPE[0]


def test_a_picture_is_no_scan(tmp_path: Path) -> None:
    picture = Volume(voxels(), Modality.PICTURE, None, Provenance("made up", "PNG"))
    for write in (
        lambda: write_nifti(picture, tmp_path / "v.nii"),
        lambda: write_metaimage(picture, tmp_path / "v.mha"),
        lambda: write_dicom(picture, tmp_path, header=HEADER),
    ):
        with pytest.raises(UsageError, match="picture"):
            write()


@pytest.mark.parametrize("uneven", [False, True])
def test_a_map_lies_over_its_volume(uneven: bool, tmp_path: Path) -> None:
    where: Geometry = geometry("oblique", uneven=uneven)
    values = np.random.default_rng(3).random(SHAPE).astype(np.float32)
    image = nib.load(write_map_nifti(values, where, tmp_path / "map.nii.gz"))
    data, to_index = image.get_fdata(), np.linalg.inv(image.affine)
    assert image.get_data_dtype() == np.float32
    for index in INDICES_KJI:
        ras = where.index_to_mm(index) * (-1, -1, 1)
        i, j, k = np.rint(nib.affines.apply_affine(to_index, ras)).astype(int)
        assert data[i, j, k] == values[tuple(index)]
    assert data.shape[2] == SHAPE[0] + uneven
