"""Pictures: grey ones become slices, colour ones and bad ones are refused by name."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from jachai.core.errors import Damaged, LimitExceeded, NotAnImage, Unreadable, Unsupported
from jachai.core.volume import Modality
from jachai.io.picture import PICTURE
from jachai.io.reader import Decoded, plain_allocate

RNG = np.random.default_rng(0)
GREY8 = RNG.integers(0, 256, (20, 30), dtype=np.uint8)
GREY16 = RNG.integers(0, 65_536, (20, 30), dtype=np.uint16)
COLOUR = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)


def save(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def read(path: Path) -> Decoded:
    (decoded,) = PICTURE.read(path, plain_allocate)
    return decoded


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(path: Path, width: int, height: int, depth: int, colour_type: int, rows: bytes) -> Path:
    """A PNG made by hand (PNG specification, 11.2): for what Pillow does not write."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(rows, 9))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + data + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize("name", ["p.png", "p.tif", "p.TIFF"])
@pytest.mark.parametrize("pixels", [GREY8, GREY16])
def test_grey_pictures_are_read_exactly(name: str, pixels: np.ndarray, tmp_path: Path) -> None:
    decoded = read(save(tmp_path / name, pixels))
    assert np.array_equal(decoded.voxels, pixels[None])
    assert decoded.voxels.dtype == np.float32
    assert decoded.modality is Modality.PICTURE
    assert decoded.geometry is None
    assert decoded.step == 1.0
    assert not decoded.lossy
    assert any("no Hounsfield units and no geometry" in warning for warning in decoded.warnings)
    assert any("8 bits" in warning for warning in decoded.warnings) == (pixels.dtype == np.uint8)
    assert decoded.attributes["bits"] == str(8 * pixels.itemsize)


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<f4", "<i4"])
def test_tiff_of_other_numbers(dtype: str, tmp_path: Path) -> None:
    decoded = read(save(tmp_path / "p.tif", (GREY16 // 4).astype(dtype)))
    assert np.array_equal(decoded.voxels[0], GREY16 // 4)
    assert (decoded.step is None) == (dtype == "<f4")


def test_float_tiff_with_nan_is_damaged(tmp_path: Path) -> None:
    with pytest.raises(Damaged, match="finite"):
        read(save(tmp_path / "p.tif", np.full((4, 4), np.nan, np.float32)))


@pytest.mark.parametrize("name", ["p.jpg", "p.jpeg"])
def test_jpeg_is_lossy(name: str, tmp_path: Path) -> None:
    path = save(tmp_path / name, GREY8, quality=95)
    assert read(path).lossy
    assert np.array_equal(read(path).voxels[0], np.asarray(Image.open(path)))


def test_jpeg_in_tiff_is_lossy(tmp_path: Path) -> None:
    assert read(save(tmp_path / "p.tif", GREY8, compression="jpeg")).lossy
    assert not read(save(tmp_path / "q.tif", GREY8, compression="tiff_lzw")).lossy


@pytest.mark.parametrize("pixels", [GREY8, GREY16])
def test_pages_of_a_tiff_become_slices(pixels: np.ndarray, tmp_path: Path) -> None:
    pages = [np.roll(pixels, shift) for shift in range(4)]
    images = [Image.fromarray(page) for page in pages]
    images[0].save(tmp_path / "p.tif", save_all=True, append_images=images[1:])
    assert np.array_equal(read(tmp_path / "p.tif").voxels, pages)


def test_pages_of_different_sizes_are_refused(tmp_path: Path) -> None:
    images = [Image.fromarray(GREY8), Image.fromarray(GREY8[:5])]
    images[0].save(tmp_path / "p.tif", save_all=True, append_images=images[1:])
    with pytest.raises(Unsupported, match="size"):
        read(tmp_path / "p.tif")


@pytest.mark.parametrize("name", ["p.png", "p.tif"])
def test_grey_stored_as_colour_is_read(name: str, tmp_path: Path) -> None:
    decoded = read(save(tmp_path / name, np.repeat(GREY8[..., None], 3, axis=2)))
    assert np.array_equal(decoded.voxels[0], GREY8)
    assert any("stored in colour" in warning for warning in decoded.warnings)


def test_grey_jpeg_stored_as_colour_is_read(tmp_path: Path) -> None:
    smooth = np.repeat(np.linspace(0, 255, 30).astype(np.uint8)[None, :, None], 20, axis=0).repeat(3, axis=2)
    assert np.abs(read(save(tmp_path / "p.jpg", smooth)).voxels[0] - smooth[..., 0]).max() < 12


@pytest.mark.parametrize("name", ["p.png", "p.jpg", "p.tif"])
def test_colour_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="photograph"):
        read(save(tmp_path / name, COLOUR))


def test_one_coloured_pixel_is_colour(tmp_path: Path) -> None:
    pixels = np.repeat(GREY8[..., None], 3, axis=2)
    pixels[10, 10] = (200, 0, 0)
    with pytest.raises(Unsupported, match="colours"):
        read(save(tmp_path / "p.png", pixels))


def test_palette(tmp_path: Path) -> None:
    grey = Image.fromarray(GREY8 // 16, mode=None).convert("L")
    grey.convert("RGB").convert("P", palette=Image.Palette.ADAPTIVE, colors=256).save(tmp_path / "g.png")
    assert np.array_equal(read(tmp_path / "g.png").voxels[0], GREY8 // 16)
    Image.fromarray(COLOUR).convert("P").save(tmp_path / "c.png")
    with pytest.raises(Unsupported, match="photograph"):
        read(tmp_path / "c.png")


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("alpha", [255, 100])
def test_alpha_is_ignored_and_said(channels: int, alpha: int, tmp_path: Path) -> None:
    pixels = np.repeat(GREY8[..., None], channels, axis=2)
    pixels[..., -1] = alpha
    decoded = read(save(tmp_path / "p.png", pixels))
    assert np.array_equal(decoded.voxels[0], GREY8)
    assert any("transparent" in warning for warning in decoded.warnings) == (alpha < 255)


def test_one_bit(tmp_path: Path) -> None:
    decoded = read(save(tmp_path / "p.png", GREY8 > 128))
    assert np.array_equal(decoded.voxels[0], np.where(GREY8 > 128, 255, 0))
    assert any("one bit" in warning for warning in decoded.warnings)


@pytest.mark.parametrize(("colour_type", "channels"), [(2, 3), (6, 4), (4, 2)])
def test_16_bit_colours_are_not_cut_to_8(colour_type: int, channels: int, tmp_path: Path) -> None:
    path = png(tmp_path / "p.png", 12, 10, 16, colour_type, (b"\0" + bytes(12 * channels * 2)) * 10)
    with pytest.raises(Unsupported, match="16-bit colours"):
        read(path)


def test_cmyk_and_animations_are_refused(tmp_path: Path) -> None:
    Image.fromarray(COLOUR).convert("CMYK").save(tmp_path / "c.jpg")
    with pytest.raises(Unsupported, match="kind"):
        read(tmp_path / "c.jpg")
    frames = [Image.fromarray(np.roll(GREY8, shift)) for shift in range(3)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    with pytest.raises(Unsupported, match="animation"):
        read(tmp_path / "a.png")


@pytest.mark.parametrize("side", [10_000, 65_535, 2**31 - 1])
def test_claims_of_size_are_refused_before_allocating(side: int, tmp_path: Path) -> None:
    def never(shape: tuple[int, int, int]) -> np.ndarray:
        raise AssertionError(f"allocated {shape}")

    with pytest.raises(LimitExceeded):
        PICTURE.read(png(tmp_path / "p.png", side, side, 8, 0, bytes(1000)), never)


def test_a_tiff_that_lies_about_its_size(tmp_path: Path) -> None:
    content = bytearray(save(tmp_path / "p.tif", GREY8).read_bytes())
    entry = (
        content.index(struct.pack("<HHII", 256, 4, 1, 30)) if struct.pack("<HHII", 256, 4, 1, 30) in content else None
    )
    short = struct.pack("<HHIHH", 256, 3, 1, 30, 0)
    entry = content.index(short) if entry is None else entry
    content[entry : entry + 12] = struct.pack("<HHII", 256, 4, 1, 60_000)
    (tmp_path / "p.tif").write_bytes(content)
    with pytest.raises(Unreadable):
        read(tmp_path / "p.tif")


def test_text_bomb_in_png(tmp_path: Path) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("bomb", "0" * (80 << 20), zip=True)
    path = tmp_path / "p.png"
    Image.fromarray(GREY8).save(path, pnginfo=text)
    assert path.stat().st_size < 1 << 20
    with pytest.raises(Unreadable):
        read(path)


@pytest.mark.parametrize("name", ["p.png", "p.jpg", "p.tif"])
def test_truncated_anywhere_is_refused(name: str, tmp_path: Path) -> None:
    content = save(tmp_path / name, GREY8).read_bytes()
    needed = len(content) - 20 if name != "p.jpg" else len(content) - 60
    for size in range(0, needed, 23):
        (tmp_path / name).write_bytes(content[:size])
        with pytest.raises(Unreadable) as refusal:
            read(tmp_path / name)
        assert type(refusal.value) in (Damaged, NotAnImage, Unsupported)
        assert refusal.value.remedy


@given(st.binary(max_size=300), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"II*\0\x08\0\0\0"]))
def test_random_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, tail: bytes, start: bytes) -> None:
    path = tmp_path_factory.mktemp("r") / "p.png"
    path.write_bytes(start + tail)
    with pytest.raises(Unreadable):
        PICTURE.read(path, plain_allocate)


@given(st.sampled_from(["PNG", "JPEG", "TIFF"]), st.data())
def test_flipped_bytes_never_raise_anything_unexpected(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject
) -> None:
    buffer = io.BytesIO()
    Image.fromarray(GREY8).save(buffer, kind)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("f") / "p"
    path.write_bytes(content)
    try:
        for decoded in PICTURE.read(path, plain_allocate):
            assert np.isfinite(decoded.voxels).all()
    except Unreadable as refusal:
        assert refusal.reason


def test_a_tiff_whose_pages_go_in_circles_ends(tmp_path: Path) -> None:
    content = bytearray(save(tmp_path / "p.tif", GREY8).read_bytes())
    (first,) = struct.unpack_from("<I", content, 4)
    (entries,) = struct.unpack_from("<H", content, first)
    struct.pack_into("<I", content, first + 2 + 12 * entries, first)
    (tmp_path / "p.tif").write_bytes(content)
    assert np.array_equal(read(tmp_path / "p.tif").voxels[0], GREY8)


def test_claims(tmp_path: Path) -> None:
    assert PICTURE.claims(Path("x.PNG"), b"")
    assert PICTURE.claims(Path("x"), save(tmp_path / "p.jpg", GREY8).read_bytes()[:512])
    assert not PICTURE.claims(Path("x"), b"GIF89a")
    dual = b"II*\0" + bytes(124) + b"DICM" + bytes(380)
    assert not PICTURE.claims(Path("x.tif"), dual)
    (tmp_path / "g.png").write_bytes(b"GIF89a" + bytes(100))
    with pytest.raises(NotAnImage):
        read(tmp_path / "g.png")
