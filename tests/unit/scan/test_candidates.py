"""Candidates: apart, ranked, in the right place; the verdict never says 'no sign' without an examination."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.synthetic_chest import synthetic_chest

from jachai.core.finding import Kind, Occluded, Verdict
from jachai.detectors.detector import Judged, Reference, TamperMap
from jachai.forensics import peaks
from jachai.forensics.repeats import Repeat
from jachai.scan import candidates, verdict

REFERENCE = Reference("volume", (0.1, 0.3, 0.9), True)


def tamper_map(evidence: np.ndarray, limits: tuple[str, ...] = ()) -> TamperMap:
    return TamperMap(evidence, 4, {"a": evidence}, {"a": evidence}, {"a": Kind.REMOVED}, REFERENCE, limits)


def bump(shape: tuple[int, int, int], place: tuple[int, int, int], height: float, width: float = 3.0) -> np.ndarray:
    grid = np.indices(shape)
    squared = sum((axis - x) ** 2 for axis, x in zip(grid, place, strict=True))
    return (height * np.exp(-squared / (2 * width**2))).astype(np.float32)


def test_two_bumps_are_two_candidates_in_order_with_box_and_millimetres() -> None:
    volume = synthetic_chest(9, side=128)
    evidence = bump((9, 32, 32), (4, 10, 8), 2.0) + bump((9, 32, 32), (4, 22, 24), 3.0) - 0.3
    first, second = candidates.find(volume, tamper_map(evidence))[:2]
    assert first.score > second.score > 0.5
    assert first.center_kji == pytest.approx((4, 22 * 4 + 1.5, 24 * 4 + 1.5), abs=1.5)
    assert first.center_mm == pytest.approx(tuple(volume.geometry.index_to_mm(first.center_kji)))
    for (low, high), middle in zip(first.box_kji, first.center_kji, strict=True):
        assert low <= middle < high
    assert 10 < first.diameter_mm < 50 and first.kind is Kind.REMOVED and first.cues[0].name == "a"


def test_a_place_in_a_repeat_names_the_other_place_and_one_elsewhere_names_none() -> None:
    volume = synthetic_chest(9, side=128)
    evidence = bump((9, 32, 32), (4, 10, 8), 2.0) + bump((9, 32, 32), (4, 22, 24), 3.0) - 0.3
    here = np.array([[4, 22 * 4, 24 * 4]])
    found = replace(tamper_map(evidence), repeats=(Repeat(here, here - [1, 60, 70], 9.0),))
    first, second = candidates.find(volume, found)[:2]
    assert first.same_as_kji == (3.0, 28.0, 26.0) and second.same_as_kji is None


def test_a_network_is_asked_what_it_goes_by_only_at_places_above_the_threshold() -> None:
    volume = synthetic_chest(9, side=128)
    evidence = bump((9, 32, 32), (4, 10, 8), 1.2) + bump((9, 32, 32), (4, 22, 24), 3.0) - 0.3
    asked = []

    def occluded(index: tuple[int, int, int]) -> tuple[Occluded, ...]:
        asked.append(index)
        return (Occluded("corner", 2.5),)

    first, second = candidates.find(volume, replace(tamper_map(evidence), occluded=occluded))[:2]
    assert asked == [(4, 22, 24)] and first.network == (Occluded("corner", 2.5),) and second.network == ()
    assert first.to_json()["network"] == [{"name": "corner", "fall": 2.5}]


def test_a_candidate_tells_what_the_second_look_says_of_the_surest_place_near_by() -> None:
    volume = synthetic_chest(9, side=128)
    evidence = bump((9, 32, 32), (4, 10, 8), 2.0) + bump((9, 32, 32), (4, 22, 24), 3.0) - 0.3
    middle = (4.0, 22 * 4 + 1.5, 24 * 4 + 1.5)
    near, nearer = (Judged((4.0, middle[1] + d, middle[2]), p, 0.5, "candidate", 1.0) for d, p in ((9, 0.8), (2, 0.3)))
    far = Judged((4.0, middle[1] - 30, middle[2]), 0.99, 0.5, "nodule", 1.0)
    first, second = candidates.find(volume, replace(tamper_map(evidence), judged=(near, nearer, far)))[:2]
    assert first.judged == 0.8 and second.judged is None


@given(st.integers(0, 10_000))
def test_candidates_are_ranked_apart_and_at_most_ten(seed: int) -> None:
    evidence = np.random.default_rng(seed).normal(size=(3, 40, 40)).astype(np.float32)
    evidence[:, :3] = -np.inf
    step = (2.0, 3.6, 3.6)
    found = peaks.peaks(evidence, step)
    assert 1 <= len(found) <= peaks.MOST
    assert found[0].evidence == evidence.max()
    assert [p.evidence for p in found] == sorted((p.evidence for p in found), reverse=True)
    for n, a in enumerate(found):
        for b in found[:n]:
            assert np.linalg.norm((np.array(a.index) - b.index) * step) >= peaks.APART_MM


def test_nothing_measured_gives_no_candidate() -> None:
    assert candidates.find(synthetic_chest(1, side=64), tamper_map(np.full((1, 16, 16), -np.inf, np.float32))) == ()


def test_score_is_half_at_the_threshold_and_a_tenth_at_the_intact_median() -> None:
    assert candidates.score_of(1.0) == pytest.approx(0.5) and candidates.score_of(0.0) == pytest.approx(0.1)
    assert candidates.score_of(-np.inf) == 0 and candidates.score_of(np.inf) == 1


def test_no_score_or_a_limit_is_inconclusive_never_no_sign() -> None:
    volume = synthetic_chest(1, side=64)
    assert verdict.decide(volume, None, REFERENCE, (), ())[0] is Verdict.INCONCLUSIVE
    assert verdict.decide(volume, 0.01, REFERENCE, (), ("Too small.",)) == (Verdict.INCONCLUSIVE, "Too small.")
    assert verdict.decide(volume, 0.01, REFERENCE, (), ())[0] is Verdict.NO_SIGN


def test_the_p_value_counts_patients_and_has_a_floor() -> None:
    assert REFERENCE.p_value(5.0) == pytest.approx(1 / 4) == REFERENCE.p_floor
    assert REFERENCE.p_value(0.3) == pytest.approx(3 / 4)
    assert REFERENCE.p_value(-1) == 1
    assert REFERENCE.false_alarm_upper == pytest.approx(1 - 0.05 ** (1 / 3))
