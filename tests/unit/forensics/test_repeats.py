"""Tissue copied within a scan is found, at both places, whatever was done to the whole; what only looks alike is not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.synthetic_chest import LUNG_PLACE, synthetic_chest

from jachai.core.volume import Volume
from jachai.forensics import repeats
from jachai.forensics.repeats import Repeat
from jachai.forensics.tissue import COARSE
from jachai.tamper import ATTACKS
from jachai.tamper.processing import PROCESSING

CHANCE, SURE = 2.0, 4.0
"""z: no intact scan of this kind comes near the first, every copy below exceeds the second."""
SOURCE = (120, 182)
"""(j, i) in the other lung."""
HALF = 14


def copied(volume: Volume, *, mirrored: bool = False, shift: int = 0, noise: float = 0.0) -> Volume:
    """The tissue at SOURCE put over LUNG_PLACE, `shift` slices on."""
    voxels = volume.voxels.copy()
    (j, i), (to_j, to_i) = SOURCE, LUNG_PLACE
    rng = np.random.default_rng(7)
    for k in range(max(0, -shift), len(voxels) - max(0, shift)):
        piece = volume.voxels[k, j - HALF : j + HALF, i - HALF : i + HALF][:, :: -1 if mirrored else 1]
        piece = np.round(piece + rng.normal(scale=noise, size=piece.shape)) if noise else piece
        voxels[k + shift, to_j - HALF : to_j + HALF, to_i - HALF : to_i + HALF] = piece
    return volume.with_voxels(voxels)


def searched(volume: Volume) -> tuple[Repeat, ...]:
    return repeats.find(volume, repeats.measured(volume))


def surest(volume: Volume) -> float:
    return max((one.z for one in searched(volume)), default=0.0)


@pytest.mark.parametrize("slices", [1, 10])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_copy_is_found_at_both_places(slices: int, mirrored: bool) -> None:
    volume = copied(synthetic_chest(slices), mirrored=mirrored)
    best = searched(volume)[0]
    assert best.z > (SURE if slices > 1 else CHANCE)
    places = {tuple(np.round(side.mean(axis=0)[1:] / 6)) for side in (best.here, best.there)}
    assert places == {tuple(np.round(np.array(at) / 6)) for at in (LUNG_PLACE, SOURCE)}


def test_here_and_there_are_the_same_voxels_of_the_scan() -> None:
    volume = copied(synthetic_chest(10), mirrored=True)
    best = searched(volume)[0]
    here, there = (volume.voxels[tuple(side.T)] for side in (best.here, best.there))
    assert np.mean(here == there) > 0.75  # the windows reach beyond the edge of a copy


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("slices", [1, 12])
def test_an_intact_scan_has_no_sure_repeat(slices: int, seed: int) -> None:
    assert surest(synthetic_chest(slices, seed=seed)) < CHANCE


def test_a_copy_with_new_noise_is_not_found() -> None:
    """The limit that the documentation states."""
    assert surest(copied(synthetic_chest(10), noise=60.0)) < CHANCE


@pytest.mark.parametrize("name", ["denoise-gaussian", "denoise-median", "sharpen", "jpeg-ls", "requantise", "resample"])
def test_processing_neither_hides_a_copy_nor_makes_one(name: str) -> None:
    intact = synthetic_chest(10)
    processing = PROCESSING[name]
    record = processing.sample(intact, np.random.default_rng(2))
    assert surest(processing.apply(intact, record)) < CHANCE
    assert surest(processing.apply(copied(intact), record)) > CHANCE


def test_air_cut_off_at_one_value_is_not_the_same_tissue() -> None:
    volume = synthetic_chest(10)
    voxels = volume.voxels.copy()
    upper = voxels[:, :128]
    upper[(upper < -700) & (upper > -920)] = -850  # the upper half of the lungs is one value now
    assert surest(volume.with_voxels(voxels)) < CHANCE
    assert surest(volume.with_voxels(np.full_like(voxels, -850))) == 0


def test_what_lies_near_is_not_compared() -> None:
    volume = synthetic_chest(10)
    voxels = volume.voxels.copy()
    j, i = LUNG_PLACE
    voxels[:, j - 6 : j + 6, i + 8 : i + 20] = volume.voxels[:, j - 6 : j + 6, i - 6 : i + 6]
    assert surest(volume.with_voxels(voxels)) < CHANCE


def test_too_little_to_compare_is_no_error() -> None:
    volume = synthetic_chest(1, side=64)
    assert searched(volume) == ()
    nothing = np.zeros_like(repeats.measured(volume))
    assert repeats.find(volume, nothing) == ()
    assert np.isnan(repeats.as_map((), nothing)).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(-3, 3), st.integers(-20, 20), st.integers(-40, 300), st.booleans())
def test_a_move_near_the_edge_never_leaves_the_scan(k: int, j: int, i: int, mirrored: bool) -> None:
    volume = synthetic_chest(4, side=96)
    where = np.ones((4, 96 // COARSE, 96 // COARSE), dtype=bool)
    move = repeats._Move(k, j, i, mirrored)
    mark = np.array([1, 50, 40])
    there = move.of(mark[None])[0]
    if (there < 0).any() or (there >= volume.shape).any():
        return
    found = repeats._looked_into(volume, where, np.full(4, 10.0, np.float32), np.array([2.0, 0.9, 0.9]), mark, move)
    if found is not None:
        for side in (found.here, found.there):
            assert (side >= 0).all() and (side < volume.shape).all()
        assert np.array_equal(move.of(found.here), found.there)


def test_the_map_has_one_peak_at_each_place() -> None:
    volume = copied(synthetic_chest(10))
    where = repeats.measured(volume)
    best = searched(volume)[0]
    drawn = repeats.as_map((best,), where)
    assert np.nanmax(drawn) == pytest.approx(best.z, rel=0.1)
    for side in (best.here, best.there):
        k, j, i = np.round(side.mean(axis=0)).astype(int)
        assert drawn[k, j // COARSE, i // COARSE] > 0.85 * best.z
    assert drawn[0, 0, 0] != drawn[0, 0, 0]  # air is not looked at


def test_copy_move_of_the_simulator_is_found() -> None:
    volume = synthetic_chest(24, side=320)
    attack = ATTACKS["copy-move"]
    record = attack.sample(volume, np.random.default_rng(1))
    assert surest(volume) < CHANCE < SURE < surest(attack.apply(volume, record))
