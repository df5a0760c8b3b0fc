"""Laws of records: plain types round trip, masks, targets, boxes."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jachai.core.errors import UsageError
from jachai.core.geometry import Geometry
from jachai.core.volume import Modality, Provenance, Volume
from jachai.tamper import ATTACKS, read_record
from jachai.tamper.attack import (
    AttackRecord,
    ChangedMask,
    Effect,
    Target,
    box_around,
    changed_mask,
    clipped,
    cut,
    pasted,
    slices,
)
from jachai.tamper.plain import from_plain, to_plain


@dataclass(frozen=True)
class Inner:
    share: float
    name: str | None


@dataclass(frozen=True)
class Outer:
    effect: Effect
    pairs: tuple[tuple[int, int], ...]
    inner: Inner
    either: Inner | None
    flag: bool


def volume_of(voxels: np.ndarray) -> Volume:
    return Volume(voxels, Modality.CT, Geometry.regular(len(voxels), (2.0, 1.0, 1.0)), Provenance("x", "y", step=1.0))


def record_of(box: tuple[tuple[int, int], ...]) -> AttackRecord:
    return AttackRecord("control", "honest", Effect.NONE, (0, 0, 0), None, box, 1, None)  # type: ignore[arg-type]


boxes = st.tuples(*[st.tuples(st.integers(0, 6), st.integers(0, 6)).map(lambda p: (min(p), max(p))) for _ in range(3)])
floats = st.floats(allow_nan=False, allow_infinity=False)
inner = st.builds(Inner, floats, st.none() | st.text())
outer = st.builds(
    Outer,
    st.sampled_from(Effect),
    st.lists(st.tuples(st.integers(), st.integers())).map(tuple),
    inner,
    st.none() | inner,
    st.booleans(),
)


@given(outer)
def test_plain_round_trip_is_exact(value: Outer) -> None:
    assert from_plain(Outer, json.loads(json.dumps(to_plain(value)))) == value


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"share": 1.0},
        {"share": "1", "name": None},
        {"share": True, "name": None},
        {"share": 1.0, "name": 3},
        {"share": 1.0, "name": None, "more": 1},
        [1.0, None],
        None,
    ],
)
def test_misfits_are_refused(broken: object) -> None:
    with pytest.raises(UsageError, match="not an attack record"):
        from_plain(Inner, broken)


def test_arrays_cannot_slip_into_a_record() -> None:
    for value in (np.float32(1), np.zeros(2), {"a": 1}, [1]):
        with pytest.raises(TypeError):
            to_plain(value)


@given(hnp.arrays(np.float32, (6, 6, 6), elements=st.sampled_from([0.0, 1.0])), boxes)
def test_mask_round_trip(noise: np.ndarray, box: tuple[tuple[int, int], ...]) -> None:
    before = volume_of(np.zeros((6, 6, 6), np.float32))
    after = np.zeros((6, 6, 6), np.float32)
    after[slices(box)] = noise[slices(box)]  # type: ignore[arg-type]
    mask = changed_mask(before, volume_of(after), record_of(box))
    assert np.array_equal(mask.on_grid((6, 6, 6)), after != 0)
    assert mask.count == int(after.sum()) and sum(mask.runs) == int(np.prod([hi - lo for lo, hi in box]))
    assert from_plain(ChangedMask, json.loads(json.dumps(to_plain(mask)))) == mask


@given(boxes, st.tuples(*[st.integers(-4, 9)] * 3), st.tuples(*[st.integers(1, 9)] * 3))
def test_cut_and_paste_are_inverse(_: object, centre: tuple[int, int, int], sides: tuple[int, int, int]) -> None:
    volume = volume_of(np.arange(216, dtype=np.float32).reshape(6, 6, 6))
    box = box_around(centre, sides)
    block = cut(volume.voxels, box, "zero")
    assert block.shape == sides
    assert np.array_equal(pasted(volume, box, block).voxels, volume.voxels)
    other = pasted(volume, box, block + 1).voxels - volume.voxels
    inside = np.zeros((6, 6, 6))
    inside[slices(clipped(box, (6, 6, 6)))] = 1
    assert np.array_equal(other, inside)


def test_targets() -> None:
    volume = volume_of(np.zeros((6, 6, 6), np.float32))
    assert Target((2.2, 3.0, 4.6)).index_in(volume) == (2, 3, 5)
    assert Target((5.0, 3.0, 4.0), "mm").index_in(volume) == (2, 3, 5)
    for outside in (Target((6.0, 0, 0)), Target((0, -1.0, 0)), Target((0.0, 0.0, 99.0), "mm")):
        with pytest.raises(UsageError, match="outside"):
            outside.index_in(volume)
    picture = Volume(np.zeros((1, 6, 6), np.float32), Modality.PICTURE, None, Provenance("x", "PNG"))
    with pytest.raises(UsageError, match="no geometry"):
        Target((1.0, 1.0, 1.0), "mm").index_in(picture)


def test_edited_records_are_refused(thorax: Volume) -> None:
    record = ATTACKS["nodule"].sample(thorax, np.random.default_rng(0))
    good = record.to_json()
    assert read_record(good) == record
    for key, value in [
        ("attack", "nodul"),
        ("schema", "jachai.attack/9"),
        ("effect", "cured"),
        ("seed", "7"),
        ("parameters", {}),
        ("box_kji", [[0, 1]]),
    ]:
        with pytest.raises(UsageError):
            read_record({**good, key: value})
    with pytest.raises(UsageError):
        read_record({name: value for name, value in good.items() if name != "seed"})
    assert read_record(replace(record, seed=3).to_json()) != record
