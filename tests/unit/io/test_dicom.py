"""DICOM files of every kind that is read → the right voxels in the right place, and what is said about them."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import dicom_samples as samples
import numpy as np
import pytest
import SimpleITK as sitk
from dicom_samples import AXIAL, CORONAL, OBLIQUE, SAGITTAL, Series
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import uid

from jachai.core.volume import AIR_HU, Modality, Volume
from jachai.io.files import Refusal, read


def volumes_of(path: Path) -> list[Volume]:
    results = list(read(path))
    assert [r for r in results if isinstance(r, Refusal)] == []
    return [r for r in results if isinstance(r, Volume)]


def volume_of(path: Path) -> Volume:
    (volume,) = volumes_of(path)
    return volume


def expected_hu(n: int) -> np.ndarray:
    return np.stack([samples.pattern(k) for k in range(n)]).astype(np.float32) - 1024


@pytest.mark.parametrize(
    "orientation", [AXIAL, SAGITTAL, CORONAL, OBLIQUE], ids=["axial", "sagittal", "coronal", "oblique"]
)
@pytest.mark.parametrize("step", [2.5, -2.5], ids=["upwards", "downwards"])
def test_geometry_and_voxels_agree_with_simpleitk(tmp_path: Path, orientation: tuple[float, ...], step: float) -> None:
    series = Series(orientation=orientation, step=step)
    samples.write_series(tmp_path, series)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    image = reader.Execute()
    theirs = sitk.GetArrayFromImage(image)

    volume = volume_of(tmp_path)

    assert volume.geometry is not None
    assert volume.shape == (4, 16, 20)
    assert volume.spacing_mm == pytest.approx((2.5, 0.5, 0.75))
    for k, j, i in itertools.product((0, 3), (0, 15), (0, 19)):
        position = volume.geometry.index_to_mm([k, j, i])
        index = image.TransformPhysicalPointToIndex([float(x) for x in position])
        assert theirs[index[::-1]] == volume.voxels[k, j, i]
        assert image.TransformIndexToPhysicalPoint(index) == pytest.approx(tuple(position), abs=1e-6)


@pytest.mark.parametrize(
    "syntax",
    [
        uid.ImplicitVRLittleEndian,
        uid.ExplicitVRLittleEndian,
        uid.ExplicitVRBigEndian,
        uid.DeflatedExplicitVRLittleEndian,
    ],
)
def test_native_transfer_syntaxes(tmp_path: Path, syntax: uid.UID) -> None:
    data_set = samples.slice_of(Series(), 0)
    data_set.file_meta.TransferSyntaxUID = syntax
    if syntax == uid.ExplicitVRBigEndian:
        data_set = samples.big_endian(data_set)
    volume = volume_of(samples.save(data_set, tmp_path / "a.dcm"))
    np.testing.assert_array_equal(volume.voxels, expected_hu(1))
    assert not volume.provenance.lossy


@pytest.mark.parametrize("syntax", [uid.JPEGLSLossless, uid.JPEG2000Lossless, uid.RLELossless])
@pytest.mark.parametrize("dtype", ["i2", "u2"])
def test_lossless_compression_changes_nothing(tmp_path: Path, syntax: uid.UID, dtype: str) -> None:
    pixels = samples.pattern(0, (64, 48), dtype)
    if dtype == "i2":
        pixels = pixels - 500
    data_set = samples.compressed(samples.slice_of(Series(), 0, pixels), syntax)
    volume = volume_of(samples.save(data_set, tmp_path / "a.dcm"))
    np.testing.assert_array_equal(volume.voxels[0], np.maximum(pixels.astype(np.float32) - 1024, AIR_HU))
    assert not volume.provenance.lossy


def test_jpeg_lossless(tmp_path: Path) -> None:
    native = samples.save(samples.slice_of(Series(), 0, samples.pattern(0, (64, 48), "u2")), tmp_path / "native")
    path = samples.write_jpeg_lossless(native, tmp_path / "jpeg.dcm")
    np.testing.assert_array_equal(volume_of(path).voxels, volume_of(native).voxels)


def test_htj2k(tmp_path: Path) -> None:
    data_set = samples.slice_of(Series(), 0, samples.htj2k_pixels())
    samples.recode(data_set, uid.HTJ2KLossless, [samples.HTJ2K_FRAME])
    volume = volume_of(samples.save(data_set, tmp_path / "a.dcm"))
    np.testing.assert_array_equal(volume.voxels[0], samples.htj2k_pixels().astype(np.float32) - 1024)


def test_near_lossless_is_flagged(tmp_path: Path) -> None:
    pixels = samples.pattern(0, (64, 48), "u2")
    data_set = samples.compressed(samples.slice_of(Series(), 0, pixels), uid.JPEGLSNearLossless)
    volume = volume_of(samples.save(data_set, tmp_path / "a.dcm"))
    assert volume.provenance.lossy
    assert np.abs(volume.voxels[0] - (pixels.astype(np.float32) - 1024)).max() <= 2
    assert "The pixels were at some time compressed with loss." in volume.provenance.notes


def test_twelve_bits_signed_in_jpeg_ls(tmp_path: Path) -> None:
    """JPEG-LS knows no sign: 12 bits of two's complement must get theirs back, whatever the upper bits hold."""
    pixels = samples.pattern(0, (64, 48), "i2") - 1500
    data_set = samples.slice_of(Series(), 0, (pixels & 0xFFF).astype("u2"))
    data_set.BitsStored, data_set.HighBit, data_set.PixelRepresentation = 12, 11, 1
    data_set.RescaleIntercept = 500
    samples.compressed(data_set, uid.JPEGLSLossless)
    volume = volume_of(samples.save(data_set, tmp_path / "a.dcm"))
    np.testing.assert_array_equal(volume.voxels[0], pixels.astype(np.float32) + 500)


