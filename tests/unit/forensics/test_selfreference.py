"""The engine's evidence: what stands out in a scan is found, what was done to the whole scan cancels."""

import numpy as np
import pytest
from scipy import ndimage
from tests.unit.synthetic_chest import LUNG_PLACE, synthetic_chest, with_smooth_nodule, with_white_noise

from jachai.core.finding import Kind
from jachai.core.volume import Modality
from jachai.forensics.selfreference import measure
from jachai.forensics.tissue import coarse_mean, lung_mask, otsu
from jachai.phantom.brain import BrainPhantom, brain

CELL = 4


def top(volume, cue: str) -> tuple[float, tuple[int, int, int]]:
    z = next(d.z for d in measure(volume).deviations if d.cue.name.startswith(cue))
    k, j, i = np.unravel_index(np.nanargmax(z), z.shape)
    return float(np.nanmax(z)), (int(k), int(j) * CELL, int(i) * CELL)


@pytest.mark.parametrize("slices", [1, 9])
@pytest.mark.parametrize(
    ("alter", "cue"),
    [(with_white_noise, "noise outside the scanner's band, lung"), (with_smooth_nodule, "texture too smooth")],
)
def test_the_altered_place_stands_out_most(alter, cue: str, slices: int) -> None:
    intact = synthetic_chest(slices)
    before, _ = top(intact, cue) if "lung" in cue else (0.0, None)
    after, (_, j, i) = top(alter(intact), cue)
    assert np.hypot(j - LUNG_PLACE[0], i - LUNG_PLACE[1]) < 14
    assert after > before + 0.8


def test_between_slice_cues_need_three_slices() -> None:
    names = {d.cue.residual for d in measure(synthetic_chest(2)).deviations}
    assert "between" not in names and {"corner", "diagonal", "middle"} <= names
    assert "between" in {d.cue.residual for d in measure(synthetic_chest(3)).deviations}


def test_more_dose_noise_everywhere_cancels() -> None:
    quiet, loud = (measure(synthetic_chest(1, sigma=s)) for s in (15.0, 45.0))
    for a, b in zip(quiet.deviations, loud.deviations, strict=True):
        if a.cue.residual == "diagonal":
            assert abs(np.nanmedian(a.z - b.z)) < 0.1  # three times the noise would be ln 3 / (spread + 0.5) ≈ 1.8
            assert np.nanmax(np.abs(a.z - b.z)) < 0.8


def test_a_slice_alone_and_in_a_stack_has_the_same_masks() -> None:
    stack = synthetic_chest(5)
    alone = synthetic_chest(1)
    assert (lung_mask(stack)[0] == lung_mask(alone)[0]).all()


def test_without_lungs_solid_tissue_is_judged_everywhere() -> None:
    volume = synthetic_chest(1)
    head = volume.with_voxels(
        np.where(volume.voxels < -500, np.float32(-1000), volume.voxels) * 0 + np.maximum(volume.voxels, 0)
    )
    evidence = measure(head)
    assert not evidence.has_lung
    assert evidence.examined.mean() > 0.2


def test_a_constant_volume_measures_nothing() -> None:
    volume = synthetic_chest(1)
    evidence = measure(volume.with_voxels(np.zeros_like(volume.voxels)))
    assert not np.isfinite([np.nanmax(np.nan_to_num(d.z, nan=-np.inf)) for d in evidence.deviations]).any() or all(
        np.nanmax(np.abs(d.z[np.isfinite(d.z)]), initial=0) < 1e-3 for d in evidence.deviations
    )


def test_odd_sizes_and_the_input_stays_untouched() -> None:
    volume = synthetic_chest(1, side=251)
    before = volume.voxels.copy()
    evidence = measure(volume)
    assert evidence.examined.shape == (1, 63, 63)
    assert (volume.voxels == before).all() and volume.modality is Modality.CT


def test_every_cue_speaks_for_a_kind() -> None:
    assert {d.cue.kind for d in measure(synthetic_chest(3)).deviations} == {Kind.INJECTED, Kind.REMOVED}


def test_coarse_mean_averages_cells_and_edges() -> None:
    values = np.arange(30, dtype=np.float32).reshape(1, 5, 6)
    coarse = coarse_mean(values)
    assert coarse.shape == (1, 2, 2)
    assert coarse[0, 0, 0] == pytest.approx(values[0, :4, :4].mean())


def test_otsu_parts_two_classes() -> None:
    rng = np.random.default_rng(0)
    both = np.concatenate([rng.normal(0, 1, 900), rng.normal(10, 1, 900)]).astype(np.float32)
    assert 3 < otsu(both) < 7


def _finest_taken(voxels: np.ndarray) -> np.ndarray:
    return ndimage.gaussian_filter(voxels, (0, 0.45, 0.45))


def _whitened(voxels: np.ndarray) -> np.ndarray:
    return ndimage.gaussian_filter(voxels, (0, 2, 2)) + np.random.default_rng(1).normal(0, 4, voxels.shape)


def _one_slice_for_all(voxels: np.ndarray) -> np.ndarray:
    return np.broadcast_to(voxels[len(voxels) // 2], voxels.shape)


@pytest.mark.parametrize(
    ("alter", "cue"),
    [
        (_finest_taken, "missing finest noise"),
        (_whitened, "noise too white"),
        (_one_slice_for_all, "slices too much alike"),
    ],
)
def test_what_was_done_to_a_place_of_an_mri_is_seen_there(alter, cue: str) -> None:
    drawn = brain(BrainPhantom((16, 128, 128), (3.0, 1.6, 1.6), seed=3))
    head = drawn.with_voxels(ndimage.gaussian_filter(drawn.voxels, (0, 0.7, 0.7)))  # a filtered k-space
    place = (slice(3, 13), slice(50, 78), slice(50, 78))
    voxels = head.voxels.copy()
    voxels[place] = alter(voxels[place])
    before, _ = top(head, cue)
    after, (k, j, i) = top(head.with_voxels(voxels), cue)
    assert after > before + 0.5
    assert 3 <= k < 13 and 46 <= j < 80 and 46 <= i < 80


def test_of_a_slice_that_was_altered_for_the_most_part_the_rest_does_not_stand_out() -> None:
    head = brain(BrainPhantom((16, 128, 128), (3.0, 1.6, 1.6), seed=3))
    voxels = head.voxels.copy()
    most = (slice(6, 9), slice(0, 80), slice(None))
    voxels[most] += np.random.default_rng(1).normal(0, 60, voxels[most].shape)
    z = next(d.z for d in measure(head.with_voxels(voxels)).deviations if d.cue.name == "missing finest noise")
    assert np.nanmax(z[6:9]) < 1, "the rest of these slices is as quiet as the scan"
