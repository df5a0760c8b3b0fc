"""Honest processing keeps the scan a scan: shape and geometry agree, values stay on a grid, nothing local happens."""

import numpy as np
import pytest
from scipy import ndimage

from jachai.core.errors import UsageError
from jachai.core.volume import Modality, Volume
from jachai.tamper import ATTACKS
from jachai.tamper.attack import perform
from jachai.tamper.plain import from_plain, to_plain
from jachai.tamper.processing import PROCESSING, ProcessingRecord, process, processing

SAME_SHAPE = set(PROCESSING) - {"resample", "crop", "reslice"}


@pytest.fixture(scope="module")
def slab(thorax: Volume) -> Volume:
    """Twelve slices of the chest."""
    assert thorax.geometry is not None
    box = ((14, 26), (0, 160), (0, 176))
    return Volume(thorax.voxels[14:26], Modality.CT, thorax.geometry.cropped(box), thorax.provenance)


@pytest.mark.parametrize("name", PROCESSING)
@pytest.mark.parametrize("kind", ["ct", "mr"])
def test_every_processing(name: str, kind: str, slab: Volume, head: Volume) -> None:
    volume = slab if kind == "ct" else head
    before = volume.voxels.copy()
    for seed in range(2):
        record = processing(name).sample(volume, np.random.default_rng(seed))
        after = process(volume, record)
        assert np.array_equal(volume.voxels, before), "the input was touched"
        assert from_plain(ProcessingRecord, to_plain(record)) == record
        assert np.array_equal(process(volume, record).voxels, after.voxels), "does not replay"
        assert after.geometry is not None and len(after.geometry.origins_mm) == after.shape[0]
        assert after.voxels.dtype == np.float32 and np.isfinite(after.voxels).all()
        step = after.provenance.step
        assert step is not None
        grid = (after.voxels - after.voxels.min()) / step
        assert np.abs(grid - np.rint(grid)).max() < 2e-2, "off its quantisation grid"
        if name in SAME_SHAPE:
            assert after.shape == volume.shape
            body = volume.voxels > np.percentile(volume.voxels, 40)
            if name != "window-8bit" and not record.choice:
                error = np.abs(after.voxels - volume.voxels)[body].mean()
                assert error < 0.1 * np.ptp(volume.voxels[body]), "this is another scan"
        assert name == "none" or after.shape != volume.shape or not np.array_equal(after.voxels, volume.voxels)


def test_lossy_is_said(slab: Volume) -> None:
    for name in ("jpeg", "jpeg2000", "jpeg-ls", "window-8bit", "requantise"):
        assert process(slab, processing(name).sample(slab, np.random.default_rng(0))).provenance.lossy
    for name in ("sharpen", "crop", "none"):
        assert not process(slab, processing(name).sample(slab, np.random.default_rng(0))).provenance.lossy


def test_near_lossless_errs_by_no_more_than_it_says(slab: Volume) -> None:
    for largest in (1.0, 3.0):
        after = process(slab, ProcessingRecord("jpeg-ls", largest))
        error = np.abs(after.voxels - slab.voxels)
        assert 0 < error.max() <= largest


def test_compression_ratio_costs_quality(slab: Volume) -> None:
    few, many = (
        np.abs(process(slab, ProcessingRecord("jpeg2000", r)).voxels - slab.voxels).mean() for r in (5.0, 40.0)
    )
    assert few < many
    low, high = (
        np.abs(process(slab, ProcessingRecord("jpeg", q, "-600 1500")).voxels - slab.voxels.clip(-1350, 150)).mean()
        for q in (60.0, 97.0)
    )
    assert high < low


def test_reslicing_averages_and_moves_the_slices(slab: Volume) -> None:
    after = process(slab, ProcessingRecord("reslice", 3.0))
    assert after.shape[0] == 4
    assert np.abs(after.voxels[1] - slab.voxels[3:6].mean(axis=0)).max() <= 0.51
    assert after.geometry is not None and slab.geometry is not None
    assert np.allclose(after.geometry.origins_mm[1], slab.geometry.origins_mm[4])
    assert after.geometry.slice_step_mm == pytest.approx(6.0)


def test_cropping_and_resampling_keep_places_in_mm(slab: Volume) -> None:
    assert slab.geometry is not None
    places = slab.geometry.index_to_mm(np.random.default_rng(0).uniform((2, 30, 35), (9, 130, 140), (400, 3)))
    wanted = smoothed_at(slab, places)
    for record in (ProcessingRecord("crop", 0.8), ProcessingRecord("resample", 1.25, "1 kept")):
        assert np.corrcoef(smoothed_at(process(slab, record), places), wanted)[0, 1] > 0.98


def smoothed_at(volume: Volume, places_mm: np.ndarray) -> np.ndarray:
    """Values at places in mm, smoothed over 4 mm in the plane."""
    assert volume.geometry is not None
    spacing = volume.spacing_mm
    assert spacing is not None
    smooth = ndimage.gaussian_filter(volume.voxels, [0, 4 / spacing[1], 4 / spacing[2]])
    index = np.rint(volume.geometry.mm_to_index(places_mm)).astype(int)
    return np.asarray(smooth[tuple(index.T)])


@pytest.mark.parametrize(
    ("name", "grows"),
    [
        ("denoise-gaussian", False),
        ("denoise-median", False),
        ("denoise-bilateral", False),
        ("denoise-nonlocal", False),
        ("sharpen", True),
    ],
)
def test_noise_falls_or_grows(name: str, grows: bool, slab: Volume) -> None:
    after = process(slab, processing(name).sample(slab, np.random.default_rng(1)))

    def noise(volume: Volume) -> float:
        return float(np.median(np.abs(ndimage.laplace(volume.voxels[6])[60:100, 60:120])))

    assert (noise(after) > noise(slab)) == grows


def test_slabs_leave_no_seam(thorax: Volume) -> None:
    whole = process(thorax, ProcessingRecord("denoise-gaussian", 0.9, "3d")).voxels
    sigma = 0.9 / 2
    oracle = ndimage.gaussian_filter(thorax.voxels, sigma, truncate=3)
    assert np.abs(whole - np.maximum(np.rint(oracle), -1024)).max() <= 1


def test_laundering_after_an_attack(thorax: Volume) -> None:
    forged, _ = perform(ATTACKS["nodule"], thorax, np.random.default_rng(0))
    washed = process(forged, processing("jpeg2000").sample(forged, np.random.default_rng(0)))
    assert washed.shape == thorax.shape and washed.provenance.lossy


def test_unknown_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="'sharpen'"):
        processing("sharpn")