def test_bits_above_the_stored_ones_are_no_image(tmp_path: Path) -> None:
    pixels = samples.pattern(0, dtype="u2")
    data_set = samples.slice_of(Series(), 0, pixels | 0xF000)
    data_set.BitsStored, data_set.HighBit = 12, 11
    volume = volume_of(samples.save(data_set, tmp_path / "a.dcm"))
    np.testing.assert_array_equal(volume.voxels[0], pixels.astype(np.float32) - 1024)


@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.JPEGLSLossless])
def test_enhanced_multi_frame(tmp_path: Path, modality: str, syntax: uid.UID) -> None:
    series = Series(n=5, step=-2.0, orientation=OBLIQUE)
    data_set = samples.enhanced(series, modality)
    if syntax == uid.JPEGLSLossless:
        samples.compressed(data_set, syntax)
    path = samples.save(data_set, tmp_path / "enhanced.dcm")
    volume = volume_of(path)
    # frames run against the normal: the last frame is the first slice; each has its own intercept
    expected = np.stack([samples.pattern(k).astype(np.float32) - 1024 + k for k in range(5)])[::-1]
    np.testing.assert_array_equal(volume.voxels, expected)
    assert volume.modality == Modality(modality)
    assert volume.geometry is not None
    np.testing.assert_allclose(volume.geometry.origins_mm[0], series.position(4))
    assert volume.provenance.source_files == (path,) * 5


