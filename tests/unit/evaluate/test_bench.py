"""Answers are asked for once, survive an interruption, and are asked again where the files changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jachai.dataset.manifest import Entry
from jachai.evaluate.bench import Bench
from jachai.evaluate.protocols import PROTOCOLS
from jachai.evaluate.scans import scans_of
from tests.unit.evaluate import fakes
from tests.unit.evaluate.conftest import MakeArena


def test_an_interrupted_comparison_goes_on_where_it_stopped(volumes: list[Entry], arena: MakeArena) -> None:
    first = fakes.Bright(breaks_at=7)
    with pytest.raises(KeyboardInterrupt):
        PROTOCOLS["whole-scan"](arena(volumes, first))
    again = fakes.Bright()
    whole = PROTOCOLS["whole-scan"](arena(volumes, again))
    assert again.asked == len(volumes) - 7
    third = fakes.Bright()
    assert PROTOCOLS["whole-scan"](arena(volumes, third)) == whole
    assert third.asked == 0


def test_an_unfinished_line_is_asked_again(volumes: list[Entry], tmp_path: Path) -> None:
    model = fakes.Bright()
    fitted = model.fit(volumes, tmp_path, lambda stage, share: None)
    scans = scans_of(volumes)[:3]
    one = Bench(tmp_path).search([fitted], scans)
    [file] = (tmp_path / "answers").iterdir()
    file.write_bytes(file.read_bytes()[:-20])
    assert Bench(tmp_path).search([fitted], scans)["bright"][:2] == one["bright"][:2]
    assert model.asked == 4


def test_other_files_get_other_answers(tmp_path: Path) -> None:
    entries = fakes.volumes(tmp_path / "data", 1)
    model = fakes.Bright()
    fitted = model.fit(entries, tmp_path, lambda stage, share: None)
    Bench(tmp_path).search([fitted], scans_of(entries))
    os.utime(entries[0].path, ns=(1, 1))
    Bench(tmp_path).search([fitted], scans_of(entries))
    assert model.asked == len(entries) + 1


def test_a_scan_that_cannot_be_read_is_not_examined_and_not_forgotten(volumes: list[Entry], tmp_path: Path) -> None:
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"nothing")
    model = fakes.Bright().fit(volumes, tmp_path, lambda stage, share: None)
    entry = fakes.entry_of(broken, "P9", (0, 1, 1))
    [case] = Bench(tmp_path).search([model], scans_of([entry]))["bright"]
    assert case.answer.score is None
    assert case.abstained and not case.alarmed
    assert case.answer.reason


def test_the_same_training_is_done_once(volumes: list[Entry], tmp_path: Path) -> None:
    model, bench = fakes.Bright(), Bench(tmp_path)
    one, two = bench.fit(model, volumes), bench.fit(model, list(reversed(volumes)))
    assert one is two
    assert len(model.shown) == 1
    bench.fit(model, volumes[1:])
    assert len(model.shown) == 2
