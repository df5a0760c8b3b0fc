"""Splits: nothing in two parts, whatever the entries; the same for the same seed; shares and classes roughly kept."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from jachai.core.errors import UsageError
from jachai.core.finding import Kind
from jachai.dataset.manifest import Entry, Label
from jachai.dataset.splits import TEST, TRAIN, UNUSED, HeldOut, Leak, Plan, check_no_leak, groups_of, split

few = st.sampled_from("abcdefghijklmnop")
entry_of = st.builds(
    lambda path, patient, scan, original, kind, family, maker, sha256: Entry(
        path=f"/{path}",
        source="s",
        patient=f"P{patient}",
        scan=f"S{scan}",
        label=Label.TAMPERED if kind else Label.PRISTINE,
        kind=kind,
        family=family if kind else None,
        maker=maker,
        original=f"S{original}" if original else None,
        sha256=sha256,
    ),
    path=st.uuids(),
    patient=few,
    scan=st.uuids() | few,
    original=st.none() | few,
    kind=st.none() | st.sampled_from(Kind),
    family=st.sampled_from(["ctgan", "parametric", "splice"]),
    maker=st.sampled_from(["GE", "Siemens", None]),
    sha256=st.none() | st.sampled_from([f"{n:064}" for n in range(40)]),
)
many = st.lists(entry_of, min_size=4, max_size=40)
plans = st.builds(
    Plan,
    shares=st.sampled_from([(0.7, 0.15, 0.15), (0.5, 0.0, 0.5), (1.0, 0.0, 0.0), (0.34, 0.33, 0.33)]),
    folds=st.sampled_from([0, 2, 3]),
    seed=st.integers(0, 9),
    held_out=st.sampled_from(
        [
            (),
            (HeldOut("family", frozenset({"ctgan"})),),
            (HeldOut("maker", frozenset({"GE"})), HeldOut("family", frozenset({"splice"}))),
        ]
    ),
)


def done(entries: list[Entry], plan: Plan) -> tuple[Entry, ...]:
    """The split, or no example if there are too few groups for it."""
    try:
        return split(entries, plan)
    except Leak:
        raise
    except UsageError:
        assume(False)
        raise


@given(many, plans)
def test_nothing_stands_in_two_parts(entries: list[Entry], plan: Plan) -> None:
    result = done(entries, plan)
    assert [replace(e, split=None, fold=None) for e in result] == entries
    used = [e for e in result if e.split != UNUSED]
    for name in ("patient", "scan", "path", "sha256"):
        homes: dict[object, set[object]] = {}
        for entry in used:
            if getattr(entry, name) is not None:
                homes.setdefault(getattr(entry, name), set()).add((entry.split, entry.fold))
        assert all(len(home) == 1 for home in homes.values())
    where = {e.scan: (e.split, e.fold) for e in used}
    assert all(where[e.original] == (e.split, e.fold) for e in used if e.original in where)
    for out in plan.held_out:
        assert not [e for e in used if e.split != TEST and getattr(e, out.field) in out.values]
        if out.field == "maker":
            assert {e.split for e in result if e.maker in out.values} <= {TEST}
    assert all((e.fold is not None) == (plan.folds > 0 and e.split == TRAIN) for e in result)
    assert not [e for e in result if e.split == UNUSED and not any(out.holds(e) for out in plan.held_out)]


@given(many, plans, st.randoms())
def test_the_order_of_the_entries_does_not_matter(entries: list[Entry], plan: Plan, random: st.DrawFn) -> None:
    shuffled = list(entries)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    first = {e.path: (e.split, e.fold) for e in done(entries, plan)}
    assert {e.path: (e.split, e.fold) for e in done(shuffled, plan)} == first


@given(many)
def test_groups_are_the_connected_parts_of_a_graph(entries: list[Entry]) -> None:
    scipy = pytest.importorskip("scipy.sparse.csgraph")
    names = [{e.patient, e.scan, e.path, e.original, e.sha256} - {None} for e in entries]
    joined = [[bool(a & b) for b in names] for a in names]
    count, _ = scipy.connected_components(np.array(joined), directed=False)
    groups = groups_of(entries)
    assert len(groups) == count
    assert sum(map(len, groups)) == len(entries)


@given(many, plans, st.data())
def test_a_leak_is_found(entries: list[Entry], plan: Plan, data: st.DataObject) -> None:
    result = list(done(entries, plan))
    tied = [n for n, e in enumerate(result) if sum(o.patient == e.patient for o in result if o.split != UNUSED) > 1]
    tied = [n for n in tied if result[n].split != UNUSED]
    assume(tied)
    n = data.draw(st.sampled_from(tied))
    part = data.draw(st.sampled_from([p for p in ("train", "val", "test") if p != result[n].split]))
    result[n] = replace(result[n], split=part, fold=None)
    with pytest.raises(Leak):
        check_no_leak(result, plan.held_out)


def cohort(n: int = 200) -> list[Entry]:
    """n patients, every fifth tampered with, of two makers."""
    entries = []
    for p in range(n):
        maker = "GE" if p % 3 else "Siemens"
        original = Entry(path=f"/o{p}", source="s", patient=f"{p}", scan=f"{p}", label=Label.PRISTINE, maker=maker)
        entries.append(original)
        if p % 5 == 0:
            altered = replace(original, path=f"/t{p}", scan=f"t{p}", original=f"{p}", patient=f"t{p}")
            entries.append(
                replace(altered, label=Label.TAMPERED, kind=Kind.REMOVED, family="ctgan" if p % 2 else "splice")
            )
    return entries


def test_shares_classes_and_makers_are_kept() -> None:
    entries = cohort()
    result = split(entries, Plan(shares=(0.6, 0.2, 0.2), seed=3))
    for part, share in (("train", 0.6), ("val", 0.2), ("test", 0.2)):
        mine = [e for e in result if e.split == part]
        for test in (lambda e: True, lambda e: e.kind is not None, lambda e: e.maker == "Siemens"):
            whole = sum(map(test, entries))
            assert abs(sum(map(test, mine)) - share * whole) <= max(2, 0.05 * whole)


def test_folds_are_equal_and_seeds_differ() -> None:
    plan = Plan(shares=(0.7, 0.1, 0.2), folds=5, seed=1)
    result = split(cohort(), plan)
    counts = Counter(e.fold for e in result if e.split == TRAIN)
    assert set(counts) == set(range(5))
    assert max(counts.values()) - min(counts.values()) <= 4
    assert result == split(cohort(), plan)
    assert result != split(cohort(), replace(plan, seed=2))


def test_held_out_scanners_go_to_test_with_all_of_their_patients() -> None:
    extra = [
        Entry(path=f"/x{n}", source="s", patient=f"{n}", scan=f"x{n}", label=Label.PRISTINE, maker="Canon")
        for n in range(9)
    ]
    result = split([*cohort(), *extra], Plan(held_out=(HeldOut("maker", frozenset({"Canon"})),)))
    assert {e.split for e in result if e.patient in {str(n) for n in range(9)}} == {TEST}
    assert TRAIN in {e.split for e in result}


def test_a_held_out_family_leaves_its_originals_in_training() -> None:
    result = split(cohort(), Plan(held_out=(HeldOut("family", frozenset({"splice"})),)))
    assert {e.split for e in result if e.family == "splice"} == {TEST, UNUSED}
    unused = {e.original for e in result if e.split == UNUSED}
    assert {e.split for e in result if e.scan in unused} <= {"train", "val"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HeldOut("diameter_mm", frozenset({"3"})), "cannot be held out"),
        (lambda: Plan(shares=(0.5, 0.1, 0.1)), "add up to 1"),
        (lambda: Plan(shares=(0.0, 0.5, 0.5)), "add up to 1"),
        (lambda: Plan(folds=1), "2 folds"),
        (lambda: split(cohort(2), Plan()), "only 2 groups"),
        (lambda: check_no_leak(cohort(1)), "in no part"),
    ],
)
def test_what_makes_no_sense_is_refused(make: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()  # type: ignore[operator]


def test_tissue_of_another_part_makes_an_entry_unused_and_in_use_a_leak() -> None:
    def entry(patient: str, donor: str | None = None) -> Entry:
        kind = Kind.ALTERED if donor else None
        label = Label.TAMPERED if donor else Label.PRISTINE
        return Entry(
            path=f"/{patient}{donor}",
            source="s",
            patient=patient,
            scan=f"{patient}{donor}",
            label=label,
            kind=kind,
            donor=donor,
        )

    patients = "abcdefgh"
    entries = [entry(one) for one in patients] + [
        entry(one, other) for one in patients for other in patients if one != other
    ]
    done = split(entries, Plan(shares=(0.5, 0.0, 0.5), seed=3))
    part = {e.patient: e.split for e in done if e.donor is None}
    spliced = [e for e in done if e.donor]
    assert {e.split for e in spliced} == {TRAIN, TEST, UNUSED}
    for one in spliced:
        assert (one.split == UNUSED) == (part[one.patient] != part[one.donor])
    leaking = next(e for e in spliced if e.split == UNUSED)
    with pytest.raises(Leak, match="patient"):
        check_no_leak([*done, replace(leaking, split=part[leaking.patient])])
