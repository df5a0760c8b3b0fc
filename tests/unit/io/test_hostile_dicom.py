"""DICOM files that are cut, contradict themselves or are made to do harm → one named reason each, the rest still read."""

from __future__ import annotations

import re
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import dicom_samples as samples
import numpy as np
import pytest
from dicom_samples import Series
from pydicom import uid
from pydicom.dataset import FileDataset

from jachai.core.volume import Volume
from jachai.io.files import Refusal, read

GOOD = Series(n=1, uid=f"{samples.ROOT}.77")


def outcome(folder: Path) -> tuple[list[Volume], dict[str, str]]:
    """The volumes, and file name → reason. Every file ends in one of them, and no reason names a patient."""
    results = list(read(folder))
    volumes = [r for r in results if isinstance(r, Volume)]
    refused = {Path(r.path).name: r.reason for r in results if isinstance(r, Refusal)}
    used = [path.name for volume in volumes for path in volume.provenance.source_files]
    there = sorted(path.name for path in folder.rglob("*") if path.is_file())
    assert sorted({*used, *refused}) == there
    for text in refused.values():
        assert "SECRET" not in text and "Secret" not in text
        assert text.isprintable() and text.endswith(".") and len(text) > 15
    return volumes, refused


def refusal_beside_a_good_file(folder: Path, bad: str) -> str:
    """The reason for the one bad file of a folder; the good one must be read."""
    samples.save(samples.slice_of(GOOD, 0), folder / "good.dcm")
    volumes, refused = outcome(folder)
    assert [v.provenance.series_uid for v in volumes] == [GOOD.uid]
    assert list(refused) == [bad]
    return refused[bad]


Change = Callable[[FileDataset], object]


def _set(keyword: str, value: object) -> Change:
    return lambda data_set: setattr(data_set, keyword, value)


def _text(keyword: str, value: bytes) -> Change:
    """Write raw text that pydicom would not."""

    def change(data_set: FileDataset) -> None:
        from pydicom.datadict import dictionary_VR, tag_for_keyword
        from pydicom.dataelem import RawDataElement
        from pydicom.tag import Tag

        tag = Tag(tag_for_keyword(keyword))
        vr = dictionary_VR(tag)
        data_set[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)

    return change


