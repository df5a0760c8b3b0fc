"""Every attack in ATTACKS keeps the same promises, on CT and MRI, whole volumes and slabs."""

import json
from functools import cache

import numpy as np
import pytest

from jachai.core.errors import UsageError
from jachai.core.volume import Modality, Provenance, Volume
from jachai.phantom import BrainPhantom, ChestPhantom, brain, chest
from jachai.tamper import ATTACKS, attack, read_record
from jachai.tamper.attack import Attack, DonorAttack, Effect, Target, perform, slices

SCANS = ("chest", "slab", "coarse-step", "head")


@cache
def scan(name: str, seed: int = 0) -> Volume:
    """A phantom: a whole chest, a slab of five thick slices, a chest stored in steps of 2 HU, a head."""
    if name == "head":
        return brain(BrainPhantom(shape_kji=(20, 96, 96), spacing_mm=(4.0, 2.2, 2.2), seed=seed))
    if name == "slab":
        return chest(ChestPhantom(shape_kji=(5, 128, 144), spacing_mm=(5.0, 2.4, 2.4), seed=seed))[0]
    whole = chest(ChestPhantom(shape_kji=(28, 128, 144), spacing_mm=(3.0, 2.4, 2.4), seed=seed))[0]
    if name == "chest":
        return whole
    provenance = Provenance("phantom", "phantom", step=2.0)
    return Volume(np.rint(whole.voxels / 2) * np.float32(2), Modality.CT, whole.geometry, provenance)


def ready(name: str, scan_name: str) -> Attack:
    """The attack, with a donor scan where it needs one."""
    attack = ATTACKS[name]
    return (
        attack.with_donor(scan(scan_name, seed=1)) if isinstance(attack, DonorAttack) and name == "splice" else attack
    )


@pytest.mark.parametrize("scan_name", SCANS)
@pytest.mark.parametrize("name", ATTACKS)
class TestEveryAttack:
    def test_changes_its_box_only_and_replays(self, name: str, scan_name: str) -> None:
        volume, attack = scan(scan_name), ready(name, scan_name)
        before = volume.voxels.copy()
        for seed in range(2):
            after, record = perform(attack, volume, np.random.default_rng(seed))
            assert np.array_equal(volume.voxels, before), "the input was touched"
            changed = after.voxels != volume.voxels
            assert record.changed is not None
            assert np.array_equal(record.changed.on_grid(volume.shape), changed), "changed outside the recorded box"
            assert changed.any() == (record.effect is not Effect.NONE)
            assert after.voxels.dtype == np.float32 and np.isfinite(after.voxels).all()
            assert all(lo <= c < hi for c, (lo, hi) in zip(record.target_kji, record.box_kji))

            replay = read_record(json.loads(json.dumps(record.to_json(), allow_nan=False)))
            assert replay == record
            assert np.array_equal(attack.apply(volume, replay).voxels, after.voxels), "does not replay"
            assert np.array_equal(attack.forged(volume, replay), after.voxels[slices(record.box_kji)])

    def test_keeps_the_quantisation_and_the_range(self, name: str, scan_name: str) -> None:
        volume = scan(scan_name)
        after, _ = perform(ready(name, scan_name), volume, np.random.default_rng(5))
        step = volume.provenance.step
        assert step is not None
        steps = (after.voxels - volume.voxels) / step
        assert np.abs(steps - np.rint(steps)).max() < 1e-3
        assert after.voxels.min() >= min(volume.voxels.min(), -1024 if volume.modality is Modality.CT else 0)

    def test_goes_where_it_is_told(self, name: str, scan_name: str) -> None:
        volume, attack = scan(scan_name), ready(name, scan_name)
        place = tuple(n // 2 for n in volume.shape)
        assert volume.geometry is not None
        mm = tuple(float(c) for c in volume.geometry.index_to_mm(place))
        by_mm = attack.sample(volume, np.random.default_rng(0), Target(mm, "mm"))  # type: ignore[arg-type]
        by_voxel = attack.sample(volume, np.random.default_rng(0), Target(place))  # type: ignore[arg-type]
        assert by_mm == by_voxel and by_mm.target_kji == place
        assert by_mm.target_mm == pytest.approx(mm)

    def test_same_seed_same_record_other_seed_another(self, name: str, scan_name: str) -> None:
        volume, attack = scan(scan_name), ready(name, scan_name)
        one, again, other = (attack.sample(volume, np.random.default_rng(seed)) for seed in (1, 1, 2))
        assert one == again and one != other


@pytest.mark.parametrize("name", ATTACKS)
class TestRefusals:
    def test_outside(self, name: str) -> None:
        with pytest.raises(UsageError, match="outside"):
            ready(name, "chest").sample(scan("chest"), np.random.default_rng(0), Target((0.0, 5.0, 999.0)))

    def test_picture(self, name: str) -> None:
        picture = Volume(np.zeros((1, 64, 64), np.float32), Modality.PICTURE, None, Provenance("p", "PNG"))
        with pytest.raises(UsageError, match="is for CT, MR"):
            ATTACKS[name].sample(picture, np.random.default_rng(0))

    def test_record_of_another_attack(self, name: str) -> None:
        other = "control" if name != "control" else "nodule"
        record = ATTACKS[other].sample(scan("chest"), np.random.default_rng(0))
        with pytest.raises(UsageError, match="another attack"):
            ready(name, "chest").apply(scan("chest"), record)

    def test_no_place_to_be_found(self, name: str) -> None:
        water = Volume(
            np.zeros((6, 64, 64), np.float32),
            Modality.CT,
            scan("chest").geometry.cropped(((0, 6), (0, 64), (0, 64))),
            Provenance("p", "x", step=1.0),
        )  # type: ignore[union-attr]
        with pytest.raises(UsageError, match="No lung"):
            ready(name, "chest").sample(water, np.random.default_rng(0))


def test_table() -> None:
    assert all(name == attack.name and isinstance(attack, Attack) for name, attack in ATTACKS.items())
    with pytest.raises(UsageError, match="'ctgan-removal'"):
        attack("ctgan-remoal")
