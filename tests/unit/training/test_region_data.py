"""Places are labelled as the manifest says, and matched ones lie away from everything that was done."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jachai.core.errors import UsageError
from jachai.core.finding import Kind
from jachai.core.volume import Volume
from jachai.dataset.manifest import Entry, Label
from jachai.training import region_data as module
from jachai.training.region_data import RegionPlan, by_image, label_of, region_data
from tests.unit.synthetic_chest import LUNG_PLACE, synthetic_chest

ROW, COLUMN = LUNG_PLACE
FAKE = Entry(
    path="/x/1.dcm",
    source="x",
    patient="p",
    scan="s",
    label=Label.TAMPERED,
    kind=Kind.REMOVED,
    modality="CT",
    place_kji=(0, ROW, COLUMN),
)
REAL = replace(FAKE, path="/x/2.dcm", patient="q", scan="t", label=Label.PRISTINE, kind=None, place_kji=None)


@pytest.fixture(autouse=True)
def volumes(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(entry: Entry) -> Volume:
        return synthetic_chest(1, seed=int(Path(entry.path).stem))

    monkeypatch.setattr(module, "volume_of", made)


@pytest.mark.parametrize(
    ("entry", "label"),
    [
        (FAKE, "FB"),
        (replace(FAKE, kind=Kind.INJECTED), "FM"),
        (replace(FAKE, kind=Kind.ALTERED), None),
        (REAL, None),
        (replace(REAL, place_kji=(0, 1, 1), finding="nodule"), "TM"),
        (replace(REAL, place_kji=(0, 1, 1), finding="mass"), "TM"),
        (replace(REAL, place_kji=(0, 1, 1), finding="non-nodule"), "TB"),
        (replace(REAL, place_kji=(0, 1, 1), category="TB"), "TB"),
        (replace(REAL, place_kji=(0, 1, 1)), None),
    ],
)
def test_the_class_is_what_the_manifest_says(entry: Entry, label: str | None) -> None:
    assert label_of(entry) == label


def test_matched_places_lie_far_away_in_the_same_image() -> None:
    other = replace(FAKE, place_kji=(0, ROW, 256 - COLUMN), kind=Kind.INJECTED)
    data = region_data([FAKE, other], RegionPlan(matched=2, clear_mm=20))
    drawn = [e for e in data.examples if e.extra]
    assert len(drawn) == 4 and {e.label for e in drawn} == {"TB"}
    for example in drawn:
        for entry in (FAKE, other):
            apart = (np.array(example.place_kji) - np.array(entry.place_kji)) * 0.9
            assert np.hypot(*apart[1:]) >= 20
    assert data.examples == region_data([FAKE, other], RegionPlan(matched=2, clear_mm=20)).examples or [
        e.place_kji for e in data.examples
    ] == [e.place_kji for e in region_data([FAKE, other], RegionPlan(matched=2, clear_mm=20)).examples]


def test_intact_scans_lend_places_when_asked() -> None:
    assert all(e.scan == "s" for e in region_data([FAKE, REAL], RegionPlan(clear_mm=20)).examples)
    data = region_data([FAKE, REAL], RegionPlan(clear_mm=20, intact=1))
    assert [e.label for e in data.examples if e.scan == "t"] == ["TB"]


def test_alterations_without_a_class_are_named() -> None:
    odd = replace(FAKE, path="/x/3.dcm", scan="u", kind=Kind.ALTERED)
    data = region_data([FAKE, odd], RegionPlan(clear_mm=20))
    assert [one.path for one in data.refused] == ["u"] and all(e.scan == "s" for e in data.examples)


def test_nothing_altered_is_an_error() -> None:
    with pytest.raises(UsageError, match="no altered place"):
        region_data([replace(REAL, place_kji=(0, 1, 1), category="TB")])


def test_images_come_one_by_one() -> None:
    data = region_data([FAKE, replace(FAKE, path="/x/5.dcm", scan="v", patient="r")], RegionPlan(clear_mm=20)).examples
    seen = [numbers for _, numbers in by_image(data)]
    assert sorted(n for numbers in seen for n in numbers) == list(range(len(data))) and len(seen) == 2
