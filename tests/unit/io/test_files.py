"""One PATH of every kind → each file below it ends in one volume or one refusal, and nothing outside is touched."""

from __future__ import annotations

import gc
import os
import socket
import stat
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path

import dicom_samples as samples
import numpy as np
import pytest
from dicom_samples import Series
from PIL import Image
from pydicom.fileset import FileSet

from jachai.core.geometry import Geometry
from jachai.core.volume import Modality, Provenance, Volume
from jachai.io.files import Limits, Refusal, read
from jachai.io.writer import write_metaimage, write_nifti

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")


def outcome(path: Path | str, limits: Limits | None = None) -> tuple[list[Volume], dict[str, str]]:
    """The volumes, and shown path → reason."""
    results = list(read(path, limits=limits or Limits()))
    refused = [r for r in results if isinstance(r, Refusal)]
    assert all(r.reason.isprintable() and r.path.isprintable() for r in refused)
    assert len({r.path for r in refused}) == len(refused)
    return [r for r in results if isinstance(r, Volume)], {r.path: r.reason for r in refused}


def only_reason(path: Path | str, limits: Limits | None = None) -> str:
    volumes, refused = outcome(path, limits)
    assert volumes == []
    ((_, reason),) = refused.items()
    return reason


def small_volume() -> Volume:
    voxels = np.arange(3 * 8 * 9, dtype=np.float32).reshape(3, 8, 9) * 10 - 1000
    return Volume(voxels, Modality.CT, Geometry.regular(3, (2.0, 0.7, 0.7)), Provenance("x", "phantom", step=1.0))


def test_a_mixed_folder_is_accounted_for_to_the_last_file(tmp_path: Path) -> None:
    samples.write_series(tmp_path / "patient" / "ct", Series(n=3))
    samples.write_series(tmp_path / "patient" / "mr", Series(n=2, uid=f"{samples.ROOT}.8"), "MR")
    write_nifti(small_volume(), tmp_path / "scan.nii.gz")
    write_metaimage(small_volume(), tmp_path / "scan.mha")
    write_metaimage(small_volume(), tmp_path / "pair" / "scan.mhd")
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(tmp_path / "picture.png")
    (tmp_path / "README").write_text("Read me.")
    (tmp_path / ".hidden").write_bytes(b"\0\1\2")
    (tmp_path / "empty").touch()
    (tmp_path / "inner.zip").write_bytes(b"PK\x03\x04nothing")
    volumes, refused = outcome(tmp_path)
    used = {path for volume in volumes for path in volume.provenance.source_files}
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == used | {Path(path) for path in refused}
    assert not used & {Path(path) for path in refused}
    assert {Path(path).name for path in refused} == {"README", ".hidden", "empty", "inner.zip"}
    assert sorted(v.provenance.format for v in volumes)[:2] == ["DICOM", "DICOM"]
    assert len(volumes) == 6
    assert all(volume.provenance.input == str(tmp_path) for volume in volumes)
    assert [v.modality for v in volumes[:2]] == [Modality.CT, Modality.MR]


@pytest.mark.parametrize("name", ["scan.nii.gz", "scan.mha", "scan.mhd"])
def test_other_formats_pass_through_the_child_unchanged(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write_nifti(small_volume(), path) if ".nii" in name else write_metaimage(small_volume(), path)
    (volume,), refused = outcome(path)
    assert refused == {}
    np.testing.assert_allclose(volume.voxels, small_volume().voxels, atol=0.01)
    assert volume.geometry is not None
    np.testing.assert_allclose(volume.geometry.origins_mm, small_volume().geometry.origins_mm, atol=1e-4)  # type: ignore[union-attr]


def test_the_caller_may_say_what_a_nifti_file_is(tmp_path: Path) -> None:
    write_nifti(small_volume(), tmp_path / "scan.nii")
    (volume,) = list(read(tmp_path / "scan.nii", modality=Modality.MR))
    assert isinstance(volume, Volume) and volume.modality is Modality.MR


def test_progress_runs_from_zero_towards_one(tmp_path: Path) -> None:
    samples.write_series(tmp_path)
    told: list[tuple[str, float]] = []
    list(read(tmp_path, progress=lambda stage, fraction: told.append((stage, fraction))))
    assert {stage for stage, _ in told} == {"inspecting", "reading"}
    assert all(0 <= fraction <= 1 for _, fraction in told)


def test_volumes_come_one_at_a_time(tmp_path: Path) -> None:
    for n in range(3):
        samples.write_series(tmp_path / str(n), Series(n=2, uid=f"{samples.ROOT}.9.{n}"))
    reading = read(tmp_path)
    assert isinstance(next(reading), Volume)
    for path in (tmp_path / "2").iterdir():
        path.unlink()  # not decoded yet
    rest = list(reading)
    assert [type(r) for r in rest] == [Volume, Refusal, Refusal]


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    for n in range(2):
        samples.write_series(tmp_path / str(n), Series(n=1, uid=f"{samples.ROOT}.9.{n}"))
    reading = read(tmp_path)
    next(reading)
    samples.save(samples.slice_of(Series(uid=f"{samples.ROOT}.9.1"), 0, samples.pattern(5)), tmp_path / "1" / "000.dcm")
    (refusal,) = list(reading)
    assert isinstance(refusal, Refusal) and "changed while" in refusal.reason


def test_missing_and_empty_paths(tmp_path: Path) -> None:
    assert "no such file" in only_reason(tmp_path / "nowhere")
    assert "folder is empty" in only_reason(tmp_path)
    assert only_reason("a\0b").startswith("It cannot be opened")


@posix
def test_special_files_are_never_opened(tmp_path: Path) -> None:
    samples.write_series(tmp_path, Series(n=2))
    os.mkfifo(tmp_path / "pipe.dcm")
    with socket.socket(socket.AF_UNIX) as sock:
        here = Path.cwd()
        os.chdir(tmp_path)
        sock.bind("socket")
        os.chdir(here)
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "up").symlink_to(tmp_path)
    (tmp_path / "linked.dcm").symlink_to(tmp_path / "000.dcm")
    (volume,), refused = outcome(tmp_path)
    reasons = {Path(path).name: reason for path, reason in refused.items()}
    assert volume.shape[0] == 2
    assert "named pipe" in reasons.pop("pipe.dcm")
    assert "socket" in reasons.pop("socket")
    assert "device" in reasons.pop("device")
    assert "no such file" in reasons.pop("dangling")
    assert "link" in reasons.pop("loop")
    assert "link" in reasons.pop("up")
    assert "copy of" in reasons.pop("linked.dcm")
    assert reasons == {}
    assert "named pipe" in only_reason(tmp_path / "pipe.dcm")


