"""MetaImage: voxels and positions against SimpleITK; every kind of bad file refused by name."""

from __future__ import annotations

import os
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from frames import SHAPE, geometry, volume, voxels
from hypothesis import given
from hypothesis import strategies as st

from jachai.core.errors import Damaged, LimitExceeded, NotAnImage, Unreadable, Unsupported
from jachai.core.volume import Modality
from jachai.io.metaimage import METAIMAGE, companion
from jachai.io.reader import Decoded, plain_allocate
from jachai.io.writer import write_metaimage

LUNA = """ObjectType = Image
NDims = 3
BinaryData = True
BinaryDataByteOrderMSB = False
CompressedData = False
TransformMatrix = 1 0 0 0 1 0 0 0 1
Offset = -195.5 -195.5 -378.25
CenterOfRotation = 0 0 0
AnatomicalOrientation = RAI
ElementSpacing = 0.7617 0.7617 2.5
DimSize = 10 8 6
ElementType = MET_SHORT
ElementDataFile = v.raw
"""
"""The header that LUNA16 files have (and most that ITK wrote)."""


def luna(folder: Path, changes: dict[str, str | None] | None = None, data: bytes | None = None) -> Path:
    """A .mhd with its .raw; `changes` replaces (or with None leaves out) lines of the header."""
    lines = dict(line.split(" = ") for line in LUNA.splitlines())
    last = lines.pop("ElementDataFile")
    changes = dict(changes or {})
    last = changes.pop("ElementDataFile", last)
    for key, value in changes.items():
        if value is None:
            lines.pop(key)
        else:
            lines[key] = value
    text = "".join(f"{key} = {value}\n" for key, value in lines.items())
    text += "" if last is None else f"ElementDataFile = {last}\n"
    (folder / "v.mhd").write_bytes(os.fsencode(text))
    (folder / "v.raw").write_bytes(voxels().astype("<i2").tobytes() if data is None else data)
    return folder / "v.mhd"


def read(path: Path) -> Decoded:
    (decoded,) = METAIMAGE.read(path, plain_allocate)
    return decoded


def test_the_luna16_layout(tmp_path: Path) -> None:
    decoded = read(luna(tmp_path))
    assert np.array_equal(decoded.voxels, voxels())
    assert decoded.modality is Modality.CT
    assert np.allclose(decoded.geometry.origins_mm[0], (-195.5, -195.5, -378.25))
    assert np.allclose(decoded.geometry.spacing_mm, (2.5, 0.7617, 0.7617))
    assert companion(tmp_path / "v.mhd") == tmp_path / "v.raw"


@st.composite
def images(draw: st.DrawFn) -> SimpleITK.Image:
    """An image with any right- or left-handed orthonormal direction."""
    shape = tuple(draw(st.integers(1, 5)) for _ in range(3))
    image = SimpleITK.GetImageFromArray(np.arange(np.prod(shape), dtype=np.int16).reshape(shape))
    rotation = np.linalg.qr(np.random.default_rng(draw(st.integers(0, 999))).normal(size=(3, 3)))[0]
    image.SetDirection(rotation.ravel())
    image.SetSpacing([draw(st.floats(0.3, 5)) for _ in range(3)])
    image.SetOrigin([draw(st.floats(-500, 500)) for _ in range(3)])
    return image


@given(images(), st.sampled_from(["v.mha", "v.mhd"]), st.booleans())
def test_every_voxel_lies_where_simpleitk_puts_it(
    tmp_path_factory: pytest.TempPathFactory, image: SimpleITK.Image, name: str, packed: bool
) -> None:
    path = tmp_path_factory.mktemp("m") / name
    SimpleITK.WriteImage(image, str(path), packed)
    decoded = read(path)
    data = SimpleITK.GetArrayFromImage(image)
    for index in np.ndindex(decoded.voxels.shape):
        position = decoded.geometry.index_to_mm(index)
        at = np.array(image.TransformPhysicalPointToContinuousIndex(position))[::-1]
        assert np.abs(at - np.rint(at)).max() < 1e-3
        assert decoded.voxels[index] == data[tuple(np.rint(at).astype(int))]
    belonging = companion(path)
    assert belonging == (None if name == "v.mha" else path.with_suffix(".zraw" if packed else ".raw"))


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
@pytest.mark.parametrize("packed", [False, True])
def test_every_number_type(dtype: str, packed: bool, tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 120, SHAPE).astype(dtype)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(data), str(tmp_path / "v.mha"), packed)
    decoded = read(tmp_path / "v.mha")
    assert np.array_equal(decoded.voxels, data)
    assert (decoded.step == 1.0) == (np.dtype(dtype).kind in "iu")
    assert decoded.notes == ()


