"""Tiny generated files → the hash of their voxels and positions: what was read yesterday is read today."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import dicom_samples as samples
import numpy as np
import pytest
from dicom_samples import OBLIQUE, Series
from pydicom import uid

from jachai.core.volume import Volume
from jachai.io.files import read


def fingerprint(volume: Volume) -> str:
    """Of the voxels and of the positions to 0.1 µm."""
    assert volume.geometry is not None
    digest = hashlib.sha256(np.ascontiguousarray(volume.voxels, "<f4").tobytes())
    for array in (volume.geometry.origins_mm, volume.geometry.row_step_mm, volume.geometry.column_step_mm):
        digest.update(np.round(array * 1e4).astype("<i8").tobytes())
    return digest.hexdigest()[:16]


def _one(folder: Path, syntax: uid.UID) -> None:
    data_set = samples.slice_of(Series(), 0, samples.pattern(0, (64, 48), "u2"))
    samples.save(samples.compressed(data_set, syntax), folder / "a.dcm")


def _gap(folder: Path) -> None:
    samples.write_series(folder, Series(n=6))[2].unlink()


def _monochrome1(folder: Path) -> None:
    data_set = samples.slice_of(Series(), 0, samples.pattern(0, dtype="u2"))
    data_set.BitsStored, data_set.HighBit, data_set.PhotometricInterpretation = 12, 11, "MONOCHROME1"
    samples.save(data_set, folder / "a.dcm")


KINDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "ct": (samples.write_series, "1b59c4892a3fde51"),
    "mr": (lambda folder: samples.write_series(folder, Series(orientation=OBLIQUE), "MR"), "bb07d41b88b77c28"),
    "gap": (_gap, "7b9a2a3be1b28f61"),
    "tilted": (lambda folder: samples.write_series(folder, Series(shift=(0, 0.7, 0))), "b2ce6ca7495f5cae"),
    "monochrome1": (_monochrome1, "653082083f6f62b5"),
    "big-endian": (
        lambda folder: samples.save(samples.big_endian(samples.slice_of(Series(), 0)), folder / "a.dcm"),
        "c3def48385d05cdf",
    ),
    "jpeg-ls": (lambda folder: _one(folder, uid.JPEGLSLossless), "220e4c3fed92ba9e"),
    "jpeg-2000": (lambda folder: _one(folder, uid.JPEG2000Lossless), "220e4c3fed92ba9e"),
    "rle": (lambda folder: _one(folder, uid.RLELossless), "220e4c3fed92ba9e"),
    "enhanced": (lambda folder: samples.save(samples.enhanced(Series(n=3)), folder / "a.dcm"), "ddad056bd0e01434"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_reading_gives_what_it_gave(tmp_path: Path, kind: str) -> None:
    make, expected = KINDS[kind]
    make(tmp_path)
    (volume,) = list(read(tmp_path))
    assert isinstance(volume, Volume)
    assert fingerprint(volume) == expected