def test_echoes_of_an_enhanced_object_become_volumes(tmp_path: Path) -> None:
    series = Series(n=3)
    data_set = samples.enhanced(series, "MR", np.stack([samples.pattern(k) for k in range(6)]))
    data_set.NumberOfFrames = 6
    groups = [samples.frame_groups(series, k % 3, 0) for k in range(6)]
    for n, group in enumerate(groups):
        group.MREchoSequence = [samples.item(EffectiveEchoTime=10.0 * (1 + n // 3))]
    data_set.PerFrameFunctionalGroupsSequence = groups
    first, second = volumes_of(samples.save(data_set, tmp_path / "a.dcm"))
    np.testing.assert_array_equal(first.voxels, np.stack([samples.pattern(k) for k in range(3)]))
    np.testing.assert_array_equal(second.voxels, np.stack([samples.pattern(k) for k in range(3, 6)]))


def test_rescale_of_each_slice(tmp_path: Path) -> None:
    for k, slope in enumerate((1.0, 2.0, 0.5)):
        data_set = samples.slice_of(Series(), k)
        data_set.RescaleSlope = slope
        samples.save(data_set, tmp_path / f"{k}.dcm")
    volume = volume_of(tmp_path)
    for k, slope in enumerate((1.0, 2.0, 0.5)):
        np.testing.assert_array_equal(volume.voxels[k], samples.pattern(k).astype(np.float32) * slope - 1024)
    assert volume.provenance.step is None
    assert volume_of(tmp_path / "1.dcm").provenance.step == 2.0


def test_monochrome1_is_inverted_as_simpleitk_does(tmp_path: Path) -> None:
    data_set = samples.slice_of(Series(), 0, samples.pattern(0, dtype="u2"))
    data_set.BitsStored, data_set.HighBit, data_set.PhotometricInterpretation = 12, 11, "MONOCHROME1"
    path = samples.save(data_set, tmp_path / "a.dcm")
    volume = volume_of(path)
    np.testing.assert_array_equal(volume.voxels[0], 4095 - samples.pattern(0).astype(np.float32) - 1024)
    theirs = sitk.GetArrayFromImage(sitk.ReadImage(path))
    np.testing.assert_array_equal(volume.voxels, theirs)


@pytest.mark.parametrize(("value", "note"), [(-2000, "hold the padding"), (63536, "written as 63536")])
def test_stated_padding_becomes_air(tmp_path: Path, value: int, note: str) -> None:
    pixels = samples.pattern(0) + 100
    pixels[:3] = -2000
    data_set = samples.slice_of(Series(), 0, pixels)
    data_set.add_new("PixelPaddingValue", "US" if value > 0 else "SS", value)
    volume = volume_of(samples.save(data_set, tmp_path / "a.dcm"))
    assert (volume.voxels[0, :3] == AIR_HU).all()
    np.testing.assert_array_equal(volume.voxels[0, 3:], pixels[3:].astype(np.float32) - 1024)
    assert any(note in text for text in volume.provenance.notes)
    assert any("60 voxels hold the padding value" in text for text in volume.provenance.notes)


def test_undeclared_padding_is_raised_and_noted(tmp_path: Path) -> None:
    pixels = samples.pattern(0) + 100
    pixels[:3] = -2000
    volume = volume_of(samples.save(samples.slice_of(Series(), 0, pixels), tmp_path / "a.dcm"))
    assert volume.voxels.min() == AIR_HU
    assert any("60 voxels below −1024 HU (lowest -3024)" in text for text in volume.provenance.notes)


def test_padding_that_could_be_tissue_is_not_believed(tmp_path: Path) -> None:
    pixels = np.full((16, 20), 1024 + 40, "i2")
    data_set = samples.slice_of(Series(), 0, pixels)
    data_set.add_new("PixelPaddingValue", "SS", 1024 + 40)
    assert (volume_of(samples.save(data_set, tmp_path / "a.dcm")).voxels == 40).all()


def test_mr_is_stored_times_slope(tmp_path: Path) -> None:
    data_set = samples.slice_of(Series(), 0, samples.pattern(0, dtype="u2"), "MR")
    volume = volume_of(samples.save(data_set, tmp_path / "a.dcm"))
    np.testing.assert_array_equal(volume.voxels[0], samples.pattern(0))
    assert volume.modality is Modality.MR


def test_a_single_slice_is_a_volume_of_one(tmp_path: Path) -> None:
    volume = volume_of(samples.write_series(tmp_path, Series(n=1))[0])
    assert volume.shape == (1, 16, 20)
    assert volume.spacing_mm == pytest.approx((2.5, 0.5, 0.75))


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(5)))
def test_the_order_of_files_does_not_matter(tmp_path_factory: pytest.TempPathFactory, order: list[int]) -> None:
    folder = tmp_path_factory.mktemp("order")
    for n, k in enumerate(order):
        samples.save(samples.slice_of(Series(), k), folder / f"{n}.dcm")
    np.testing.assert_array_equal(volume_of(folder).voxels, expected_hu(5))


def test_missing_slice_tilt_and_uneven_spacing_are_warned_of(tmp_path: Path) -> None:
    for path in samples.write_series(tmp_path / "gap", Series(n=7))[3:4]:
        path.unlink()
    gap = volume_of(tmp_path / "gap")
    assert gap.shape[0] == 6
    assert gap.geometry is not None and gap.geometry.gaps == (2,)
    assert any("missing" in text for text in gap.provenance.warnings)

    samples.write_series(tmp_path / "tilt", Series(shift=(0, 0.5, 0)))
    assert any("gantry tilt of 11.3" in text for text in volume_of(tmp_path / "tilt").provenance.warnings)

    for k, z in enumerate((0.0, 2.0, 4.2, 6.0, 8.0)):
        data_set = samples.slice_of(Series(), k)
        data_set.ImagePositionPatient = [0, 0, z]
        samples.save(data_set, tmp_path / "uneven" / f"{k}.dcm")
    assert any("unevenly" in text for text in volume_of(tmp_path / "uneven").provenance.warnings)

    samples.write_series(tmp_path / "even")
    assert volume_of(tmp_path / "even").provenance.warnings == ()


@pytest.mark.parametrize(
    ("keyword", "values"),
    [
        ("EchoTime", [10.0, 20.0]),
        ("EchoNumbers", [1, 2, 3]),
        ("DiffusionBValue", [0.0, 1000.0]),
        ("TemporalPositionIdentifier", [1, 2]),
        ("AcquisitionNumber", [1, 2]),
        ("ConvolutionKernel", ["B30f", "B70f"]),
        ("ImageType", [["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"]]),
        (None, [1, 2]),
    ],
)
def test_repeated_positions_become_volumes(tmp_path: Path, keyword: str | None, values: list[object]) -> None:
    for n, value in enumerate(values):
        for k in range(4):
            data_set = samples.slice_of(Series(), k, samples.pattern(k) + 1000 * n)
            data_set.SOPInstanceUID = f"{samples.ROOT}.5.{n}.{k}"
            data_set.InstanceNumber = 1 + n * 4 + k
            if keyword is not None:
                setattr(data_set, keyword, value)
            samples.save(data_set, tmp_path / f"{(k * 7 + n * 3) % 11}-{n}-{k}.dcm")
    volumes = sorted(volumes_of(tmp_path), key=lambda volume: float(volume.voxels.mean()))
    assert len(volumes) == len(values)
    for n, volume in enumerate(volumes):
        np.testing.assert_array_equal(volume.voxels, expected_hu(4) + 1000 * n)
        assert any("sets of slices" in text for text in volume.provenance.warnings)


def test_sizes_and_orientations_within_a_series_are_split(tmp_path: Path) -> None:
    samples.write_series(tmp_path / "a", Series(n=3))
    for k, (shape, orientation) in enumerate((((8, 8), AXIAL), ((16, 20), SAGITTAL))):
        series = Series(orientation=orientation)
        data_set = samples.slice_of(series, 10 + k, samples.pattern(0, shape))
        samples.save(data_set, tmp_path / "b" / f"{k}.dcm")
    assert sorted(volume.shape for volume in volumes_of(tmp_path)) == [(1, 8, 8), (1, 16, 20), (3, 16, 20)]


def test_patients_studies_and_series_are_kept_apart(tmp_path: Path) -> None:
    for n in range(3):
        samples.write_series(tmp_path / "a", Series(n=2, uid=f"{samples.ROOT}.7.{n}"))
        shutil.move(tmp_path / "a", tmp_path / f"s{n}")
    for n in range(2):  # two patients whose series are both called "1"
        for k in range(2):
            data_set = samples.slice_of(Series(uid="1"), k)
            data_set.PatientID = f"P{n}"
            samples.save(data_set, tmp_path / f"p{n}" / f"{k}.dcm")
    volumes = volumes_of(tmp_path)
    assert [volume.shape[0] for volume in volumes] == [2] * 5
    assert any("SeriesInstanceUID is not a valid unique identifier." in volume.provenance.notes for volume in volumes)


def test_copies_are_refused_and_altered_copies_named(tmp_path: Path) -> None:
    samples.write_series(tmp_path, Series(n=2))
    shutil.copy(tmp_path / "000.dcm", tmp_path / "copy.dcm")
    samples.save(samples.slice_of(Series(), 1, samples.pattern(1) + 1), tmp_path / "other.dcm")
    results = list(read(tmp_path))
    (volume,) = (r for r in results if isinstance(r, Volume))
    refused = {Path(r.path).name: r.reason for r in results if isinstance(r, Refusal)}
    assert set(refused) == {"copy.dcm", "other.dcm"}
    assert "copy of" in refused["copy.dcm"] and "altered" in refused["other.dcm"]
    assert any("with other pixels" in note for note in volume.provenance.notes)
    np.testing.assert_array_equal(volume.voxels, expected_hu(2))


def test_cloned_headers_are_noted(tmp_path: Path) -> None:
    for k in range(3):
        data_set = samples.slice_of(Series(), k)
        data_set.SOPInstanceUID = "0"
        samples.save(data_set, tmp_path / f"{k}.dcm")
    volume = volume_of(tmp_path)
    assert volume.shape[0] == 3
    assert "3 slices share one SOP Instance UID: their headers were cloned." in volume.provenance.notes
    assert "SOPInstanceUID is not a valid unique identifier." in volume.provenance.notes


def test_contradicting_headers_are_noted_without_patient_data(tmp_path: Path) -> None:
    for k in range(3):
        data_set = samples.slice_of(Series(), k)
        if k == 1:
            data_set.PatientID, data_set.Manufacturer = "SECRET-2", "Somebody"
        samples.save(data_set, tmp_path / f"{k}.dcm")
    volume = volume_of(tmp_path)
    notes = " ".join(volume.provenance.notes)
    assert "2 different values of Patient ID" in notes and "2 different values of maker" in notes
    assert "SECRET" not in repr(volume.provenance) and "Secret" not in repr(volume.provenance)


def test_writer_and_attributes_are_told(tmp_path: Path) -> None:
    data_set = samples.slice_of(Series(), 0)
    data_set.ConvolutionKernel, data_set.KVP = "B70f", 120
    data_set.file_meta.ImplementationVersionName = "EVILTOOL_1"
    volume = volume_of(samples.save(data_set, tmp_path / "a.dcm"))
    assert volume.provenance.attributes["Kernel"] == "B70f"
    assert volume.provenance.attributes["Maker"] == "Nobody"
    assert "Written by EVILTOOL_1." in volume.provenance.notes


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian])
def test_without_preamble(tmp_path: Path, syntax: uid.UID) -> None:
    data_set = samples.slice_of(Series(), 0)
    del data_set.file_meta
    path = tmp_path / "bare"
    data_set.save_as(
        path, implicit_vr=syntax == uid.ImplicitVRLittleEndian, little_endian=True, enforce_file_format=False
    )
    path.write_bytes(path.read_bytes().removeprefix(b"\0" * 128 + b"DICM"))
    volume = volume_of(path)
    assert "The file has no DICOM preamble." in volume.provenance.notes
    np.testing.assert_array_equal(volume.voxels, expected_hu(1))


