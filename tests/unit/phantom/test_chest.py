"""The chest phantom: deterministic, the same patient at every spacing, and anatomy and nodules where they are said to be."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from jachai.core.errors import UsageError
from jachai.core.volume import Modality, Volume
from jachai.phantom import ChestPhantom, Nodule, chest

SMALL = ChestPhantom(shape_kji=(12, 96, 96), spacing_mm=(5.0, 3.8, 3.8), seed=3)
WHOLE = ChestPhantom(shape_kji=(49, 129, 129), spacing_mm=(5.0, 2.8, 2.8), noise_hu=0, nodules=0)


@lru_cache(maxsize=4)
def made(phantom: ChestPhantom) -> tuple[Volume, tuple[Nodule, ...]]:
    return chest(phantom)


def test_the_same_settings_give_the_same_voxels() -> None:
    one, two = chest(SMALL), chest(SMALL)
    assert np.array_equal(one[0].voxels, two[0].voxels)
    assert one[1] == two[1]


def test_another_seed_is_another_patient_and_another_noise_seed_another_scan() -> None:
    first, other = made(SMALL)[0].voxels, chest(replace(SMALL, seed=4))[0].voxels
    assert np.abs(first - other).mean() > 30
    again, nodules = chest(replace(SMALL, noise_seed=9))
    assert nodules == made(SMALL)[1]
    change = again.voxels - first
    assert abs(change.mean()) < 0.5
    assert 5 < change.std() < 40
    still = chest(replace(SMALL, noise_hu=0))[0].voxels
    assert np.abs(first - still).mean() > 5
    assert np.corrcoef((first - still).ravel(), (again.voxels - still).ravel())[0, 1] < 0.02


def test_it_is_a_ct_in_whole_hu_with_geometry() -> None:
    volume, _ = made(SMALL)
    assert volume.modality is Modality.CT
    assert volume.provenance.format == "phantom"
    assert volume.provenance.step == 1.0
    assert volume.spacing_mm == pytest.approx((5.0, 3.8, 3.8))
    assert np.array_equal(volume.voxels, np.rint(volume.voxels))
    assert -1024 <= volume.voxels.min() < -950
    assert 400 < volume.voxels.max() <= 3071
    assert volume.geometry is not None
    middle = volume.geometry.index_to_mm((np.array(volume.shape) - 1) / 2)
    assert np.allclose(middle, 0, atol=1e-9)


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 20), st.integers(1, 20)),
    spacing=st.tuples(st.floats(0.5, 10), st.floats(0.3, 30), st.floats(0.3, 30)),
    centre=st.tuples(st.floats(-250, 250), st.floats(-250, 250), st.floats(-400, 400)),
    kernel=st.sampled_from(["soft", "sharp"]),
)
@settings(max_examples=25)
def test_any_size_spacing_and_place(
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    centre: tuple[float, float, float],
    kernel: str,
) -> None:
    volume, _ = chest(ChestPhantom(shape_kji=shape, spacing_mm=spacing, center_mm=centre, kernel=kernel))
    assert volume.shape == shape
    assert np.isfinite(volume.voxels).all()
    assert volume.voxels.min() >= -1024


@pytest.mark.parametrize(
    "wrong",
    [
        {"kernel": "B31f"},
        {"shape_kji": (0, 4, 4)},
        {"spacing_mm": (1.0, 0.0, 1.0)},
        {"spacing_mm": (1.0, float("nan"), 1.0)},
        {"noise_hu": -1.0},
        {"seed": -1},
        {"thickness_mm": 0.0},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        ChestPhantom(**wrong)  # type: ignore[arg-type]


def test_the_same_point_is_the_same_tissue_at_two_spacings() -> None:
    fine = chest(ChestPhantom((17, 129, 129), (2.5, 2.8, 2.8), 5, noise_hu=0, nodules=0, thickness_mm=2.5))[0].voxels
    wide = chest(ChestPhantom((9, 65, 65), (5.0, 5.6, 5.6), 5, noise_hu=0, nodules=0, thickness_mm=2.5))[0].voxels
    thin = fine[::2, ::2, ::2]
    smooth = ndimage.maximum_filter(fine, 3)[::2, ::2, ::2] - ndimage.minimum_filter(fine, 3)[::2, ::2, ::2] < 80
    assert smooth.mean() > 0.4
    assert np.abs(thin - wide)[smooth].max() < 60
    assert np.abs(thin - wide)[smooth].mean() < 8
    classes = [np.digitize(v, [-500, -30, 200]) for v in (thin, wide)]
    assert (classes[0] == classes[1]).mean() > 0.96


def test_a_window_of_the_patient_is_the_patient() -> None:
    """Another field of view samples the same anatomy: voxels at the same mm agree exactly."""
    whole = chest(ChestPhantom((3, 101, 101), (2.0, 3.0, 3.0), 6, noise_hu=0, nodules=0))[0].voxels
    part = chest(ChestPhantom((3, 41, 41), (2.0, 3.0, 3.0), 6, noise_hu=0, nodules=0, center_mm=(30, -30, 0)))[0].voxels
    assert np.abs(whole[:, 20:61, 40:81] - part).max() <= 1


def lungs_of(voxels: np.ndarray) -> np.ndarray:
    """Air-like voxels that do not touch the border of their slice."""
    label, _ = ndimage.label(voxels < -500)
    outside = np.unique(
        np.concatenate([label[:, 0].ravel(), label[:, -1].ravel(), label[:, :, 0].ravel(), label[:, :, -1].ravel()])
    )
    return (label > 0) & ~np.isin(label, outside)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_patient_is_plausible(seed: int) -> None:
    volume, _ = made(replace(WHOLE, seed=seed))
    v = volume.voxels
    lungs = lungs_of(v)
    millilitre = 5.0 * 2.8 * 2.8 / 1000
    assert 3500 < lungs.sum() * millilitre < 7500  # adult, breathed in
    right, left = lungs[:, :, :64].sum(), lungs[:, :, 65:].sum()
    assert 1.02 < right / left < 1.6  # the heart takes its place from the left
    assert -900 < np.median(v[lungs]) < -820
    area = lungs.sum(axis=(1, 2)) * 2.8**2
    assert area[46] < 0.35 * area.max()  # apices taper
    assert area[2] < 0.5 * area.max()  # domes rise from below
    body = ndimage.binary_fill_holes(v[24] > -300)
    assert 0.3 < lungs[24].sum() / body.sum() < 0.65
    assert (v[:, :5] < -990).all()
    heart = v[18, 45:60]
    assert heart[:, 65:90].mean() > heart[:, 39:64].mean() + 150  # on the patient's left, the image's right
    bone = v > 350
    assert 0.005 < bone.sum() / (v > -300).sum() < 0.12
    pieces = np.bincount(ndimage.label(bone[24])[0].ravel())[1:]
    assert 7 <= (pieces > 8).sum() <= 30  # ribs cross a slice as separate pieces
    assert pieces.max() < 400
    liver = v[2, 55:75, 30:40]
    assert 40 < np.median(liver) < 75
    fat = ((v > -130) & (v < -75)).sum() * millilitre
    assert 1000 < fat < 9000


def test_noise_in_the_middle_is_what_was_asked_and_less_outside() -> None:
    phantom = ChestPhantom((5, 200, 200), (2.5, 1.9, 1.9), 1, noise_hu=20, nodules=0)
    noise = chest(phantom)[0].voxels - chest(replace(phantom, noise_hu=0))[0].voxels
    middle, air = noise[:, 90:110, 90:110].std(), noise[:, 5:25, 60:140].std()
    assert middle == pytest.approx(20, rel=0.08)
    assert 0.3 * middle < air < 0.9 * middle
    assert abs(noise.mean()) < 0.3
    clipped = chest(replace(phantom, noise_hu=80))[0].voxels
    assert clipped.min() == -1024
    assert (clipped[:, 5:25] == -1024).mean() > 0.1


def test_shoulders_and_liver_are_noisier_than_the_lungs() -> None:
    def middle(z: float) -> float:
        phantom = ChestPhantom((3, 128, 128), (2.5, 3.0, 3.0), 1, noise_hu=20, nodules=0, center_mm=(0, 0, z))
        noise = chest(phantom)[0].voxels - chest(replace(phantom, noise_hu=0))[0].voxels
        return float(noise[:, 56:72, 56:72].std())

    assert middle(105) > 1.1 * middle(0)
    assert middle(-105) > 1.1 * middle(0)


@pytest.mark.parametrize("kernel", ["soft", "standard", "sharp"])
def test_nodules_are_where_they_are_said_to_be_and_as_large(kernel: str) -> None:
    phantom = ChestPhantom((40, 180, 180), (2.0, 1.9, 1.9), 7, kernel, noise_hu=0, nodules=4)
    volume, nodules = chest(phantom)
    empty = chest(replace(phantom, nodules=0))[0]
    lungs = lungs_of(empty.voxels)
    assert len(nodules) == 4
    assert volume.geometry is not None
    for nodule in nodules:
        centre = volume.geometry.mm_to_index(nodule.center_mm)
        k, j, i = np.rint(centre).astype(int)
        reach = int(np.ceil(nodule.diameter_mm / 1.9)) + 2
        box = tuple(slice(max(c - reach, 0), c + reach + 1) for c in (k, j, i))
        assert ndimage.binary_closing(lungs[box], iterations=2)[reach - 1 : reach + 2, reach, reach].all()
        change = volume.voxels[box].astype(float) - empty.voxels[box]
        contrast = nodule.hu - np.median(empty.voxels[box][empty.voxels[box] < -500])
        volume_mm3 = change.sum() / contrast * 2.0 * 1.9**2
        assert 2 * (3 * volume_mm3 / (4 * np.pi)) ** (1 / 3) == pytest.approx(nodule.diameter_mm, rel=0.12)
        if nodule.diameter_mm > 9 and kernel != "sharp":
            assert volume.voxels[k, j, i] == pytest.approx(nodule.hu, abs=8)
        weight = np.maximum(change, 0)
        found = [(weight * g).sum() / weight.sum() + b.start for g, b in zip(np.indices(weight.shape), box)]
        assert np.abs(np.array(found) - centre).max() < 1.0
        changed = np.argwhere(np.abs(change) > 25) + [b.start for b in box]
        away = np.linalg.norm(volume.geometry.index_to_mm(changed) - nodule.center_mm, axis=1)
        assert away.max() < nodule.diameter_mm / 2 + 7


def test_given_nodules_are_put_in_as_given() -> None:
    wanted = (Nodule((-70.0, 0.0, 10.0), 20.0, -600.0),)
    volume, nodules = chest(ChestPhantom((9, 96, 96), (5.0, 3.5, 3.5), nodules=wanted, noise_hu=0))
    assert nodules == wanted
    assert volume.geometry is not None
    k, j, i = np.rint(volume.geometry.mm_to_index(wanted[0].center_mm)).astype(int)
    assert volume.voxels[k, j, i] == pytest.approx(-600, abs=2)


def test_nodules_belong_to_the_patient_not_to_the_grid() -> None:
    one = chest(ChestPhantom((20, 64, 64), (5.0, 5.6, 5.6), 2, noise_hu=0))[1]
    two = chest(ChestPhantom((40, 32, 32), (2.5, 11.2, 11.2), 2, noise_hu=0))[1]
    assert one == two


def test_vessels_down_to_a_millimetre_reach_the_outer_lung() -> None:
    """In the outer centimetres of the lung there are small bright structures, and they do not fill it."""
    v = chest(ChestPhantom((3, 500, 500), (1.25, 0.7, 0.7), 1, noise_hu=0, nodules=0))[0].voxels[1]
    lungs = ndimage.binary_closing(lungs_of(v[None])[0], iterations=6)
    inside = ndimage.distance_transform_edt(lungs, sampling=0.7)
    outer = (inside > 5) & (inside < 25)
    bright = outer & (v > -700)
    assert 0.003 < bright.sum() / outer.sum() < 0.15
    pieces = ndimage.label(bright)[1]
    assert pieces > 60