@posix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_unreadable_files_and_folders(tmp_path: Path) -> None:
    samples.write_series(tmp_path, Series(n=2))
    (tmp_path / "001.dcm").chmod(0)
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed").chmod(0)
    (volume,), refused = outcome(tmp_path)
    (tmp_path / "closed").chmod(stat.S_IRWXU)
    assert volume.shape[0] == 1
    assert len(refused) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux allows such names")
def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe folder"))
    samples.write_series(folder, Series(n=2))
    Path(os.fsdecode(os.fsencode(folder) + b"/\xe9\n.txt")).write_text("x")
    (volume,), refused = outcome(folder)
    assert volume.shape[0] == 2
    assert len(refused) == 1
    str(volume.provenance.source_files[0]).encode("utf-8")
    volume.provenance.input.encode("utf-8")


def test_too_many_files_and_too_large_volumes(tmp_path: Path) -> None:
    samples.write_series(tmp_path, Series(n=4))
    assert "more than 3 files" in only_reason(tmp_path, Limits(max_files=3))
    tight = Limits(memory_bytes=400 * 2**20 + 4 * 4 * 16 * 20 - 1)
    volumes, refused = outcome(tmp_path, tight)
    assert volumes == [] and len(refused) == 4
    assert all("more than the" in reason for reason in refused.values())