@pytest.mark.parametrize("key", ["BinaryDataByteOrderMSB", "ElementByteOrderMSB"])
def test_big_endian(key: str, tmp_path: Path) -> None:
    changes = {"BinaryDataByteOrderMSB": None, key: "True"}
    assert np.array_equal(read(luna(tmp_path, changes, voxels().astype(">i2").tobytes())).voxels, voxels())


@pytest.mark.parametrize("key", ["Position", "Origin"])
def test_other_names_of_keys(key: str, tmp_path: Path) -> None:
    changes = {
        "Offset": None, key: "1 2 3", "TransformMatrix": None, "Orientation": "0 1 0 0 0 -1 -1 0 0",
        "ElementSpacing": None, "ElementSize": "1 2 3",
    }  # fmt: skip
    decoded = read(luna(tmp_path, changes))
    assert np.allclose(decoded.geometry.origins_mm[0], (1, 2, 3))
    assert np.allclose(decoded.geometry.spacing_mm, (3, 2, 1))
    assert decoded.geometry.plane == "sagittal"


@pytest.mark.parametrize("size", [16, -1])
def test_header_size(size: int, tmp_path: Path) -> None:
    decoded = read(luna(tmp_path, {"HeaderSize": str(size)}, bytes(16) + voxels().astype("<i2").tobytes()))
    assert np.array_equal(decoded.voxels, voxels())


def test_modality_is_taken_from_the_file(tmp_path: Path) -> None:
    assert read(luna(tmp_path, {"Modality": "MET_MOD_MR"})).modality is Modality.MR
    assert read(luna(tmp_path, {"Modality": "MET_MOD_CT"})).warnings == ()
    assert any("taken for CT" in warning for warning in read(luna(tmp_path)).warnings)


def test_two_dimensions(tmp_path: Path) -> None:
    changes = {
        "NDims": "2", "TransformMatrix": "1 0 0 1", "Offset": "5 6", "ElementSpacing": "0.5 0.75", "DimSize": "10 8",
    }  # fmt: skip
    decoded = read(luna(tmp_path, changes, voxels()[0].astype("<i2").tobytes()))
    assert np.array_equal(decoded.voxels, voxels()[:1])
    assert decoded.geometry.spacing_mm == (None, 0.75, 0.5)
    assert np.allclose(decoded.geometry.index_to_mm((0, 2, 4)), (7, 7.5, 0))


def test_what_is_assumed_is_said(tmp_path: Path) -> None:
    warnings = read(luna(tmp_path, {"TransformMatrix": None, "Offset": None})).warnings
    assert any("no direction" in warning for warning in warnings)
    assert any("no position" in warning for warning in warnings)


def test_intensity_function(tmp_path: Path) -> None:
    changes: dict[str, str | None] = {"ElementToIntensityFunctionSlope": "2", "ElementToIntensityFunctionOffset": "-3"}
    decoded = read(luna(tmp_path, changes))
    assert np.array_equal(decoded.voxels, voxels() * 2 - 3)
    assert decoded.step == 2


def test_trailing_garbage_is_noted(tmp_path: Path) -> None:
    decoded = read(luna(tmp_path, None, voxels().astype("<i2").tobytes() + b"more"))
    assert decoded.notes == ("4 bytes follow the image; they were not read.",)
    assert np.array_equal(decoded.voxels, voxels())
    write_metaimage(volume(), tmp_path / "v.mha")
    with (tmp_path / "v.mha").open("ab") as file:
        file.write(b"garbage")
    assert len(read(tmp_path / "v.mha").notes) == 1


def test_some_nan_and_all_nan(tmp_path: Path) -> None:
    data = voxels()
    data[1, 2, 3] = np.nan
    decoded = read(luna(tmp_path, {"ElementType": "MET_FLOAT"}, data.astype("<f4").tobytes()))
    assert decoded.voxels[1, 2, 3] == decoded.voxels.min()
    assert any(warning.startswith("1 voxels") for warning in decoded.warnings)
    with pytest.raises(Damaged, match="finite"):
        read(luna(tmp_path, {"ElementType": "MET_FLOAT"}, np.full(SHAPE, np.nan, "<f4").tobytes()))


