"""Folds: nobody on both sides, the yardstick's rule, and digests that follow what was split."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from jachai.core.errors import UsageError
from jachai.dataset.manifest import Entry
from jachai.dataset.splits import Leak
from jachai.evaluate.folds import Fold, by_name, by_patient, check, fold, part, record


def test_every_entry_is_tested_once_and_its_patient_never_learnt_from(volumes: list[Entry]) -> None:
    folds = by_patient(volumes, [], 3, seed=0)
    assert [e.path for f in folds for e in f.test].sort() == [e.path for e in volumes].sort()
    assert sum(len(f.test) for f in folds) == len(volumes)
    for one in folds:
        assert not {e.patient for e in one.test} & {e.patient for e in one.train}
        assert len(one.test) + len(one.train) == len(volumes)


def test_what_is_tied_to_a_tested_scan_is_not_learnt_from_even_under_another_patient(volumes: list[Entry]) -> None:
    twin = replace(volumes[0], path="elsewhere", scan="sim", patient="somebody", original=volumes[0].scan)
    made = fold("x", [volumes[0]], [*volumes, twin])
    assert "elsewhere" not in {entry.path for entry in made.train}
    assert made.train


def test_a_leak_is_an_error(volumes: list[Entry]) -> None:
    with pytest.raises(Leak):
        check(Fold("x", tuple(volumes[:1]), tuple(volumes[1:3])))


def test_a_manifest_that_names_its_test_part_is_taken_at_its_word(volumes: list[Entry]) -> None:
    told = [replace(e, split="test" if e.patient == "P1" else "train") for e in volumes]
    [one] = by_patient(told, [], 5, seed=0)
    assert {entry.patient for entry in one.test} == {"P1"}


def test_one_patient_is_too_few(volumes: list[Entry]) -> None:
    with pytest.raises(UsageError, match="one patient"):
        by_patient([e for e in volumes if e.patient == "P0"], [], 3, seed=0)


def test_the_digest_follows_what_is_learnt_from(volumes: list[Entry]) -> None:
    one, other = (record("r", by_patient(some, [], 3, seed=0)) for some in (volumes, volumes[:-1]))
    assert one.digest != other.digest
    assert one == record("r", by_patient(volumes, [], 3, seed=0))
    assert sum(tested for _, _, tested in one.folds) == 6


def test_folds_by_name(volumes: list[Entry]) -> None:
    folds = by_name(volumes, volumes, 3, lambda entry: entry.patient)
    for one in folds:
        assert {part(entry.patient, 3) for entry in one.test} == {int(one.name[0])}
        assert len(one.test) + len(one.train) == len(volumes)


@pytest.mark.realdata
def test_the_rule_is_that_of_the_yardstick(real_data: Path) -> None:
    path = real_data.parent / "tools" / "ctgan_protocol.py"
    spec = importlib.util.spec_from_file_location("ctgan_protocol", path)
    assert spec is not None and spec.loader is not None
    yardstick = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(yardstick)
    names = [f"{n}" for n in range(1000, 1200)]
    assert [part(name, 5) for name in names] == [yardstick.part(name, 5) for name in names]