def zipped(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def slices(tmp_path: Path, n: int = 3) -> dict[str, bytes]:
    return {f"scan/{path.name}": path.read_bytes() for path in samples.write_series(tmp_path / "plain", Series(n=n))}


@pytest.fixture
def no_leftovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place where anything may be written; the test fails if something stays there."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_zip_is_read_and_nothing_is_left(tmp_path: Path, no_leftovers: Path) -> None:
    path = zipped(tmp_path / "study.zip", {**slices(tmp_path), "README.txt": b"hello", "empty": b""})
    before = sorted(p for p in tmp_path.rglob("*"))
    (volume,), refused = outcome(path)
    assert sorted(p for p in tmp_path.rglob("*")) == before
    assert list(no_leftovers.iterdir()) == []
    expected = np.stack([samples.pattern(k) for k in range(3)]).astype(np.float32) - 1024
    np.testing.assert_array_equal(volume.voxels, expected)
    assert volume.provenance.source_files[1] == Path(f"{path}!scan/001.dcm")
    assert volume.provenance.input == str(path)
    assert set(refused) == {f"{path}!README.txt", f"{path}!empty"}


def test_members_that_would_leave_the_archive_and_nested_archives(tmp_path: Path, no_leftovers: Path) -> None:
    inner = zipped(tmp_path / "inner.zip", slices(tmp_path)).read_bytes()
    good = slices(tmp_path)
    bad = {
        "../../evil.dcm": good["scan/000.dcm"],
        "/etc/evil.dcm": good["scan/000.dcm"],
        "C:\\evil.dcm": good["scan/000.dcm"],
        "..\\evil.dcm": good["scan/000.dcm"],
        "inner.zip": inner,
        "disguised.dcm": inner,
        "bad\nname\x1b": b"text",
    }
    path = zipped(tmp_path / "study.zip", {**good, **bad})
    before = sorted(p for p in tmp_path.rglob("*"))
    (volume,), refused = outcome(path)
    assert sorted(p for p in tmp_path.rglob("*")) == before
    assert volume.shape[0] == 3
    assert len(refused) == len(bad)
    assert sum("outside the archive" in reason for reason in refused.values()) == 4
    assert sum("archive" in reason and "not opened" in reason for reason in refused.values()) == 2


def test_a_link_in_a_zip_is_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "link.zip"
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("passwd.dcm")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    assert "link" in only_reason(path)


def test_encrypted_members(tmp_path: Path) -> None:
    path = zipped(tmp_path / "study.zip", {"a.dcm": b"secret" * 10})
    data = bytearray(path.read_bytes())
    data[6] |= 1  # local header
    data[data.index(b"PK\x01\x02") + 8] |= 1  # central directory
    path.write_bytes(data)
    assert "encrypted" in only_reason(path)


def test_zip_bombs(tmp_path: Path, no_leftovers: Path) -> None:
    zeros = b"\0" * (80 * 2**20)
    bomb = zipped(tmp_path / "bomb.zip", {"a.dcm": zeros})
    assert bomb.stat().st_size < 2**20
    assert "zip bomb" in only_reason(bomb)
    assert "would unpack to" in only_reason(bomb, Limits(max_unpacked_bytes=2**20))
    lying = bytearray(bomb.read_bytes())  # says 1,000 bytes, holds 80 MiB
    at = lying.index(b"PK\x01\x02") + 24
    lying[at : at + 4] = (1000).to_bytes(4, "little")
    (tmp_path / "liar.zip").write_bytes(lying)
    only_reason(tmp_path / "liar.zip")
    assert list(no_leftovers.iterdir()) == []
    many = zipped(tmp_path / "many.zip", {f"{n}": b"" for n in range(50)}, zipfile.ZIP_STORED)
    assert "more than 40 members" in only_reason(many, Limits(max_files=40))


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"PK\x03\x04" + b"x" * 500, b"PK\x05\x06" + b"\0" * 18])
def test_damaged_and_empty_archives(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(data)
    only_reason(tmp_path / "a.zip")


def test_a_zip_cut_at_many_places(tmp_path: Path) -> None:
    whole = zipped(tmp_path / "whole.zip", slices(tmp_path, 1)).read_bytes()
    for length in range(0, len(whole), 97):
        (tmp_path / "cut.zip").write_bytes(whole[:length])
        assert only_reason(tmp_path / "cut.zip")


def test_damaged_member(tmp_path: Path) -> None:
    path = zipped(tmp_path / "study.zip", slices(tmp_path), zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    (volume,), refused = outcome(path)
    assert volume.shape[0] == 2 and len(refused) == 1
    assert "damaged" in next(iter(refused.values()))


def _write_file_set(folder: Path) -> None:
    file_set = FileSet()
    for k in range(2):
        data_set = samples.slice_of(Series(), k)
        data_set.StudyDate, data_set.StudyTime, data_set.StudyID, data_set.SeriesNumber = "20200101", "120000", "1", 1
        data_set.AccessionNumber = ""
        file_set.add(data_set)
    file_set.write(folder)


@pytest.fixture
def dicomdir(tmp_path: Path) -> Path:
    """A file set of two slices, made by pydicom."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # pydicom leaves its temporary folder to the garbage collector
        _write_file_set(tmp_path / "set")
        gc.collect()
    return tmp_path / "set" / "DICOMDIR"


def test_a_dicomdir_reads_the_files_it_lists(dicomdir: Path) -> None:
    (volume,), refused = outcome(dicomdir)
    assert volume.shape[0] == 2 and refused == {}
    (volume,), refused = outcome(dicomdir.parent)
    assert volume.shape[0] == 2
    assert "index (DICOMDIR)" in refused[str(dicomdir)]


def test_a_dicomdir_never_leads_outside(dicomdir: Path, tmp_path: Path) -> None:
    samples.save(samples.slice_of(Series(), 7), tmp_path / "OUTSIDE")
    data = dicomdir.read_bytes()
    import pydicom

    names = [r.ReferencedFileID for r in pydicom.dcmread(dicomdir).DirectoryRecordSequence if "ReferencedFileID" in r]
    first = "\\".join(names[0]).encode()
    for evil in (b"..\\OUTSIDE", b"/etc/passwd", b"A\\..\\..\\OUTSIDE", b"MISSING"):
        padded = evil + b" " * (len(first) - len(evil))
        (dicomdir.parent / "EVIL").mkdir(exist_ok=True)
        dicomdir.write_bytes(data.replace(first, padded))
        (volume,), refused = outcome(dicomdir)
        assert volume.shape[0] == 1
        assert len(refused) == 1
        assert "outside its own folder" in str(refused) or "no such file" in str(refused)


def test_a_damaged_dicomdir(dicomdir: Path) -> None:
    dicomdir.write_bytes(dicomdir.read_bytes()[:300])
    assert only_reason(dicomdir)
    dicomdir.write_bytes(b"nonsense")
    assert only_reason(dicomdir)