@pytest.mark.parametrize("magic", [b"MZ\x90\x00", b"\x7fELF\x02", b"#!/bin/sh\n"])
def test_executable_preamble_is_noted(tmp_path: Path, magic: bytes) -> None:
    path = samples.preset_bytes(samples.write_series(tmp_path, Series(n=1))[0], magic, 0)
    assert any("executable" in note for note in volume_of(path).provenance.notes)


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["ct/lidc-0001", "mr/brain-sag"])
def test_real_series_agrees_with_pydicom_and_simpleitk_geometry(real_data: Path, name: str) -> None:
    import pydicom

    volume = volume_of(real_data / name)
    assert volume.geometry is not None
    for k in (0, volume.shape[0] // 2, volume.shape[0] - 1):
        data_set = pydicom.dcmread(volume.provenance.source_files[k])
        values = data_set.pixel_array * float(data_set.get("RescaleSlope", 1)) + float(
            data_set.get("RescaleIntercept", 0)
        )
        if volume.modality is Modality.CT:
            values = np.maximum(values, AIR_HU)
        np.testing.assert_array_equal(volume.voxels[k], values.astype(np.float32))
        np.testing.assert_allclose(volume.geometry.index_to_mm([k, 0, 0]), data_set.ImagePositionPatient, atol=1e-6)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(path) for path in volume.provenance.source_files])
    reader_image = sitk.ReadImage(str(volume.provenance.source_files[0]))
    last = (volume.shape[2] - 1, volume.shape[1] - 1, 0)
    np.testing.assert_allclose(
        volume.geometry.index_to_mm([0, last[1], last[0]]), reader_image.TransformIndexToPhysicalPoint(last), atol=1e-3
    )
