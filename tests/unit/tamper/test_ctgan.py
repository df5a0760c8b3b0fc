"""The traces (a)–(f) that CT-GAN leaves with its published settings (Mirsky et al. 2019), on phantoms."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from jachai.core.volume import Volume, Voxels
from jachai.tamper import ATTACKS
from jachai.tamper.attack import AttackRecord, Effect, Target, box_around, cut, slices
from jachai.tamper.blend import dome
from jachai.tamper.ctgan import CtGan, CtGanChoices, Levels, Normaliser, copied_noise, repainted

MIDDLE = Target((32.0, 60.0, 60.0))


def record(volume: Volume, effect: Effect, seed: int = 0, **choices: object) -> AttackRecord:
    """A record at MIDDLE with the published settings but for `choices`."""
    attack = CtGan(effect)
    drawn = attack.sample(volume, np.random.default_rng(seed), MIDDLE)
    settings = replace(drawn.parameters, rounding="floor", **choices)
    return attack.record(volume, drawn.target_kji, settings, drawn.seed)


def change(volume: Volume, made: AttackRecord) -> Voxels:
    """after − before inside the box."""
    after = CtGan(made.effect).forged(volume, made)
    return after - volume.voxels[slices(made.box_kji)]


def fine(block: Voxels) -> Voxels:
    """High-pass residual: second differences along rows and columns at once (response sin²·sin², the finest detail)."""
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32)[None] / 4
    return np.asarray(ndimage.convolve(block, kernel))


def spread(values: Voxels) -> float:
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))


def test_published_sizes_and_kernels(right_lungs: dict[str, Volume]) -> None:
    made = record(right_lungs["standard"], Effect.REMOVED)
    sides = [hi - lo for lo, hi in made.box_kji]
    assert sides == [int(1.3 * round(32 / 0.75))] * 3, "the second cube has the same number of voxels on all axes"
    peak, bowl = dome(101, 101, 3.0), dome(101, 101, 0.1)
    assert peak[50, 50] == bowl[50, 50] == 1 and peak[0, 0] == bowl[0, 0] == 0
    assert peak[50, 0] == pytest.approx(0.10, abs=0.01) and bowl[50, 0] == pytest.approx(0.5, abs=0.01)


def test_a_resampling_takes_noise_away_and_more_from_sharp_kernels(right_lungs: dict[str, Volume]) -> None:
    ratios = {}
    for kernel, volume in right_lungs.items():
        made = record(volume, Effect.REMOVED, painter="identity", touch_up="none")
        cube = cut(volume.voxels, box_around(made.target_kji, (32, 43, 43)))
        painted = repainted(volume, cube, made.parameters, np.random.default_rng(0))
        lung = cube < -700
        ratios[kernel] = spread(fine(painted)[lung]) / spread(fine(cube)[lung])
    assert ratios["sharp"] < ratios["standard"] < ratios["soft"] < 0.95
    assert 0.23 < ratios["sharp"] < 0.64 and 0.5 < ratios["standard"] < 0.84 and ratios["soft"] > 0.65


def test_a_native_grid_takes_nothing_away(right_lungs: dict[str, Volume]) -> None:
    volume = right_lungs["sharp"]
    made = record(volume, Effect.REMOVED, painter="identity", touch_up="none", working_mm=0.0)
    cube = cut(volume.voxels, box_around(made.target_kji, (32, 43, 43)))
    painted = repainted(volume, cube, made.parameters, np.random.default_rng(0))
    inside = (cube < -700) & (cube > -1000)
    assert np.abs(painted - cube)[inside].max() < 2


def test_b_nearest_upsampling_leaves_a_period_of_two_working_voxels(right_lungs: dict[str, Volume]) -> None:
    volume = right_lungs["standard"]

    def peak(painter: str) -> float:
        made = record(volume, Effect.REMOVED, painter=painter, touch_up="none", reach=0.0)
        block = cut(CtGan(Effect.REMOVED).apply(volume, made).voxels, box_around(made.target_kji, (30, 42, 42)))
        jumps = np.abs(np.diff(block, axis=2)).mean(axis=(0, 1))
        jumps = (jumps - ndimage.uniform_filter1d(jumps, 5)) * np.hanning(len(jumps))
        power = np.abs(np.fft.rfft(jumps, 512)) ** 2
        cycles = np.fft.rfftfreq(512)
        step = 43 / 32
        at = (cycles > 0.46 / step) & (cycles < 0.54 / step)
        return float(power[at].max() / np.median(power[cycles > 0.15]))

    assert peak("nearest") > 3 * peak("identity")


def test_c_the_box_ends_at_once_in_z(right_lungs: dict[str, Volume]) -> None:
    volume = right_lungs["soft"]
    made = record(volume, Effect.REMOVED, painter="identity", touch_up="gaussian")
    by_slice = np.abs(change(volume, made)).std(axis=(1, 2))
    middle = float(np.median(by_slice))
    assert len(by_slice) == 55
    assert by_slice[0] > 0.5 * middle and by_slice[-1] > 0.5 * middle, "no fading in z"


def test_d_copied_noise_correlates_with_the_block_it_came_from(right_lungs: dict[str, Volume]) -> None:
    volume = right_lungs["standard"]
    made = record(volume, Effect.REMOVED, painter="identity", touch_up="copied", working_mm=0.0)
    assert made.parameters.copied_from == (32, int(0.43 * 120), int(0.27 * 120))
    block = copied_noise(cut(volume.voxels, box_around(made.parameters.copied_from, (55, 55, 55))), -800.0)
    seen = slice(10, 45)
    got = change(volume, made)
    assert np.corrcoef(got[:, seen, seen].ravel(), block[:, seen, seen].ravel())[0, 1] > 0.9
    elsewhere = record(volume, Effect.REMOVED, painter="identity", touch_up="gaussian", working_mm=0.0)
    assert abs(np.corrcoef(change(volume, elsewhere).ravel(), block.ravel())[0, 1]) < 0.1


@pytest.mark.parametrize("touch_up", ["gaussian", "copied"])
def test_e_injection_only_brightens_and_leaves_half_untouched(right_lungs: dict[str, Volume], touch_up: str) -> None:
    volume = right_lungs["standard"]
    made = record(volume, Effect.INJECTED, touch_up=touch_up)
    made = replace(made, parameters=replace(made.parameters, rounding="zero"))
    got = change(volume, made)
    assert got.min() >= 0
    near = got[:, dome(55, 55, 3.0) > 0.05]
    assert 0.35 < float((near == 0).mean()) < 0.65
    assert got.max() > 500, "there is no nodule"


def test_e_removal_changes_nearly_everything(right_lungs: dict[str, Volume]) -> None:
    for kernel, volume in right_lungs.items():
        share = float((change(volume, record(volume, Effect.REMOVED, touch_up="gaussian")) != 0).mean())
        assert 0.93 < share < 0.99, kernel


def test_f_truncation_takes_one_step_off_the_corners(right_lungs: dict[str, Volume]) -> None:
    volume = right_lungs["standard"]
    made = record(volume, Effect.REMOVED, painter="identity", touch_up="gaussian")
    far = dome(55, 55, 0.1) < 0.08
    corners = change(volume, made)[:, far]
    assert far.sum() >= 12 and np.abs(corners).max() < 12
    assert -0.75 < corners.mean() < -0.25, "truncation takes half a step off on average"
    rounded = replace(made, parameters=replace(made.parameters, rounding="nearest"))
    assert abs(change(volume, rounded)[:, far].mean()) < 0.2


def test_a_nodule_is_removed_and_one_put_there(thorax: Volume) -> None:
    rng = np.random.default_rng(4)
    removal, injection = ATTACKS["ctgan-removal"], ATTACKS["ctgan-injection"]
    before, after = [], []
    for _ in range(4):
        made = removal.sample(thorax, rng)
        k, j, i = made.target_kji
        near = (slice(max(k - 1, 0), k + 2), slice(j - 1, j + 2), slice(i - 1, i + 2))
        before.append(float(thorax.voxels[near].mean()))
        settings = replace(made.parameters, painter="patches")
        after.append(float(removal.apply(thorax, replace(made, parameters=settings)).voxels[near].mean()))
    assert np.median(before) > -500 > -700 > np.median(after)

    made = injection.sample(thorax, rng)
    k, j, i = made.target_kji
    assert thorax.voxels[k, j, i] < -600 and injection.apply(thorax, made).voxels[k, j, i] > -400


@pytest.mark.parametrize("equalise", [True, False])
def test_normalising_is_undone(right_lungs: dict[str, Volume], equalise: bool) -> None:
    values = right_lungs["standard"].voxels[:8].copy()
    normaliser = Normaliser.fit(values.ravel(), equalise, 10_000)
    encoded = normaliser.encoded(values)
    assert encoded.min() >= -0.5 and encoded.max() <= 0.5
    inner = np.abs(encoded) < 0.45
    assert np.abs(normaliser.decoded(encoded) - values)[inner].max() < 1.0


def test_every_choice_stands_in_the_record() -> None:
    names = set(CtGanChoices.__dataclass_fields__)
    assert {"cube_mm", "hole_mm", "working_mm", "order", "equalise", "bins", "touch_up", "reach", "rounding", "painter",
            "outer_scale", "pad", "grain_hu", "copied_from", "brighten_only", "levels", "nodule", "examples"} <= names  # fmt: skip


def test_the_seed_of_the_record_is_the_only_source_of_chance(right_lungs: dict[str, Volume]) -> None:
    volume = right_lungs["standard"]
    made = record(volume, Effect.REMOVED, painter="identity", touch_up="gaussian", working_mm=0.0)
    first, other = (change(volume, replace(made, seed=seed)) for seed in (1, 2))
    assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.2


def test_the_spread_of_the_rim_adds_to_that_of_the_lung_in_quadrature(right_lungs: dict[str, Volume]) -> None:
    volume = right_lungs["standard"]

    def touch_up(extra: float) -> float:
        plain = {"painter": "identity", "touch_up": "gaussian", "grain_hu": 0.0, "brighten_only": False, "reach": 0.1}
        wide = Levels(middle=-3000.0)  # everything counts as shown
        made = record(volume, Effect.INJECTED, **plain, levels=wide, extra_spread=extra)
        without = record(volume, Effect.INJECTED, **{**plain, "touch_up": "none"}, levels=wide)
        middle = (slice(22, 33),) * 3
        return float((change(volume, made) - change(volume, without))[middle].std())

    alone = touch_up(0.0)
    lung = alone / Levels().injection_share
    for extra in (20.0, 80.0):
        assert touch_up(extra) / alone == pytest.approx(np.hypot(lung, extra) / lung, rel=0.1)