def _save_as_it_is(data_set: FileDataset, path: Path) -> None:
    """Write values that pydicom warns of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data_set.save_as(path, enforce_file_format=False)


def _drop(keyword: str) -> Change:
    return lambda data_set: delattr(data_set, keyword)


HEADERS: list[tuple[str, Change, str]] = [
    ("rows and columns of 65535", lambda d: (_set("Rows", 65535)(d), _set("Columns", 65535)(d)), "65535"),
    ("frames 2^31-1", _set("NumberOfFrames", 2**31 - 1), "2147483647 × 16 × 20 voxels|2,147,483,647"),
    ("more frames than pixels", _set("NumberOfFrames", 2), "bytes"),
    ("negative frames", _set("NumberOfFrames", -1), "without rows, columns or frames"),
    ("one row too many", _set("Rows", 17), "680 bytes|640 bytes"),
    ("one row too few", _set("Rows", 15), "640 bytes"),
    ("no rows", _set("Rows", 0), "without rows"),
    ("rows missing", _drop("Rows"), "Rows is missing"),
    ("bits 7", _set("BitsAllocated", 7), "7 bits"),
    ("bits stored 17", _set("BitsStored", 17), "more bits"),
    ("high bit", _set("HighBit", 3), "High Bit"),
    ("pixel spacing zero", _text("PixelSpacing", b"0\\0 "), "PixelSpacing is zero"),
    ("pixel spacing negative", _text("PixelSpacing", b"-1\\1"), "PixelSpacing is zero or negative"),
    ("pixel spacing nan", _text("PixelSpacing", b"NaN\\NaN "), "PixelSpacing is not a finite number"),
    ("pixel spacing 1e400", _text("PixelSpacing", b"1e400\\1 "), "PixelSpacing is not a finite number"),
    ("pixel spacing text", _text("PixelSpacing", b"wide\\1"), "PixelSpacing is missing or not a number"),
    ("pixel spacing one value", _text("PixelSpacing", b"0.5 "), "PixelSpacing has 1 values instead of 2"),
    ("pixel spacing absurd", _text("PixelSpacing", b"1e9\\1e9 "), "not between"),
    ("pixel spacing missing", _drop("PixelSpacing"), "PixelSpacing is missing"),
    ("slope zero", _set("RescaleSlope", 0), "RescaleSlope is zero"),
    ("slope nan", _text("RescaleSlope", b"NaN "), "RescaleSlope is not a finite number"),
    ("intercept infinite", _text("RescaleIntercept", b"1e999 "), "RescaleIntercept is not a finite number"),
    ("orientation not orthogonal", _set("ImageOrientationPatient", [1, 0, 0, 1, 0, 0]), "right angles"),
    ("orientation not of unit length", _set("ImageOrientationPatient", [2, 0, 0, 0, 2, 0]), "length one"),
    ("orientation zero", _set("ImageOrientationPatient", [0, 0, 0, 0, 0, 0]), "length one"),
    ("orientation missing", _drop("ImageOrientationPatient"), "ImageOrientationPatient is missing"),
    ("position with two values", _text("ImagePositionPatient", b"1\\2 "), "ImagePositionPatient has 2 values"),
    ("position nan", _text("ImagePositionPatient", b"1\\2\\nan "), "ImagePositionPatient is not a finite"),
    ("position far away", _set("ImagePositionPatient", [0, 0, 1e9]), "believable"),
    ("position missing", _drop("ImagePositionPatient"), "ImagePositionPatient is missing"),
    ("colour", _set("PhotometricInterpretation", "RGB"), "colour"),
    ("three samples", _set("SamplesPerPixel", 3), "colour"),
    ("palette", _set("PhotometricInterpretation", "PALETTE COLOR"), "colour"),
    ("localizer", _set("ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"]), "localizer"),
    ("mosaic", _set("ImageType", ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]), "mosaic"),
    ("modality lut", _set("ModalityLUTSequence", []), "look-up table"),
    ("secondary capture", _set("SOPClassUID", uid.SecondaryCaptureImageStorage), "Secondary Capture Image"),
    ("structured report", _set("SOPClassUID", uid.ComprehensiveSRStorage), "Comprehensive SR"),
    ("pet", lambda d: (_set("SOPClassUID", uid.PositronEmissionTomographyImageStorage)(d), _set("Modality", "PT")(d)), "PT"),
    ("unknown class, modality US", lambda d: (_set("SOPClassUID", "1.2.3")(d), _set("Modality", "US")(d)), "modality is US"),
    ("no modality at all", lambda d: (_drop("SOPClassUID")(d), _drop("Modality")(d), d.file_meta.pop("MediaStorageSOPClassUID")), "neither Modality nor"),
    ("no pixels", _drop("PixelData"), "ends before its image"),
    ("float pixels", lambda d: (_drop("PixelData")(d), _set("FloatPixelData", b"\0" * 4)(d)), "floating-point"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "reason"), [h[1:] for h in HEADERS], ids=[h[0] for h in HEADERS])
def test_impossible_headers_are_named(tmp_path: Path, change: Change, reason: str) -> None:
    data_set = samples.slice_of(Series(), 0)
    change(data_set)
    _save_as_it_is(data_set, tmp_path / "bad.dcm")
    told = refusal_beside_a_good_file(tmp_path, "bad.dcm")
    assert re.search(reason, told), told


def test_one_damaged_slice_is_left_out_of_its_series(tmp_path: Path) -> None:
    paths = samples.write_series(tmp_path, Series(n=5))
    data_set = samples.slice_of(Series(), 2)
    data_set.PixelSpacing = [0, 0]
    samples.save(data_set, paths[2])
    (volume,), refused = outcome(tmp_path)
    assert volume.shape[0] == 4 and list(refused) == ["002.dcm"]
    assert volume.geometry is not None and volume.geometry.gaps == (1,)


def test_a_slice_whose_codestream_breaks_late_is_left_out(tmp_path: Path) -> None:
    for k in range(3):
        data_set = samples.compressed(
            samples.slice_of(Series(), k, samples.pattern(k, (64, 48), "u2")), uid.JPEG2000Lossless
        )
        path = samples.save(data_set, tmp_path / f"{k}.dcm")
        if k == 1:
            samples.preset_bytes(path, b"\xff" * 60, path.read_bytes().index(b"\xff\x93") + 20)
    (volume,), refused = outcome(tmp_path)
    assert list(refused) == ["1.dcm"] and "damaged" in refused["1.dcm"]
    np.testing.assert_array_equal(
        volume.voxels, np.stack([samples.pattern(k, (64, 48)) for k in (0, 2)]).astype(np.float32) - 1024
    )


def test_empty_and_random_files(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    (tmp_path / "a-empty").touch()
    for n in range(20):
        (tmp_path / f"random-{n:02}").write_bytes(generator.bytes(int(generator.integers(1, 3000))))
        (tmp_path / f"random-dicm-{n:02}").write_bytes(b"\0" * 128 + b"DICM" + generator.bytes(500))
        (tmp_path / f"headerless-{n:02}").write_bytes(b"\x08\0\x05\0CS\x0a\0ISO_IR 100" + generator.bytes(500))
    (tmp_path / "text.txt").write_text("Bring the scan to Dr. Who.")
    volumes, refused = outcome(tmp_path)
    assert volumes == [] and len(refused) == 62
    assert "empty" in refused["a-empty"]


@pytest.mark.parametrize(
    "syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.JPEGLSLossless, uid.RLELossless]
)
def test_cut_at_every_byte_never_yields_a_volume(tmp_path: Path, syntax: uid.UID) -> None:
    data_set = samples.slice_of(Series(), 0, samples.pattern(0, (8, 8)))
    if syntax in (uid.JPEGLSLossless, uid.RLELossless):
        samples.compressed(data_set, syntax)
    data_set.file_meta.TransferSyntaxUID = syntax
    whole = samples.save(data_set, tmp_path / "whole").read_bytes()
    folder = tmp_path / "cut"
    folder.mkdir()
    for length in range(len(whole)):
        (folder / f"{length:05}").write_bytes(whole[:length])
    volumes, refused = outcome(folder)
    assert len(refused) >= len(whole) - 4
    for volume in volumes:  # only the length of the mark after the last pixel may be missing
        np.testing.assert_array_equal(volume.voxels[0], samples.pattern(0, (8, 8)).astype(np.float32) - 1024)


def test_deflated_file_cut_at_every_byte(tmp_path: Path) -> None:
    data_set = samples.slice_of(Series(), 0, samples.pattern(0, (8, 8)))
    data_set.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
    whole = samples.save(data_set, tmp_path / "whole").read_bytes()
    folder = tmp_path / "cut"
    folder.mkdir()
    for length in range(len(whole)):
        (folder / f"{length:05}").write_bytes(whole[:length])
    volumes, _ = outcome(folder)
    for volume in volumes:  # only the padding byte at the end may be missing
        np.testing.assert_array_equal(volume.voxels[0], samples.pattern(0, (8, 8)).astype(np.float32) - 1024)
    assert len(volumes) <= 1


def test_cut_inside_an_enhanced_object(tmp_path: Path) -> None:
    whole = samples.save(samples.enhanced(Series(n=3)), tmp_path / "whole").read_bytes()
    folder = tmp_path / "cut"
    folder.mkdir()
    for length in range(0, len(whole), 13):
        (folder / f"{length:05}").write_bytes(whole[:length])
    volumes, _ = outcome(folder)
    assert volumes == []


def test_enhanced_without_descriptions_of_its_frames(tmp_path: Path) -> None:
    short = samples.enhanced(Series(n=3))
    short.PerFrameFunctionalGroupsSequence = list(short.PerFrameFunctionalGroupsSequence)[:2]
    samples.save(short, tmp_path / "short.dcm")
    assert "number of frames differs" in refusal_beside_a_good_file(tmp_path, "short.dcm")
    (tmp_path / "short.dcm").unlink()
    none = samples.enhanced(Series(n=3))
    del none.PerFrameFunctionalGroupsSequence
    samples.save(none, tmp_path / "none.dcm")
    assert "no position for each" in refusal_beside_a_good_file(tmp_path, "none.dcm")


def test_deflate_bomb(tmp_path: Path) -> None:
    """Under 1 MiB that claims 600 MiB."""
    path = samples.save(samples.slice_of(Series(), 0), tmp_path / "bomb.dcm")
    data = path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")
    end_of_meta = 144 + struct.unpack("<I", data[140:144])[0] + 2
    data = data[:140] + struct.pack("<I", struct.unpack("<I", data[140:144])[0] + 2) + data[144:end_of_meta]
    syntax_at = data.index(b"1.2.840.10008.1.2.1.99")
    data = data[: syntax_at - 2] + struct.pack("<H", 22) + data[syntax_at:]
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    zeros = b"\0" * 2**20
    body = b"".join(deflater.compress(zeros) for _ in range(600)) + deflater.flush()
    assert len(body) < 2**20
    path.write_bytes(data + body)
    assert "unpacks to more than 512 MiB" in refusal_beside_a_good_file(tmp_path, "bomb.dcm")


def _lying(syntax: uid.UID, frame: Callable[[bytes], bytes]) -> FileDataset:
    data_set = samples.slice_of(Series(), 0, samples.pattern(0, (64, 48), "u2"))
    samples.compressed(data_set, syntax)
    from pydicom.encaps import generate_frames

    (coded,) = generate_frames(data_set.PixelData, number_of_frames=1)
    return samples.recode(data_set, syntax, [frame(coded)])


def _jpeg_ls_size(rows: int, columns: int) -> Callable[[bytes], bytes]:
    def change(coded: bytes) -> bytes:
        at = coded.index(b"\xff\xf7") + 5
        return coded[:at] + struct.pack(">HH", rows, columns) + coded[at + 4 :]

    return change


def _j2k(at: int, value: int) -> Callable[[bytes], bytes]:
    return lambda coded: coded[:at] + struct.pack(">I", value) + coded[at + 4 :]


LIES: list[tuple[str, uid.UID, Callable[[bytes], bytes], str]] = [
    ("jpeg-ls 65535", uid.JPEGLSLossless, _jpeg_ls_size(65535, 65535), "differs"),
    ("jpeg-ls one row more", uid.JPEGLSLossless, _jpeg_ls_size(65, 48), "differs"),
    ("jpeg-ls without a header", uid.JPEGLSLossless, lambda c: c[:2] + b"\xff\xd9" * 50, "no frame header"),
    ("j2k width 2^32-1", uid.JPEG2000Lossless, _j2k(8, 2**32 - 1), "cut off"),
    ("j2k one column more", uid.JPEG2000Lossless, _j2k(8, 49), "differs|cut off"),
    ("j2k tiles of 1", uid.JPEG2000Lossless, lambda c: _j2k(28, 1)(_j2k(24, 1)(c)), "cut off"),
    ("j2k cut in half", uid.JPEG2000Lossless, lambda c: c[: len(c) // 2], "cut off"),
    ("j2k without its end", uid.JPEG2000Lossless, lambda c: c[:-2], "cut off"),
    ("j2k with a hole", uid.JPEG2000Lossless, lambda c: c[:150] + c[-2:], "cut off"),
    ("jpeg-ls cut in half", uid.JPEGLSLossless, lambda c: c[: len(c) // 2], "cut off"),
    ("jpeg-ls with a hole", uid.JPEGLSLossless, lambda c: c[: len(c) // 2] + b"\xff\xd9", "damaged"),
    ("j2k tile of nothing", uid.JPEG2000Lossless, _j2k(24, 0), "differs"),
    ("j2k header only", uid.JPEG2000Lossless, lambda c: c[:50], "cut off"),
    ("rle 15 segments", uid.RLELossless, lambda c: struct.pack("<I", 15) + c[4:], "segments"),
    ("rle 2^31 segments", uid.RLELossless, lambda c: struct.pack("<I", 2**31) + c[4:], "segments"),
    ("rle offsets beyond the end", uid.RLELossless, lambda c: c[:8] + struct.pack("<I", 10**9) + c[12:], "differs"),
    ("rle cut", uid.RLELossless, lambda c: c[:100], "differs"),
    ("rle ends early", uid.RLELossless, lambda c: c[:-40], "damaged"),
    ("jpeg-ls is no jpeg 2000", uid.JPEG2000Lossless, lambda c: b"\xff\xd8\xff\xf7" + c[4:], "not of the kind"),
    ("jpeg 2000 is no jpeg-ls", uid.JPEGLSLossless, lambda c: b"\xff\x4f\xff\x51" + c[4:], "not of the kind"),
]  # fmt: skip


@pytest.mark.parametrize(("syntax", "frame", "reason"), [lie[1:] for lie in LIES], ids=[lie[0] for lie in LIES])
def test_compressed_images_that_lie(
    tmp_path: Path, syntax: uid.UID, frame: Callable[[bytes], bytes], reason: str
) -> None:
    samples.save(_lying(syntax, frame), tmp_path / "lie.dcm")
    told = refusal_beside_a_good_file(tmp_path, "lie.dcm")
    assert re.search(reason, told), told


def test_rle_bomb(tmp_path: Path) -> None:
    """A segment that unpacks to 64 times its size where the header promises 320 pixels."""
    data_set = samples.slice_of(Series(), 0)
    segment = b"\x81\x00" * 2_000_000
    header = struct.pack("<16I", 2, 64, 64 + len(segment), *[0] * 13)
    samples.recode(data_set, uid.RLELossless, [header + segment * 2])
    samples.save(data_set, tmp_path / "bomb.dcm")
    samples.save(samples.slice_of(GOOD, 0), tmp_path / "good.dcm")
    volumes, _ = outcome(tmp_path)
    assert GOOD.uid in [v.provenance.series_uid for v in volumes]


@pytest.mark.parametrize(
    ("syntax", "reason"),
    [
        ("1.2.840.10008.1.2.4.100", "MPEG2"),
        ("1.2.3.4.5", "not one of the standard"),
        (uid.JPEGLSLossless, "not of the kind"),
        (uid.ExplicitVRBigEndian, "."),
        (uid.DeflatedExplicitVRLittleEndian, "."),
    ],
)
def test_unknown_and_lying_transfer_syntaxes(tmp_path: Path, syntax: str, reason: str) -> None:
    """The data set is explicit little endian, whatever the header says."""
    path = samples.save(samples.slice_of(Series(), 0), tmp_path / "lie.dcm")
    data = path.read_bytes()
    value = syntax.encode() + b"\0" * (len(syntax) % 2)
    at = data.index(b"\x02\x00\x10\x00UI")
    old = struct.unpack("<H", data[at + 6 : at + 8])[0]
    length = struct.unpack("<I", data[140:144])[0] + len(value) - old
    data = data[: at + 6] + struct.pack("<H", len(value)) + value + data[at + 8 + old :]
    path.write_bytes(data[:140] + struct.pack("<I", length) + data[144:])
    told = refusal_beside_a_good_file(tmp_path, "lie.dcm")
    assert re.search(reason, told), told


@pytest.mark.parametrize("defined", [True, False])
@pytest.mark.parametrize("depth", [60, 1000])
def test_sequences_nested_deeply(tmp_path: Path, depth: int, defined: bool) -> None:
    """Written by hand: pydicom cannot write so many levels."""
    path = samples.save(samples.slice_of(Series(), 0), tmp_path / "deep.dcm")
    data = path.read_bytes()
    nested = b""
    tag, start, end = (
        b"\x08\x00\x50\x12SQ\0\0",
        b"\xfe\xff\x00\xe0",
        b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0",
    )
    for _ in range(depth):
        if defined:
            nested = tag + struct.pack("<I", len(nested) + 8) + start + struct.pack("<I", len(nested)) + nested
        else:
            nested = tag + b"\xff" * 4 + start + b"\xff" * 4 + nested + end
    at = data.index(b"\x10\x00\x10\x00PN")
    path.write_bytes(data[:at] + nested + data[at:])
    assert "nests" in refusal_beside_a_good_file(tmp_path, "deep.dcm")


@pytest.mark.parametrize("kind", [b"SQ", b"UN", b"OB"])
def test_undefined_length_without_end(tmp_path: Path, kind: bytes) -> None:
    path = samples.save(samples.slice_of(Series(), 0), tmp_path / "endless.dcm")
    data = path.read_bytes()
    at = data.index(b"\x10\x00\x10\x00PN")
    path.write_bytes(data[:at] + b"\x09\x00\x10\x10" + kind + b"\0\0" + b"\xff" * 4 + data[at:])
    refusal_beside_a_good_file(tmp_path, "endless.dcm")


def test_a_length_of_four_gigabytes(tmp_path: Path) -> None:
    path = samples.save(samples.slice_of(Series(), 0), tmp_path / "long.dcm")
    data = path.read_bytes()
    at = data.index(b"\x10\x00\x10\x00PN")
    path.write_bytes(data[:at] + b"\x09\x00\x10\x10OB\0\0" + b"\xfe\xff\xff\xff" + data[at:])
    refusal_beside_a_good_file(tmp_path, "long.dcm")


def test_a_uid_that_is_a_path_names_no_file(tmp_path: Path) -> None:
    data_set = samples.slice_of(Series(), 0)
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        _text(keyword, b"../../x\0")(data_set)
    folder = tmp_path / "deep" / "deeper"
    folder.mkdir(parents=True)
    _save_as_it_is(data_set, folder / "a.dcm")
    before = sorted(tmp_path.rglob("*"))
    (volume,), _ = outcome(folder)
    assert sorted(tmp_path.rglob("*")) == before
    assert volume.provenance.series_uid == "../../x"
    assert "SOPInstanceUID is not a valid unique identifier." in volume.provenance.notes


def test_control_characters_are_not_passed_on(tmp_path: Path) -> None:
    data_set = samples.slice_of(Series(), 0)
    _text("Manufacturer", b"\x1b[31mEvil\nMaker ")(data_set)
    _text("SeriesInstanceUID", b"1.2.3.4\n5")(data_set)
    _save_as_it_is(data_set, tmp_path / "a.dcm")
    (volume,), _ = outcome(tmp_path)
    assert all(text.isprintable() for text in (*volume.provenance.attributes.values(), *volume.provenance.notes))
    assert volume.provenance.series_uid is not None and volume.provenance.series_uid.isprintable()


def test_twelve_bit_lossy_jpeg_is_refused_not_misread(tmp_path: Path) -> None:
    data_set = samples.slice_of(Series(), 0, samples.pattern(0, (64, 48), "u2"))
    data_set.BitsStored, data_set.HighBit = 12, 11
    header = b"\xff\xd8\xff\xc1" + struct.pack(">HBHHB3B", 11, 12, 64, 48, 1, 1, 0x11, 0) + b"\xff\xd9"
    samples.save(samples.recode(data_set, uid.JPEGExtended12Bit, [header]), tmp_path / "jpeg.dcm")
    assert "12 bits" in refusal_beside_a_good_file(tmp_path, "jpeg.dcm")
