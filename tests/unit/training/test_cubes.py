"""Cubes to train on: normalised as in the attack, a nodule where the guide says, and batches whose hole is empty."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jachai.core.geometry import Geometry
from jachai.core.volume import Modality, Volume
from jachai.tamper.shelf import Task
from jachai.training.cubes import HOLE, ROOMY, SIDE, assembled, batch, cubes_of, trimmed, usable
from jachai.training.painters import Data

MIDDLE = slice(ROOMY // 2 - 2, ROOMY // 2 + 2)


@pytest.mark.parametrize(("task", "planes"), [("removal", 1), ("injection", 2)])
def test_form_and_range(data: dict[str, Data], task: Task, planes: int) -> None:
    cubes = data[task].cubes
    assert cubes.shape == (6, planes, ROOMY, ROOMY, ROOMY)
    assert cubes.dtype == np.float16
    assert np.abs(cubes[:, 0]).max() <= 0.5
    assert cubes[:, 0].std() > 0.2, "equalised lung fills the range"


def test_a_nodule_lies_where_the_guide_says(data: dict[str, Data]) -> None:
    for cube, guide in data["injection"].cubes.astype(np.float32):
        assert guide[MIDDLE, MIDDLE, MIDDLE].mean() > 0.3
        assert guide[:3].max() == 0
        assert cube[guide > 0.8].mean() > cube[guide < 0.05].mean() + 0.3


def test_healthy_cubes_hold_no_nodule(data: dict[str, Data]) -> None:
    middles = data["removal"].cubes[:, 0, MIDDLE, MIDDLE, MIDDLE].astype(np.float32)
    assert np.median(middles.mean(axis=(1, 2, 3))) < 0.3


@pytest.mark.parametrize(("task", "wanted"), [("removal", 0), ("injection", 1)])
def test_a_cycle_learns_from_cubes_of_both_tasks(data: dict[str, Data], task: Task, wanted: int) -> None:
    cubes = data[f"cycle-gan, {task}"].cubes
    assert cubes.shape == (6, 2, ROOMY, ROOMY, ROOMY)
    middles = cubes[:, :, MIDDLE, MIDDLE, MIDDLE].astype(np.float32).mean(axis=(2, 3, 4))
    assert (middles[:, 0] > middles[:, 1]).mean() > 0.6 if wanted else (middles[:, 0] < middles[:, 1]).mean() > 0.6
    assert all(np.corrcoef(one.reshape(2, -1).astype(np.float32))[0, 1] < 0.5 for one in cubes), "of other places"
    seen = assembled(trimmed(cubes), "cycle-gan").seen
    assert np.array_equal(seen[:, 0], trimmed(cubes)[:, 1].astype(np.float32)), (
        "the whole cube, with what is in the hole"
    )
    assert seen[:, 1].sum() == 6 * HOLE**3


def test_the_same_seed_gives_the_same_cubes(lungs: Volume) -> None:
    before = lungs.voxels.copy()
    once, again, other = (
        next(iter(cubes_of(lungs, "unet-gan", "injection", 1, np.random.default_rng(seed)))) for seed in (1, 1, 2)
    )
    assert np.array_equal(once, again)
    assert not np.array_equal(once, other)
    assert np.array_equal(lungs.voxels, before)


def test_what_can_be_used(lungs: Volume) -> None:
    assert usable(lungs)
    assert not usable(replace(lungs, modality=Modality.MR))
    thin = Volume(lungs.voxels[:31], Modality.CT, Geometry.regular(31, (1.0, 1.0, 1.0)), lungs.provenance)
    assert not usable(thin)
    assert usable(Volume(lungs.voxels[:32], Modality.CT, Geometry.regular(32, (1.0, 1.0, 1.0)), lungs.provenance))


@given(st.integers(0, 2**31), st.integers(1, 4), st.sampled_from([1, 2]))
def test_batches(seed: int, size: int, planes: int) -> None:
    cubes = np.random.default_rng(3).uniform(-0.5, 0.5, (3, planes, ROOMY, ROOMY, ROOMY)).astype(np.float16)
    drawn = batch(cubes, "unet-gan", size, (seed, 0))
    seen, hole = drawn.seen[:, 0], drawn.seen[:, 1]
    assert drawn.cubes.shape == (size, 1, SIDE, SIDE, SIDE)
    assert drawn.seen.shape == (size, planes + 1, SIDE, SIDE, SIDE)
    assert not seen[hole == 1].any(), "the painter must not see what it shall paint"
    assert np.array_equal(seen[hole == 0], drawn.cubes[:, 0][hole == 0])
    assert 10**3 <= hole[0].sum() <= 28**3
    again = batch(cubes, "unet-gan", size, (seed, 0))
    assert np.array_equal(again.seen, drawn.seen)
    assert np.array_equal(again.cubes, drawn.cubes)
    assert not np.array_equal(batch(cubes, "unet-gan", size, (seed, 1)).cubes, drawn.cubes)


def test_every_value_of_a_batch_comes_from_a_cube() -> None:
    cubes = np.arange(ROOMY**3, dtype=np.float32).reshape(1, 1, ROOMY, ROOMY, ROOMY)
    drawn = batch(cubes.astype(np.float16), "unet-gan", 1, (5, 0)).cubes  # type: ignore[arg-type]
    assert set(drawn.ravel()) <= set(cubes.astype(np.float16).astype(np.float32).ravel())


def test_samples_show_the_hole_of_ct_gan() -> None:
    cubes = np.ones((2, 2, SIDE, SIDE, SIDE), np.float16)
    shown = assembled(cubes, "unet-gan")
    assert shown.seen[:, 1].sum() == 2 * HOLE**3
    assert shown.seen[:, 1, 6:26, 6:26, 6:26].all()
    assert shown.seen[:, 2].all(), "guided"
    assert trimmed(np.zeros((1, 1, ROOMY, ROOMY, ROOMY), np.float16)).shape[2:] == (SIDE,) * 3
