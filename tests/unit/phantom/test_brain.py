"""The brain phantom: deterministic, the same head at every spacing, contrast and noise as MR physics says."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from jachai.core.errors import UsageError
from jachai.core.volume import Modality, Volume
from jachai.phantom import BrainPhantom, Lesion, brain
from jachai.phantom.brain import WHITE_VALUE, tissue_signal
from jachai.phantom.head import Head, Tissue
from jachai.phantom.texture import Sampling
from jachai.phantom.torso import Plane

SMALL = BrainPhantom(shape_kji=(12, 96, 96), spacing_mm=(8.0, 2.4, 2.4), seed=2)


@lru_cache(maxsize=4)
def made(phantom: BrainPhantom) -> Volume:
    return brain(phantom)


def test_the_same_settings_give_the_same_voxels_and_other_seeds_others() -> None:
    assert np.array_equal(brain(SMALL).voxels, made(SMALL).voxels)
    assert np.abs(brain(replace(SMALL, seed=3)).voxels - made(SMALL).voxels).mean() > 20
    again = brain(replace(SMALL, noise_seed=3)).voxels - made(SMALL).voxels
    assert 0 < np.abs(again).mean() < 30


def test_it_is_an_mr_in_whole_numbers_with_geometry() -> None:
    volume = made(SMALL)
    assert volume.modality is Modality.MR
    assert volume.provenance.format == "phantom"
    assert volume.spacing_mm == pytest.approx((8.0, 2.4, 2.4))
    assert np.array_equal(volume.voxels, np.rint(volume.voxels))
    assert volume.voxels.min() >= 0


def test_background_is_rayleigh() -> None:
    phantom = replace(SMALL, shape_kji=(6, 200, 200), noise=0.05)
    air = brain(phantom).voxels[:, :40, :40]
    sigma = 0.05 * WHITE_VALUE
    assert air.mean() == pytest.approx(sigma * np.sqrt(np.pi / 2), rel=0.02)
    assert air.var() == pytest.approx((2 - np.pi / 2) * sigma**2, rel=0.05)


def test_the_same_point_is_the_same_tissue_at_two_spacings() -> None:
    same = {"noise": 0.0, "seed": 4, "center_mm": (0.0, 0.0, 20.0)}
    fine = brain(BrainPhantom((9, 129, 129), (3.0, 1.7, 1.7), **same)).voxels
    wide = brain(BrainPhantom((9, 65, 65), (3.0, 3.4, 3.4), **same)).voxels
    assert np.corrcoef(fine[:, ::2, ::2].ravel(), wide.ravel())[0, 1] > 0.96
    flat = ndimage.maximum_filter(fine, (1, 5, 5)) - ndimage.minimum_filter(fine, (1, 5, 5)) < 60
    flat = flat[:, ::2, ::2]
    assert flat.mean() > 0.3
    assert np.abs(fine[:, ::2, ::2] - wide)[flat].mean() < 8


def test_contrast_of_the_sequences() -> None:
    t1, t2, pd = (tissue_signal(w) for w in ("T1", "T2", "PD"))
    assert t1[Tissue.FAT] > t1[Tissue.WHITE] > t1[Tissue.GREY] > 2 * t1[Tissue.FLUID]
    assert t2[Tissue.FLUID] > t2[Tissue.LESION] > t2[Tissue.GREY] > t2[Tissue.WHITE] > 5 * t2[Tissue.BONE]
    assert pd[Tissue.GREY] > pd[Tissue.WHITE]
    assert all(s[Tissue.WHITE] == pytest.approx(WHITE_VALUE) and s[Tissue.AIR] == 0 for s in (t1, t2, pd))


def test_tissues_are_all_there_in_plausible_amounts() -> None:
    """Without noise and shading the histogram shows white matter, cortex and fluid; the volume is that of a brain."""
    phantom = BrainPhantom((44, 160, 160), (4.0, 1.5, 1.5), noise=0, shading=0, center_mm=(0, 0, 10))
    v = brain(phantom).voxels
    millilitre = 4.0 * 1.5 * 1.5 / 1000
    white = ((v > 560) & (v < 640)).sum() * millilitre
    grey = ((v > 340) & (v < 480)).sum() * millilitre
    assert 350 < white < 1100
    assert 250 < grey < 1100
    scalp = v > 800
    assert 150 < scalp.sum() * millilitre < 900
    ventricles = v[25, 60:95, 70:90]
    assert (ventricles < 150).mean() > 0.05


@pytest.mark.parametrize("which", [0, 1])
def test_distance_to_the_folds_is_in_mm(which: int) -> None:
    """Near a fold, the distance grows by about 1 mm per mm away from it."""
    axis = np.arange(-50.0, 50, 0.4)
    distance = Head(3).folds(Plane(Sampling(axis, axis + 20, 0.3, 0.3)), -30.0, which)
    slope = np.hypot(*np.gradient(distance, 0.4))
    near = (distance > 0.4) & (distance < 1.2)
    assert near.mean() > 0.05
    assert 0.75 < np.median(slope[near]) < 1.3


def test_a_lesion_is_where_it_is_said_to_be() -> None:
    lesion = Lesion((32.0, -12.0, 40.0), 16.0)
    phantom = BrainPhantom((9, 121, 121), (4.0, 1.8, 1.8), 1, "T2", noise=0, center_mm=(0, 0, 40))
    change = brain(replace(phantom, lesion=lesion)).voxels - brain(phantom).voxels
    volume = brain(phantom)
    assert volume.geometry is not None
    centre = volume.geometry.index_to_mm(np.argwhere(np.abs(change) > 40).mean(axis=0))
    assert np.abs(centre - lesion.center_mm).max() < 2.5
    radius = (3 * (np.abs(change) > 0).sum() * 4.0 * 1.8**2 / (4 * np.pi)) ** (1 / 3)
    assert 6 < radius < 13
    k, j, i = np.rint(volume.geometry.mm_to_index(lesion.center_mm)).astype(int)
    assert change[k, j, i] > 100


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 20), st.integers(1, 20)),
    spacing=st.tuples(st.floats(0.5, 10), st.floats(0.3, 30), st.floats(0.3, 30)),
    centre=st.tuples(*[st.floats(-200, 200)] * 3),
    weighting=st.sampled_from(["T1", "T2", "PD"]),
)
@settings(max_examples=25)
def test_any_size_spacing_and_place(
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    centre: tuple[float, float, float],
    weighting: str,
) -> None:
    volume = brain(BrainPhantom(shape, spacing, center_mm=centre, weighting=weighting))
    assert volume.shape == shape
    assert np.isfinite(volume.voxels).all()


@pytest.mark.parametrize(
    "wrong", [{"weighting": "T3"}, {"shape_kji": (1, 0, 1)}, {"spacing_mm": (1.0, -1.0, 1.0)}, {"noise": -0.1}]
)
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        BrainPhantom(**wrong)  # type: ignore[arg-type]