BAD_HEADERS: dict[str, tuple[dict[str, str | None], type[Unreadable]]] = {
    "no spacing": ({"ElementSpacing": None}, Damaged),
    "spacing zero": ({"ElementSpacing": "0.7 0 2.5"}, Damaged),
    "spacing negative": ({"ElementSpacing": "0.7 -0.7 2.5"}, Damaged),
    "spacing NaN": ({"ElementSpacing": "0.7 nan 2.5"}, Damaged),
    "spacing 1e400": ({"ElementSpacing": "0.7 1e400 2.5"}, Damaged),
    "spacing huge": ({"ElementSpacing": "0.7 1e10 2.5"}, Damaged),
    "spacing of two numbers": ({"ElementSpacing": "0.7 0.7"}, Damaged),
    "spacing of words": ({"ElementSpacing": "a b c"}, Damaged),
    "singular matrix": ({"TransformMatrix": "1 0 0 1 0 0 0 0 1"}, Damaged),
    "singular by slices": ({"TransformMatrix": "1 0 0 0 1 0 1 1 0"}, Damaged),
    "zero matrix": ({"TransformMatrix": "0 0 0 0 0 0 0 0 0"}, Damaged),
    "matrix with NaN": ({"TransformMatrix": "1 0 0 0 nan 0 0 0 1"}, Damaged),
    "matrix with infinity": ({"TransformMatrix": "1 0 0 0 inf 0 0 0 1"}, Damaged),
    "matrix of 1e10": ({"TransformMatrix": "1e10 0 0 0 1 0 0 0 1"}, Damaged),
    "matrix sheared in the plane": ({"TransformMatrix": "1 0 0 0.5 1 0 0 0 1"}, Unsupported),
    "offset absurd": ({"Offset": "1e10 0 0"}, Damaged),
    "offset NaN": ({"Offset": "nan 0 0"}, Damaged),
    "sizes negative": ({"DimSize": "10 -8 6"}, Damaged),
    "sizes zero": ({"DimSize": "10 0 6"}, Damaged),
    "sizes huge": ({"DimSize": "65535 65535 65535"}, Damaged),
    "sizes beyond numbers": ({"DimSize": "1e300 1e300 1e300"}, Damaged),
    "sizes NaN": ({"DimSize": "nan 8 6"}, Damaged),
    "sizes fractional": ({"DimSize": "10 8 6.5"}, Damaged),
    "sizes missing": ({"DimSize": None}, Damaged),
    "one slice more than there is": ({"DimSize": "10 8 7"}, Damaged),
    "four dimensions": ({"NDims": "4"}, Unsupported),
    "one dimension": ({"NDims": "1"}, Unsupported),
    "no dimensions": ({"NDims": "0"}, Damaged),
    "dimensions in words": ({"NDims": "three"}, Damaged),
    "three channels": ({"ElementNumberOfChannels": "3"}, Unsupported),
    "text data": ({"BinaryData": "False"}, Unsupported),
    "not an image": ({"ObjectType": "Tube"}, Unsupported),
    "nuclear medicine": ({"Modality": "MET_MOD_NM"}, Unsupported),
    "arrays": ({"ElementType": "MET_FLOAT_ARRAY"}, Unsupported),
    "unknown type": ({"ElementType": "int"}, Damaged),
    "no type": ({"ElementType": None}, Damaged),
    "slope zero": ({"ElementToIntensityFunctionSlope": "0"}, Damaged),
    "header size -2": ({"HeaderSize": "-2"}, Damaged),
    "header size too large": ({"HeaderSize": "99999"}, Damaged),
    "compressed size too large": ({"CompressedData": "True", "CompressedDataSize": "99999"}, Damaged),
    "not compressed at all": ({"CompressedData": "True"}, Damaged),
    "list": ({"ElementDataFile": "LIST"}, Unsupported),
    "list of 2-D": ({"ElementDataFile": "LIST 2D"}, Unsupported),
    "pattern": ({"ElementDataFile": "v%03d.raw 1 6 1"}, Unsupported),
    "no data file": ({"ElementDataFile": None}, Damaged),
    "missing data file": ({"ElementDataFile": "w.raw"}, Damaged),
    "data file is a folder": ({"ElementDataFile": "."}, Damaged),
    "parent folder": ({"ElementDataFile": "../v.raw"}, Unsupported),
    "parent folder, deeper": ({"ElementDataFile": "a/../../v.raw"}, Unsupported),
    "parent folder, Windows": ({"ElementDataFile": "..\\v.raw"}, Unsupported),
    "absolute": ({"ElementDataFile": "/etc/passwd"}, Unsupported),
    "absolute, Windows": ({"ElementDataFile": "C:\\v.raw"}, Unsupported),
    "drive, Windows": ({"ElementDataFile": "C:v.raw"}, Unsupported),
    "share, Windows": ({"ElementDataFile": "\\\\server\\share\\v.raw"}, Unsupported),
    "name too long": ({"ElementDataFile": "v" * 5000}, Damaged),
    "name with NUL": ({"ElementDataFile": "v\0.raw"}, Unsupported),
}


