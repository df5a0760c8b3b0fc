"""A second look: what it adds, what it must leave alone, and what it says; the first stage and the judge are made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from tests.unit.synthetic_chest import LUNG_PLACE, synthetic_chest

from jachai.core.errors import ModelError
from jachai.core.finding import Kind, ModelIdentity, Nodule
from jachai.core.progress import Progress, silent
from jachai.core.volume import Modality, Volume
from jachai.detectors import second_stage
from jachai.detectors.detector import Reference, TamperMap
from jachai.detectors.region import Probabilities
from jachai.detectors.searching import Basis
from jachai.detectors.second_stage import CANDIDATE, NODULE, SecondStage
from jachai.scan import scanner

STRIDE = 4
BASES = {
    CANDIDATE: Basis(Reference("volume", (-0.5, 0.0, 0.8), True), 0.0, 2.0),
    NODULE: Basis(Reference("volume", (-3.0, 0.0, 0.5), True), -2.0, 2.0),
}
FIRST, JUDGE = ModelIdentity("first", "1", "a" * 64), ModelIdentity("judge", "1", "b" * 64)
CELL = tuple(c // STRIDE for c in LUNG_PLACE)


@dataclass(frozen=True)
class First:
    """Suspects one cell of the middle slice, this much."""

    evidence: float
    identity: ModelIdentity = FIRST

    def examine(self, volume: Volume, progress: Progress = silent) -> TamperMap:
        shape = (volume.shape[0], *(-(-n // STRIDE) for n in volume.shape[1:]))
        evidence = np.full(shape, -1.0, np.float32)
        evidence[(shape[0] // 2, *CELL)] = self.evidence
        reference = Reference("volume", (-0.2, 0.1, 0.9), True)
        return TamperMap(evidence, STRIDE, {}, {}, {}, reference, injected=np.full(shape, 0.5, np.float32))


@dataclass(frozen=True)
class Judge:
    """Says FM or FB with one probability of every place within 12 pixels of LUNG_PLACE, and 0.01 elsewhere."""

    altered: float
    column: int = 3
    asked: list[tuple[float, float, float]] = field(default_factory=list)
    identity: ModelIdentity = JUDGE

    def classify(self, volume: Volume, places: Sequence[tuple[float, float, float]]) -> Probabilities:
        self.asked.extend(places)
        out = np.zeros((len(places), 4), np.float32)
        for n, (_, j, i) in enumerate(places):
            near = np.hypot(j - LUNG_PLACE[0], i - LUNG_PLACE[1]) < 12
            out[n, self.column] = self.altered if near else 0.01
            out[n, 0] = 1 - out[n, self.column]
        return out


def engine(evidence: float, judge: Judge) -> SecondStage:
    return SecondStage("both", First(evidence), judge, BASES)


def at_place(found: TamperMap) -> float:
    return float(found.evidence[(len(found.evidence) // 2, *CELL)])


def test_what_the_first_stage_calls_altered_stays_so_whatever_the_judge_says() -> None:
    found = engine(1.5, Judge(0.01)).examine(synthetic_chest(20))
    assert at_place(found) == pytest.approx(1.5)


def test_a_candidate_is_as_strong_as_both_say_together() -> None:
    volume = synthetic_chest(20)
    sure, unsure, harmless = (at_place(engine(0.8, Judge(p)).examine(volume)) for p in (0.999, 0.5, 0.01))
    strength = 0.8 + np.log(0.999 / 0.001) / second_stage.LOGITS
    assert sure == pytest.approx(strength / 2, abs=1e-3) and sure > 1
    assert unsure == harmless == pytest.approx(0.8), "the judge can add to the evidence, not take from it"


def test_the_kind_is_the_judges_where_it_has_the_say() -> None:
    volume = synthetic_chest(20)
    for column, kind in ((2, Kind.REMOVED), (3, Kind.INJECTED)):
        result = scanner.examine(volume, engine(0.8, Judge(0.999, column))).result
        assert result.findings[0].kind is kind
        assert result.findings[0].judged == pytest.approx(0.999, abs=1e-3)


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A nodule is listed in the middle slice; how often it was asked for."""
    asked: list[int] = []

    def examined(volume: Volume, model: Judge, progress: Progress) -> tuple[Nodule, ...]:
        asked.append(1)
        place = (volume.shape[0] // 2, *map(float, LUNG_PLACE))
        return (Nodule(place, None, 8.0, 0.9, float(model.classify(volume, [place])[0, 2:].sum()), None),)

    for module in (second_stage, scanner.nodules):
        monkeypatch.setattr(module, "examined_nodules", examined)
    return asked


def test_a_nodule_that_the_first_stage_did_not_notice_is_judged(listed: list[int]) -> None:
    volume = synthetic_chest(20)
    result = scanner.examine(volume, engine(-0.9, Judge(0.99))).result
    [first, *_] = result.findings
    assert first.kind is Kind.INJECTED and np.hypot(*np.subtract(first.center_kji[1:], LUNG_PLACE)) < 12
    assert result.nodules is not None and result.nodules[0].altered == pytest.approx(0.99)
    assert len(listed) == 1, "nodules are looked for once"
    own = replace(engine(-0.9, Judge(0.99)), lists=False)
    assert own.examine(volume).nodules is None and own.examine(volume).judged, "the user's own judge lists them"
    calm = scanner.examine(volume, engine(-0.9, Judge(0.3))).result
    assert not calm.findings and calm.nodules


def test_single_slices_and_mr_are_left_to_the_first_stage() -> None:
    judge = Judge(0.999)
    for volume in (synthetic_chest(1), replace(synthetic_chest(20), modality=Modality.MR)):
        found = engine(0.8, judge).examine(volume)
        assert at_place(found) == pytest.approx(0.8) and found.judged == () and found.nodules is None
    assert judge.asked == []


def test_intact_patients_of_every_voice_count_against_a_scan() -> None:
    found = engine(0.8, Judge(0.5)).examine(synthetic_chest(20))
    assert found.reference.scores == (0.5, 0.8, 0.9), "the three strongest of nine, over three patients"


def test_injected_is_the_share_of_what_speaks_for_altered() -> None:
    said = second_stage.injected_of(np.array([[0.3, 0.3, 0.1, 0.3], [0.9, 0.1, 0.0, 0.0]], np.float32))
    assert said == pytest.approx([0.75, 0.5], abs=1e-3)


def test_the_digest_is_over_both() -> None:
    one, two = engine(0.8, Judge(0.5)), engine(0.8, replace(Judge(0.5), identity=ModelIdentity("judge", "1", "c" * 64)))
    assert one.identity.name == "both" and one.identity.sha256 != two.identity.sha256


def test_a_missing_or_damaged_calibration_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(second_stage.shipped_bases()) == {CANDIDATE, NODULE}
    monkeypatch.setattr(second_stage, "CALIBRATION_FILE", "nowhere.json")
    with pytest.raises(ModelError, match="second look"):
        second_stage.shipped_bases()
