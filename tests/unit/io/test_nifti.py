"""NIfTI: voxels and positions against nibabel and SimpleITK; every kind of bad file refused by name."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK
from frames import SHAPE, geometry, volume, voxels
from hypothesis import given
from hypothesis import strategies as st

from jachai.core.errors import Damaged, LimitExceeded, NotAnImage, Unreadable, Unsupported
from jachai.core.volume import AIR_HU, Modality
from jachai.io.modality import guess_modality
from jachai.io.nifti import NIFTI
from jachai.io.reader import Decoded, plain_allocate
from jachai.io.writer import write_nifti

AFFINE = np.array([[-0.7, 0, 0, 90.0], [0, -0.7, 0, 120.0], [0, 0, 2.5, -300.0], [0, 0, 0, 1]])
Header = Any


def save(path: Path, data: np.ndarray, affine: np.ndarray = AFFINE, cls: Any = nib.Nifti1Image) -> Path:
    """data: (i, j, k)."""
    nib.save(cls(data, affine), path)
    return path


def patched(path: Path, change: Callable[[Header], None], data: bytes | None = None, big: bool = False) -> Path:
    """A small int16 NIfTI-1 file whose header went through `change`."""
    header = nib.Nifti1Header(endianness=">" if big else "<")
    header.set_data_dtype(np.int16)
    header.set_data_shape(SHAPE[::-1])
    header.set_sform(AFFINE, 1)
    header.set_qform(AFFINE, 1)
    header["vox_offset"], header["scl_slope"] = 352, 1
    change(header)
    data = voxels().astype(header.get_data_dtype() if big else "<i2").tobytes() if data is None else data
    path.write_bytes(header.binaryblock + bytes(4) + data)
    return path


def read(path: Path) -> Decoded:
    (decoded,) = NIFTI.read(path, plain_allocate)
    return decoded


def index_of_file(decoded: Decoded, affine: np.ndarray, index_kji: np.ndarray) -> np.ndarray:
    """Where voxel (k, j, i) of the volume lies in the file: (i, j, k), by its position in mm."""
    ras = decoded.geometry.index_to_mm(index_kji) * (-1, -1, 1)
    return nib.affines.apply_affine(np.linalg.inv(affine), ras)


@st.composite
def affines(draw: st.DrawFn) -> np.ndarray:
    """Any believable affine: rotated, mirrored, permuted, its slices sheared."""
    rotation = nib.eulerangles.euler2mat(*(draw(st.floats(-3, 3)) for _ in range(3)))
    mirror = np.diag([draw(st.sampled_from([-1, 1])) for _ in range(3)])
    shear = np.eye(3)
    shear[0, 2], shear[1, 2] = draw(st.floats(-0.5, 0.5)), draw(st.floats(-0.5, 0.5))
    permutation = np.eye(3)[draw(st.permutations(range(3)))]
    spacing = np.diag([draw(st.floats(0.3, 5)) for _ in range(3)])
    affine = np.eye(4)
    affine[:3, :3] = permutation @ rotation @ mirror @ shear @ spacing
    affine[:3, 3] = [draw(st.floats(-500, 500)) for _ in range(3)]
    return affine


@given(affines(), st.tuples(*[st.integers(1, 5)] * 3))
def test_every_voxel_lies_where_nibabel_puts_it(
    tmp_path_factory: pytest.TempPathFactory, affine: np.ndarray, shape_ijk: tuple[int, int, int]
) -> None:
    data = np.arange(np.prod(shape_ijk), dtype=np.int16).reshape(shape_ijk)
    path = save(tmp_path_factory.mktemp("n") / "v.nii", data, affine)
    stored, decoded = nib.load(path).affine, read(path)
    for index in np.ndindex(decoded.voxels.shape):
        at = index_of_file(decoded, stored, np.array(index))
        assert np.abs(at - np.rint(at)).max() < 1e-3
        assert decoded.voxels[index] == data[tuple(np.rint(at).astype(int))]
    if decoded.voxels.shape[0] > 1:
        assert (np.diff(decoded.geometry.positions_mm) > 0).all()


@pytest.mark.parametrize("mirrored", ["i", "j", "k", ""])
def test_a_mirrored_array_comes_out_as_the_scan_it_was(mirrored: str, tmp_path: Path) -> None:
    """As dcm2niix does with rows: the file is mirrored, the volume must not be."""
    flip = [name in mirrored for name in "ijk"]
    lps = AFFINE @ np.diag([*(-1 if f else 1 for f in flip), 1])
    lps[:3, 3] = (AFFINE @ [*((side - 1) * f for side, f in zip(SHAPE[::-1], flip, strict=True)), 1])[:3]
    data = np.flip(voxels().transpose(2, 1, 0), [axis for axis in range(3) if flip[axis]])
    decoded = read(save(tmp_path / "v.nii.gz", data.astype(np.int16), lps))
    assert np.array_equal(decoded.voxels, voxels())
    assert np.allclose(decoded.geometry.origins_mm[0], (-90, -120, -300))
    assert decoded.geometry.plane == "axial"
    assert any("mirrored" in warning for warning in decoded.warnings) == bool(mirrored)


@pytest.mark.parametrize("cls", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8", ">i2", ">f4", ">f8"])
def test_every_number_type_and_byte_order(cls: Any, dtype: str, tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 120, SHAPE[::-1]).astype(dtype)
    image = cls(data, AFFINE, dtype=np.dtype(dtype))
    if dtype.startswith(">"):
        image = cls(data, AFFINE, header=image.header.as_byteswapped(">"))
    image.to_filename(tmp_path / "v.nii")
    decoded = read(tmp_path / "v.nii")
    assert np.array_equal(decoded.voxels, nib.load(tmp_path / "v.nii").get_fdata().transpose(2, 1, 0))
    assert (decoded.step == 1.0) == (np.dtype(dtype).kind in "iu")
    assert decoded.modality is Modality.MR


def test_written_by_simpleitk(tmp_path: Path) -> None:
    image = SimpleITK.GetImageFromArray(voxels().astype(np.int16))
    image.SetSpacing((0.7, 0.8, 3.0))
    image.SetOrigin((-100.0, -50.0, 20.0))
    SimpleITK.WriteImage(image, str(tmp_path / "v.nii.gz"))
    decoded = read(tmp_path / "v.nii.gz")
    assert np.array_equal(decoded.voxels, voxels())
    expected = image.TransformIndexToPhysicalPoint((3, 2, 1))
    assert np.allclose(decoded.geometry.index_to_mm((1, 2, 3)), expected, atol=1e-4)


def test_slope_and_intercept(tmp_path: Path) -> None:
    def scaled(header: Header) -> None:
        header["scl_slope"], header["scl_inter"] = 0.5, -3

    path = patched(tmp_path / "v.nii", scaled)
    assert np.array_equal(read(path).voxels, nib.load(path).get_fdata().transpose(2, 1, 0))
    assert read(path).step == 0.5


@pytest.mark.parametrize("slope", [0, np.nan])
def test_no_slope_means_no_scaling(slope: float, tmp_path: Path) -> None:
    def unscaled(header: Header) -> None:
        header["scl_slope"], header["scl_inter"] = slope, 5

    assert np.array_equal(read(patched(tmp_path / "v.nii", unscaled)).voxels, voxels())


@pytest.mark.parametrize(("unit", "factor"), [("meter", 1000), ("mm", 1), ("micron", 0.001), ("unknown", 1)])
def test_units_of_length(unit: str, factor: float, tmp_path: Path) -> None:
    def change(header: Header) -> None:
        header.set_sform(np.diag([1 / factor, 1 / factor, 1 / factor, 1]) @ AFFINE)
        header["xyzt_units"] = {"unknown": 0, "meter": 1, "mm": 2, "micron": 3}[unit]

    decoded = read(patched(tmp_path / "v.nii", change))
    assert np.allclose(decoded.geometry.spacing_mm, (2.5, 0.7, 0.7))
    assert np.allclose(decoded.geometry.origins_mm[0], (-90, -120, -300))


def test_volumes_of_a_4d_file(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 999, (*SHAPE[::-1], 3)).astype(np.int16)
    volumes = NIFTI.read(save(tmp_path / "v.nii.gz", data), plain_allocate)
    assert len(volumes) == 3
    for t, decoded in enumerate(volumes):
        assert np.array_equal(decoded.voxels, data[..., t].transpose(2, 1, 0))


@pytest.mark.parametrize("shape", [(10, 8), (10, 8, 1), (10, 8, 1, 1)])
def test_a_single_slice(shape: tuple[int, ...], tmp_path: Path) -> None:
    decoded = read(save(tmp_path / "v.nii", np.ones(shape, np.int16)))
    assert decoded.voxels.shape == (1, 8, 10)
    assert decoded.geometry.tilt_degrees == 0


def test_modality_is_guessed_and_said(tmp_path: Path) -> None:
    write_nifti(volume(), tmp_path / "ct.nii")
    write_nifti(volume(modality=Modality.MR), tmp_path / "mr.nii")
    phase = np.random.default_rng(0).integers(-4096, 4096, SHAPE[::-1]).astype(np.int16)
    for path, modality in (
        (tmp_path / "ct.nii", Modality.CT),
        (tmp_path / "mr.nii", Modality.MR),
        (save(tmp_path / "phase.nii", phase), Modality.MR),
    ):
        assert read(path).modality is modality
        assert any(f"taken for {modality}" in warning for warning in read(path).warnings)


@pytest.mark.realdata
@pytest.mark.parametrize("modality", [Modality.CT, Modality.MR])
def test_modality_of_single_real_slices(modality: Modality, real_data: Path) -> None:
    series = [folder for folder in sorted((real_data / modality.lower()).iterdir()) if folder.is_dir()]
    assert series
    for folder in series:
        files = sorted(folder.rglob("*.dcm"))
        file = pydicom.dcmread(files[len(files) // 2])
        values = file.pixel_array * float(file.get("RescaleSlope", 1)) + float(file.get("RescaleIntercept", 0))
        assert guess_modality(values[None].astype(np.float32))[0] is modality, folder.name


def test_padding_of_ct_becomes_air(tmp_path: Path) -> None:
    data = voxels().transpose(2, 1, 0).astype(np.int16)
    data[:, -2:] = -3024
    decoded = read(save(tmp_path / "v.nii", data))
    assert (decoded.voxels[:, -2:] == AIR_HU).all()
    assert np.array_equal(decoded.voxels[:, :-2], voxels()[:, :-2])
    assert any("-3024" in note for note in decoded.notes)


def test_some_nan_become_the_lowest_value(tmp_path: Path) -> None:
    data = voxels().transpose(2, 1, 0).copy()
    data[0, 0, 0], data[1, 2, 3], data[9, 7, 5] = np.nan, np.inf, -np.inf
    decoded = read(save(tmp_path / "v.nii.gz", data))
    assert np.isfinite(decoded.voxels).all()
    assert decoded.voxels[0, 0, 0] == decoded.voxels[3, 2, 1] == decoded.voxels[5, 7, 9] == decoded.voxels.min()
    assert any(warning.startswith("3 voxels") for warning in decoded.warnings)


def test_values_beyond_float32_are_not_infinite(tmp_path: Path) -> None:
    data = np.ones(SHAPE[::-1])
    data[0, 0, 0] = 1e300
    assert np.isfinite(read(save(tmp_path / "v.nii", data)).voxels).all()


@pytest.mark.parametrize("value", [0, -1000, 7])
def test_constant_is_read(value: int, tmp_path: Path) -> None:
    decoded = read(save(tmp_path / "v.nii.gz", np.full((64, 64, 64), value, np.int16)))
    assert (decoded.voxels == value).all()


def test_trailing_garbage_is_noted(tmp_path: Path) -> None:
    write_nifti(volume(), tmp_path / "v.nii")
    write_nifti(volume(), tmp_path / "v.nii.gz")
    plain, packed = (tmp_path / "v.nii").read_bytes(), (tmp_path / "v.nii.gz").read_bytes()
    for name, content in (
        ("a.nii", plain + b"garbage"),
        ("b.nii.gz", packed + b"garbage"),
        ("c.nii.gz", packed + gzip.compress(b"more")),
        ("d.nii.gz", gzip.compress(plain + b"garbage")),
    ):
        (tmp_path / name).write_bytes(content)
        decoded = read(tmp_path / name)
        assert len(decoded.notes) == 1, name
        assert np.array_equal(decoded.voxels, voxels())


def test_several_gzip_members_are_one_file(tmp_path: Path) -> None:
    write_nifti(volume(), tmp_path / "v.nii")
    content = (tmp_path / "v.nii").read_bytes()
    (tmp_path / "m.nii.gz").write_bytes(b"".join(gzip.compress(content[at : at + 300]) for at in range(0, 1400, 300)))
    assert np.array_equal(read(tmp_path / "m.nii.gz").voxels, voxels())


def set_field(name: str, value: Any) -> Callable[[Header], None]:
    def change(header: Header) -> None:
        with np.errstate(all="ignore"):
            header[name] = value

    return change


def set_sform(row: int, column: int, value: float) -> Callable[[Header], None]:
    def change(header: Header) -> None:
        header[("srow_x", "srow_y", "srow_z")[row]][column] = value

    return change


def no_forms(pixdim: float | None) -> Callable[[Header], None]:
    def change(header: Header) -> None:
        header["sform_code"] = header["qform_code"] = 0
        if pixdim is not None:
            header["pixdim"][2] = pixdim

    return change


def qform(name: str, value: float, at: int | None = None) -> Callable[[Header], None]:
    def change(header: Header) -> None:
        header["sform_code"] = 0
        if at is None:
            header[name] = value
        else:
            header[name][at] = value

    return change


BAD_HEADERS: dict[str, tuple[Callable[[Header], None], type[Unreadable]]] = {
    "singular affine": (set_sform(2, 2, 0), Damaged),
    "affine with NaN": (set_sform(0, 0, np.nan), Damaged),
    "affine with infinity": (set_sform(1, 3, np.inf), Damaged),
    "affine of 1e10": (set_sform(0, 3, 1e10), Damaged),
    "spacing of 1e10": (set_sform(0, 0, 1e10), Damaged),
    "spacing of 1e-10": (set_sform(0, 0, 1e-10), Damaged),
    "sheared in the plane": (set_sform(0, 1, 0.4), Unsupported),
    "no forms, pixdim zero": (no_forms(0), Damaged),
    "no forms, pixdim negative": (no_forms(-1), Damaged),
    "no forms, pixdim NaN": (no_forms(np.nan), Damaged),
    "no forms, pixdim huge": (no_forms(1e30), Damaged),
    "quaternion too long": (qform("quatern_b", 3), Damaged),
    "quaternion NaN": (qform("quatern_b", np.nan), Damaged),
    "qform, pixdim zero": (qform("pixdim", 0, 1), Damaged),
    "qform, qfac 7": (qform("pixdim", 7, 0), Damaged),
    "unit unknown": (set_field("xyzt_units", 7), Damaged),
    "negative size": (set_field("dim", [3, 10, -8, 6, 1, 1, 1, 1]), Damaged),
    "size zero": (set_field("dim", [3, 10, 0, 6, 1, 1, 1, 1]), Damaged),
    "huge sizes": (set_field("dim", [3, 32767, 32767, 32767, 1, 1, 1, 1]), Damaged),
    "too many dimensions": (set_field("dim", [9, 10, 8, 6, 1, 1, 1, 1]), Damaged),
    "negative number of dimensions": (set_field("dim", [-3, 10, 8, 6, 1, 1, 1, 1]), Damaged),
    "one dimension": (set_field("dim", [1, 480, 1, 1, 1, 1, 1, 1]), Unsupported),
    "vectors": (set_field("dim", [5, 10, 8, 2, 1, 3, 1, 1]), Unsupported),
    "65 volumes": (set_field("dim", [4, 1, 1, 1, 65, 1, 1, 1]), Unsupported),
    "RGB": (set_field("datatype", 128), Unsupported),
    "RGBA": (set_field("datatype", 2304), Unsupported),
    "complex": (set_field("datatype", 32), Unsupported),
    "bits": (set_field("datatype", 1), Unsupported),
    "128-bit floats": (set_field("datatype", 1536), Unsupported),
    "unknown type": (set_field("datatype", 99), Damaged),
    "slope infinite": (set_field("scl_slope", np.inf), Damaged),
    "intercept NaN": (set_field("scl_inter", np.nan), Damaged),
    "offset in the header": (set_field("vox_offset", 100), Damaged),
    "offset negative": (set_field("vox_offset", -352), Damaged),
    "offset NaN": (set_field("vox_offset", np.nan), Damaged),
    "offset huge": (set_field("vox_offset", 1e30), Damaged),
    "two files": (set_field("magic", b"ni1"), Unsupported),
    "no magic": (set_field("magic", b"xx"), Damaged),
}


@pytest.mark.parametrize("case", BAD_HEADERS)
@pytest.mark.parametrize("packed", [False, True])
def test_bad_header_is_refused_by_name(case: str, packed: bool, tmp_path: Path) -> None:
    change, expected = BAD_HEADERS[case]
    path = patched(tmp_path / "v.nii", change)
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(Unreadable) as refusal:
        NIFTI.read(path, plain_allocate)
    assert type(refusal.value) is expected
    assert refusal.value.remedy


def test_the_unchanged_header_is_read(tmp_path: Path) -> None:
    """Else the cases above would prove nothing."""
    for big in (False, True):
        decoded = read(patched(tmp_path / f"{big}.nii", lambda header: None, big=big))
        assert np.array_equal(decoded.voxels, voxels())
        assert decoded.notes == ()


def test_pixdim_alone_is_taken_with_a_warning(tmp_path: Path) -> None:
    decoded = read(patched(tmp_path / "v.nii", no_forms(None)))
    assert np.allclose(decoded.geometry.spacing_mm, (2.5, 0.7, 0.7))
    assert any("neither position nor direction" in warning for warning in decoded.warnings)


def test_qform_is_used_and_contradiction_noted(tmp_path: Path) -> None:
    def only_qform(header: Header) -> None:
        header["sform_code"] = 0
        header["pixdim"][0] = 0

    assert np.allclose(read(patched(tmp_path / "q.nii", only_qform)).geometry.origins_mm[0], (-90, -120, -300))
    decoded = read(patched(tmp_path / "d.nii", set_field("qoffset_x", 55)))
    assert np.allclose(decoded.geometry.origins_mm[0], (-90, -120, -300))
    assert any("differ" in note for note in decoded.notes)
    decoded = read(patched(tmp_path / "b.nii", set_field("bitpix", 64)))
    assert any("bitpix" in note for note in decoded.notes)


def test_all_nan_is_damaged(tmp_path: Path) -> None:
    with pytest.raises(Damaged, match="finite"):
        read(save(tmp_path / "v.nii", np.full(SHAPE, np.nan, np.float32)))


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
def test_truncated_anywhere_is_damaged(name: str, tmp_path: Path) -> None:
    write_nifti(volume(), tmp_path / name)
    content = (tmp_path / name).read_bytes()
    cut = tmp_path / f"cut-{name}"
    for size in (*range(0, len(content) - 12, 37), *range(len(content) - 12, len(content))):
        cut.write_bytes(content[:size])
        with pytest.raises((Damaged, NotAnImage)):
            NIFTI.read(cut, plain_allocate)


@given(st.binary(max_size=600), st.sampled_from([b"", b"\x1f\x8b\x08\0", b"\x5c\x01\0\0", b"\0\0\x01\x5c"]))
def test_random_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, tail: bytes, start: bytes) -> None:
    path = tmp_path_factory.mktemp("r") / "v.nii"
    path.write_bytes(start + tail)
    assert NIFTI.claims(path, path.read_bytes()[:512])
    with pytest.raises(Unreadable):
        NIFTI.read(path, plain_allocate)


@given(st.data())
def test_flipped_bytes_never_raise_anything_unexpected(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("f")
    content = bytearray(patched(folder / "v.nii", lambda header: None).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, 351))] = data.draw(st.integers(0, 255))
    (folder / "v.nii").write_bytes(content)
    try:
        for decoded in NIFTI.read(folder / "v.nii", plain_allocate):
            assert np.isfinite(decoded.voxels).all()
    except Unreadable as refusal:
        assert refusal.reason


def test_bit_flip_in_gzip_is_damaged(tmp_path: Path) -> None:
    write_nifti(volume(), tmp_path / "v.nii.gz")
    content = bytearray((tmp_path / "v.nii.gz").read_bytes())
    content[-6] ^= 1  # in the check sum
    (tmp_path / "v.nii.gz").write_bytes(content)
    with pytest.raises(Damaged, match="compressed"):
        read(tmp_path / "v.nii.gz")


def bomb(path: Path, shape_ijk: tuple[int, int, int], unpacked: int) -> Path:
    """A gzip of `unpacked` zero bytes behind a header that states `shape_ijk`."""
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape(shape_ijk)
    header.set_sform(AFFINE, 1)
    header["vox_offset"] = 352
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    with path.open("wb") as file:
        file.write(packer.compress(header.binaryblock + bytes(4)))
        for _ in range(unpacked >> 20):
            file.write(packer.compress(bytes(2**20)))
        file.write(packer.flush())
    return path


def test_gzip_bombs_are_refused_before_they_unpack(tmp_path: Path) -> None:
    def never(shape: tuple[int, int, int]) -> np.ndarray:
        raise AssertionError(f"allocated {shape}")

    agreeing = bomb(tmp_path / "a.nii.gz", (512, 512, 512), 256 << 20)
    huge = bomb(tmp_path / "h.nii.gz", (1024, 1024, 1024), 16 << 20)
    with pytest.raises(LimitExceeded, match="times its size"):
        NIFTI.read(agreeing, never)
    with pytest.raises(Damaged, match="promises"):
        NIFTI.read(huge, never)


def test_a_bomb_behind_a_small_header_is_not_unpacked(tmp_path: Path) -> None:
    path = bomb(tmp_path / "v.nii.gz", (8, 8, 8), 256 << 20)
    tracemalloc.start()
    decoded = read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert decoded.notes == ("The file goes on after its image; what follows was not read.",)
    assert peak < 8 << 20


def test_more_voxels_than_allowed(tmp_path: Path) -> None:
    path = patched(tmp_path / "v.nii", set_field("dim", [3, 1024, 1024, 512, 1, 1, 1, 1]))
    with path.open("r+b") as file:
        file.truncate(352 + 2 * 1024 * 1024 * 512)  # sparse: takes no room
    with pytest.raises(LimitExceeded, match="voxels"):
        NIFTI.read(path, plain_allocate)


def test_claims(tmp_path: Path) -> None:
    write_nifti(volume(geometry()), tmp_path / "v.nii.gz")
    packed = (tmp_path / "v.nii.gz").read_bytes()
    plain = gzip.decompress(packed)
    assert NIFTI.claims(Path("anything"), plain[:512])
    assert NIFTI.claims(Path("anything.gz"), packed[:512])
    assert NIFTI.claims(Path("X.NII"), b"")
    assert NIFTI.claims(Path("v.hdr"), plain[:344] + bytes(168))
    for name, head in (
        ("a.dcm", bytes(128) + b"DICM"),
        ("a.gz", gzip.compress(b"text")),
        ("a", b""),
        ("b", b"\x1f\x8b"),
    ):
        assert not NIFTI.claims(Path(name), head)