@pytest.mark.parametrize("case", BAD_HEADERS)
def test_bad_header_is_refused_by_name(case: str, tmp_path: Path) -> None:
    changes, expected = BAD_HEADERS[case]
    path = luna(tmp_path, changes)
    with pytest.raises(Unreadable) as refusal:
        METAIMAGE.read(path, plain_allocate)
    assert type(refusal.value) is expected
    assert refusal.value.remedy
    if "ElementDataFile" in changes:
        assert companion(path) is None


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    path = luna(tmp_path / "a")
    (tmp_path / "a" / "v.raw").rename(tmp_path / "v.raw")
    (tmp_path / "a" / "v.raw").symlink_to(tmp_path / "v.raw")
    with pytest.raises(Unsupported, match="outside"):
        read(path)
    assert companion(path) is None


def test_a_link_loop_and_a_pipe_are_refused(tmp_path: Path) -> None:
    path = luna(tmp_path)
    (tmp_path / "v.raw").unlink()
    (tmp_path / "v.raw").symlink_to("v.raw")
    with pytest.raises(Unreadable):
        read(path)
    if hasattr(os, "mkfifo"):
        (tmp_path / "v.raw").unlink()
        os.mkfifo(tmp_path / "v.raw")
        with pytest.raises(Damaged, match="regular"):
            read(path)


def test_a_data_file_in_a_folder_below_or_with_an_odd_name(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    for name in ("raw/v.raw", "v 1 é.raw", os.fsdecode(b"v\xff.raw")):
        path = luna(tmp_path, {"ElementDataFile": name})
        (tmp_path / "v.raw").rename(tmp_path / name)
        assert np.array_equal(read(path).voxels, voxels())
        assert companion(path) == tmp_path / name


@pytest.mark.parametrize("name", ["v.mha", "v.mhd"])
def test_truncated_anywhere_is_refused(name: str, tmp_path: Path) -> None:
    cut = write_metaimage(volume(geometry("oblique")), tmp_path / name)[-1]
    content = cut.read_bytes()
    for size in (*range(0, len(content) - 12, 37), *range(len(content) - 12, len(content))):
        cut.write_bytes(content[:size])
        with pytest.raises((Damaged, NotAnImage)):
            METAIMAGE.read(tmp_path / name, plain_allocate)


def test_a_cut_header_is_refused(tmp_path: Path) -> None:
    path = luna(tmp_path)
    content = path.read_bytes()
    for size in range(len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises((Damaged, NotAnImage)):
            read(path)
        companion(path)


@given(
    st.binary(max_size=400), st.sampled_from([b"", b"ObjectType = Image\nNDims = 3\n", b"ElementDataFile = LOCAL\n"])
)
def test_random_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, tail: bytes, start: bytes) -> None:
    path = tmp_path_factory.mktemp("r") / "v.mha"
    path.write_bytes(start + tail)
    with pytest.raises(Unreadable):
        METAIMAGE.read(path, plain_allocate)
    companion(path)


@given(st.data())
def test_flipped_bytes_never_raise_anything_unexpected(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = luna(tmp_path_factory.mktemp("f"))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    companion(path)
    try:
        for decoded in METAIMAGE.read(path, plain_allocate):
            assert np.isfinite(decoded.voxels).all()
    except Unreadable as refusal:
        assert refusal.reason


def test_zlib_bombs(tmp_path: Path) -> None:
    def never(shape: tuple[int, int, int]) -> np.ndarray:
        raise AssertionError(f"allocated {shape}")

    changes: dict[str, str | None] = {"CompressedData": "True"}
    packed = zlib.compress(bytes(128 << 20), 9)
    with pytest.raises(LimitExceeded, match="times its size"):
        METAIMAGE.read(luna(tmp_path, changes | {"DimSize": "512 512 256"}, packed), never)
    with pytest.raises(Damaged, match="promises"):
        METAIMAGE.read(luna(tmp_path, changes | {"DimSize": "1024 1024 1024"}, packed), never)
    path = luna(tmp_path, changes, packed)
    tracemalloc.start()
    decoded = read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(decoded.notes) == 1
    assert peak < 4 << 20


def test_more_voxels_than_allowed(tmp_path: Path) -> None:
    path = luna(tmp_path, {"DimSize": "1024 1024 512"})
    with (tmp_path / "v.raw").open("r+b") as file:
        file.truncate(2 * 1024 * 1024 * 512)  # sparse: takes no room
    with pytest.raises(LimitExceeded, match="voxels"):
        read(path)


def test_claims() -> None:
    assert METAIMAGE.claims(Path("x.MHD"), b"")
    assert METAIMAGE.claims(Path("x.mha"), b"")
    assert METAIMAGE.claims(Path("x"), LUNA.encode()[:512])
    assert not METAIMAGE.claims(Path("x.raw"), b"")
    assert not METAIMAGE.claims(Path("x"), bytes(128) + b"DICM")
